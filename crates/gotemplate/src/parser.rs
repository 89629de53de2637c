//! From pieces and tokens to a tree.

use serde_json::Value;

use crate::lexer::{Piece, Token, pieces, tokens};
use crate::{MAX_DEPTH, TemplateError};

/// A node of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateNode {
    Text(String),
    Print(Expression),
    /// `{{$x := …}}`.
    Declare(String, Expression),
    /// `{{$x = …}}`.
    Assign(String, Expression),
    Block(TemplateBlock),
}

/// A block with its `else`.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateBlock {
    pub kind: BlockKind,
    /// Variables that the block declares: `range $key, $value := .Map`.
    pub variables: Vec<String>,
    pub condition: Expression,
    pub body: Vec<TemplateNode>,
    pub otherwise: Vec<TemplateNode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    If,
    With,
    Range,
}

/// The value that a path begins at.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpressionRoot {
    /// `.`, the current value.
    Dot,
    /// `$`, the whole value.
    Top,
    /// `$x`.
    Variable(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// `.A.B`.
    Path {
        root: ExpressionRoot,
        fields: Vec<String>,
    },
    /// `(…).A`.
    Field(Box<Expression>, Vec<String>),
    Literal(Value),
    Call(String, Vec<Expression>),
}

/// Parses a whole template.
pub fn parse(text: &str) -> Result<Vec<TemplateNode>, TemplateError> {
    let mut parser = Parser { pieces: pieces(text)?.into_iter() };
    match parser.nodes(0)? {
        (nodes, None) => Ok(nodes),
        (_, Some(action)) => Err(TemplateError::NoBlock(action)),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
}

impl Parser {
    /// The nodes up to `else` or `end`, and the action that ends them.
    fn nodes(
        &mut self,
        depth: usize,
    ) -> Result<(Vec<TemplateNode>, Option<String>), TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::TooDeep);
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) if text.is_empty() => continue,
                Piece::Text(text) => {
                    nodes.push(TemplateNode::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
            nodes.push(match word {
                "end" | "else" => return Ok((nodes, Some(action))),
                "if" => self.block(BlockKind::If, &action, rest, depth)?,
                "with" => self.block(BlockKind::With, &action, rest, depth)?,
                "range" => self.block(BlockKind::Range, &action, rest, depth)?,
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(TemplateError::Unsupported(word.into()));
                }
                _ => simple(&action)?,
            });
        }
        Ok((nodes, None))
    }

    /// A block up to its `end`.
    fn block(
        &mut self,
        kind: BlockKind,
        action: &str,
        header: &str,
        depth: usize,
    ) -> Result<TemplateNode, TemplateError> {
        let (variables, condition) = match declaration(header) {
            Some(Declaration { names, value, declares: true }) => (names, expression(value)?),
            _ => (Vec::new(), expression(header)?),
        };
        let unclosed = || TemplateError::UnclosedBlock(action.to_owned());
        let (body, end) = self.nodes(depth + 1)?;
        let end = end.ok_or_else(unclosed)?;
        let otherwise = match end.split_once(char::is_whitespace) {
            Some(("else", next)) => vec![self.else_block(&end, next.trim(), depth)?],
            _ if end == "else" => match self.nodes(depth + 1)? {
                (otherwise, Some(end)) if end == "end" => otherwise,
                (_, Some(end)) => return Err(TemplateError::AfterElse(end)),
                (_, None) => return Err(unclosed()),
            },
            _ => Vec::new(),
        };
        Ok(TemplateNode::Block(TemplateBlock { kind, variables, condition, body, otherwise }))
    }

    /// `else if` and `else with`: a block that shares the outer one's `end`.
    fn else_block(
        &mut self,
        end: &str,
        next: &str,
        depth: usize,
    ) -> Result<TemplateNode, TemplateError> {
        match next.split_once(char::is_whitespace) {
            Some(("if", rest)) => self.block(BlockKind::If, next, rest, depth + 1),
            Some(("with", rest)) => self.block(BlockKind::With, next, rest, depth + 1),
            _ => Err(TemplateError::Unsupported(end.into())),
        }
    }
}

/// An action that is not a block.
fn simple(action: &str) -> Result<TemplateNode, TemplateError> {
    match declaration(action) {
        Some(Declaration { names, value, declares }) => {
            let [name] = <[String; 1]>::try_from(names)
                .map_err(|_| TemplateError::TwoVariables(action.into()))?;
            let value = expression(value)?;
            Ok(if declares {
                TemplateNode::Declare(name, value)
            } else {
                TemplateNode::Assign(name, value)
            })
        }
        None => expression(action).map(TemplateNode::Print),
    }
}

/// `$a := …`, `$a, $b := …` or `$a = …`.
struct Declaration<'t> {
    names: Vec<String>,
    value: &'t str,
    /// `:=`, not `=`.
    declares: bool,
}

fn declaration(text: &str) -> Option<Declaration<'_>> {
    let (left, value) = text.split_once('=')?;
    let (left, declares) = left.strip_suffix(':').map_or((left, false), |left| (left, true));
    let variable = |name: &str| {
        let name = name.trim().strip_prefix('$')?;
        let is_word = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        (is_word && !name.is_empty()).then(|| name.to_owned())
    };
    let names = left.split(',').map(variable).collect::<Option<_>>()?;
    Some(Declaration { names, value, declares })
}

fn expression(text: &str) -> Result<Expression, TemplateError> {
    let mut tokens = Tokens { rest: tokens(text)?.into_iter().peekable() };
    let found = tokens.pipeline(0)?;
    // A pipeline ends at a closing bracket or at the end.
    match tokens.rest.next() {
        None => Ok(found),
        Some(_) => Err(TemplateError::UnexpectedBracket(text.into())),
    }
}

struct Tokens {
    rest: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

/// An argument of a stage; a field directly behind a bracket belongs to it.
struct Operand {
    expression: Expression,
    is_bracket: bool,
}

impl Tokens {
    /// Stages between `|`, each the last argument of the next.
    fn pipeline(&mut self, depth: usize) -> Result<Expression, TemplateError> {
        let mut result = self.stage(depth, None)?;
        // Each stage encloses those before it, so it counts as nesting.
        let mut stages = depth;
        while self.rest.next_if_eq(&Token::Pipe).is_some() {
            stages += 1;
            if stages > MAX_DEPTH {
                return Err(TemplateError::TooDeep);
            }
            result = self.stage(depth, Some(result))?;
        }
        Ok(result)
    }

    /// A function with its arguments, or one value.
    fn stage(
        &mut self,
        depth: usize,
        piped: Option<Expression>,
    ) -> Result<Expression, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::TooDeep);
        }
        let mut operands: Vec<Operand> = Vec::new();
        while let Some(token) =
            self.rest.next_if(|token| !matches!(token, Token::Pipe | Token::Close))
        {
            if let Token::Field(fields) = &token
                && let Some(bracket) = operands.pop_if(|last| last.is_bracket)
            {
                let expression = Expression::Field(Box::new(bracket.expression), fields.clone());
                operands.push(Operand { expression, is_bracket: false });
                continue;
            }
            let is_bracket = token == Token::Open;
            operands.push(Operand { expression: self.operand(token, depth)?, is_bracket });
        }
        let mut operands = operands.into_iter().map(|operand| operand.expression);
        let first = operands.next().ok_or(TemplateError::Empty)?;
        let arguments: Vec<Expression> = operands.chain(piped).collect();
        match first {
            Expression::Call(name, own) if own.is_empty() => Ok(Expression::Call(name, arguments)),
            only if arguments.is_empty() => Ok(only),
            _ => Err(TemplateError::NotAFunction),
        }
    }

    fn operand(&mut self, token: Token, depth: usize) -> Result<Expression, TemplateError> {
        Ok(match token {
            Token::Open => {
                let inner = self.pipeline(depth + 1)?;
                self.rest.next_if_eq(&Token::Close).ok_or(TemplateError::UnclosedBracket)?;
                inner
            }
            // The caller stops at these two.
            Token::Close | Token::Pipe => return Err(TemplateError::Empty),
            Token::Literal(value) => Expression::Literal(value),
            Token::Field(fields) => Expression::Path { root: ExpressionRoot::Dot, fields },
            Token::Variable(name, fields) => {
                let root = if name.is_empty() {
                    ExpressionRoot::Top
                } else {
                    ExpressionRoot::Variable(name)
                };
                Expression::Path { root, fields }
            }
            Token::Word(name) => Expression::Call(name, Vec::new()),
        })
    }
}
