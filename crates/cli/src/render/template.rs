//! Go templates as docker's `--format` takes them, over JSON values: the part that scripts use.
//!
//! Fields, variables, `index`, `json`, `join`, `range`, `if`, `with`, comparisons, `printf`. What
//! else Go has (nested templates, `break`) is refused by name.
//!
//! Scripts write the names of Go's fields (`.Manifest.MediaType`), where documents have those of
//! JSON (`mediaType`, `diff_ids`): a name that is not there is looked for without its case and
//! underscores.

use serde_json::Value;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    nodes: Vec<Node>,
    /// Whether `json` writes lines.
    is_indented: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Expression),
    /// `{{$x := …}}`; for `=` the variable has to be there.
    Assign(String, Expression, bool),
    If(Condition, Vec<Node>, Vec<Node>),
    With(Condition, Vec<Node>, Vec<Node>),
    Range(Condition, Vec<Node>, Vec<Node>),
}

/// What a block depends on, with the variables that it declares (`range $key, $value := .Map`).
#[derive(Clone, Debug, PartialEq)]
struct Condition {
    variables: Vec<String>,
    expression: Expression,
}

#[derive(Clone, Debug, PartialEq)]
enum Root {
    /// The value at hand.
    Here,
    /// `$`, the whole.
    Top,
    /// `$x`.
    Variable(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    /// `.A.B`.
    Path {
        root: Root,
        fields: Vec<String>,
    },
    /// `(…).A`.
    Field(Box<Expression>, Vec<String>),
    Literal(Value),
    Call(String, Vec<Expression>),
}

/// Nested deeper, a template is a mistake.
const DEEPEST: usize = 32;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence that names what is wrong or not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { pieces: pieces(text)?, at: 0 };
        let (nodes, end) = parser.nodes(0)?;
        match end {
            None => Ok(Self { nodes, is_indented: false }),
            Some(word) => Err(format!("`{{{{{word}}}}}` has no beginning")),
        }
    }

    /// The same, with a `json` that writes lines, as buildx has it.
    pub fn indented(self) -> Self {
        Self { is_indented: true, ..self }
    }

    /// The text for a value.
    ///
    /// # Errors
    /// A sentence that names the field that is not there.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        let mut out = String::new();
        let variables = Vec::new();
        let mut scope = Scope { top: value, variables, is_indented: self.is_indented };
        write(&self.nodes, value, &mut scope, &mut out)?;
        Ok(out)
    }
}

/// What names stand for: the whole, and the variables, the innermost last.
struct Scope<'v> {
    top: &'v Value,
    variables: Vec<(String, Value)>,
    is_indented: bool,
}

impl Scope<'_> {
    fn variable(&self, name: &str) -> Result<&Value, String> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| format!("there is no variable `${name}`"))
    }

    /// Runs a block whose variables end with it.
    fn block(
        &mut self,
        variables: Vec<(String, Value)>,
        nodes: &[Node],
        value: &Value,
        out: &mut String,
    ) -> Result<(), String> {
        let before = self.variables.len();
        self.variables.extend(variables);
        let result = write(nodes, value, self, out);
        self.variables.truncate(before);
        result
    }
}

enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    // Docker's command line turns these two into what they mean.
    let plain = |text: &str| Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n"));
    let mut rest = text;
    let mut trims = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, next) =
            after.split_once("}}").ok_or_else(|| format!("`{{{{{after}` has no `}}}}`"))?;
        let mut before = if trims { before.trim_start() } else { before };
        let mut action = action;
        if let Some(inner) = action.strip_prefix("- ") {
            (before, action) = (before.trim_end(), inner);
        }
        trims = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        pieces.push(plain(before));
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.into()));
        }
        rest = next;
    }
    pieces.push(plain(if trims { rest.trim_start() } else { rest }));
    Ok(pieces)
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

impl Parser {
    /// Nodes up to `else` or `end`, and which it was.
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Option<String>), String> {
        if depth > DEEPEST {
            return Err("it is nested too deep".into());
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at) {
            self.at += 1;
            let action = match piece {
                Piece::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text.clone()));
                    }
                    continue;
                }
                Piece::Action(action) => action.clone(),
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
            match word {
                "end" | "else" => return Ok((nodes, Some(action))),
                "if" | "with" | "range" => nodes.push(self.block(word, rest, depth)?),
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("`{{{{{word}}}}}` is not there yet"));
                }
                _ => nodes.push(match declaration(&action) {
                    Some((names, value, declares)) if names.len() == 1 => {
                        Node::Assign(names.concat(), expression(value)?, declares)
                    }
                    Some(_) => return Err(format!("`{action}`: only `range` has two variables")),
                    None => Node::Print(expression(&action)?),
                }),
            }
        }
        Ok((nodes, None))
    }

    /// A block up to its `end`; `word` is what it begins with, and `text` what follows.
    fn block(&mut self, word: &str, text: &str, depth: usize) -> Result<Node, String> {
        let condition = condition(text)?;
        let (body, end) = self.nodes(depth + 1)?;
        let end = end.ok_or_else(|| format!("`{{{{{word} {text}}}}}` has no `{{{{end}}}}`"))?;
        let other = match end.split_once(char::is_whitespace) {
            Some(("else", next)) => match next.trim().split_once(char::is_whitespace) {
                // What is behind `else` shares the `end`.
                Some((inner @ ("if" | "with"), rest)) => {
                    vec![self.block(inner, rest, depth + 1)?]
                }
                _ => return Err(format!("`{{{{{end}}}}}` is not there yet")),
            },
            _ if end == "else" => match self.nodes(depth + 1)? {
                (other, Some(end)) if end == "end" => other,
                (_, Some(end)) => return Err(format!("`{{{{{end}}}}}` comes behind `else`")),
                (_, None) => return Err(format!("`{{{{{word} {text}}}}}` has no `{{{{end}}}}`")),
            },
            _ => Vec::new(),
        };
        Ok(match word {
            "if" => Node::If(condition, body, other),
            "with" => Node::With(condition, body, other),
            _ => Node::Range(condition, body, other),
        })
    }
}

/// `$a := …`, `$a, $b := …` or `$a = …`: the names, the rest, and whether it declares them.
fn declaration(text: &str) -> Option<(Vec<String>, &str, bool)> {
    let (left, right) = text.split_once('=')?;
    let (left, declares) = left.strip_suffix(':').map_or((left, false), |left| (left, true));
    let names: Option<Vec<String>> = left
        .split(',')
        .map(|name| {
            let name = name.trim().strip_prefix('$')?;
            let is_word = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            (is_word && !name.is_empty()).then(|| name.to_owned())
        })
        .collect();
    Some((names?, right, declares))
}

fn condition(text: &str) -> Result<Condition, String> {
    let (variables, text) = match declaration(text) {
        Some((names, rest, true)) => (names, rest),
        _ => (Vec::new(), text),
    };
    Ok(Condition { variables, expression: expression(text)? })
}

/// A pipeline: what comes before `|` is the last argument of what comes behind it.
fn expression(text: &str) -> Result<Expression, String> {
    let mut tokens = tokens(text)?;
    tokens.reverse();
    let found = pipeline(&mut tokens, 0)?;
    match tokens.pop() {
        None => Ok(found),
        Some(token) => Err(format!("`{text}`: `{token}` is not expected")),
    }
}

fn pipeline(tokens: &mut Vec<String>, depth: usize) -> Result<Expression, String> {
    if depth > DEEPEST {
        return Err("it is nested too deep".into());
    }
    let mut result: Option<Expression> = None;
    loop {
        let mut operands = Vec::new();
        while let Some(token) = tokens.last() {
            if token == "|" || token == ")" {
                break;
            }
            let token = tokens.pop().unwrap_or_default();
            let operand = operand(&token, tokens, depth)?;
            match operand {
                // A field right behind a bracket belongs to it.
                Expression::Path { root: Root::Here, fields }
                    if token.starts_with('.') && operands.last().is_some_and(is_bracket) =>
                {
                    let inner = operands.pop().map(|(inner, _)| inner);
                    let inner = inner.unwrap_or(Expression::Literal(Value::Null));
                    operands.push((Expression::Field(Box::new(inner), fields), false));
                }
                operand => operands.push((operand, token == "(")),
            }
        }
        let mut operands = operands.into_iter().map(|(operand, _)| operand);
        let first = operands.next().ok_or("it is empty")?;
        let mut rest: Vec<Expression> = operands.collect();
        rest.extend(result.take());
        let made = match first {
            Expression::Call(name, mut arguments) if arguments.is_empty() => {
                arguments.extend(rest);
                Expression::Call(name, arguments)
            }
            only if rest.is_empty() => only,
            _ => return Err("a value is followed by another; a function's name comes first".into()),
        };
        if tokens.last().is_some_and(|token| token == "|") {
            tokens.pop();
            result = Some(made);
            continue;
        }
        return Ok(made);
    }
}

fn is_bracket((_, is_bracket): &(Expression, bool)) -> bool {
    *is_bracket
}

fn operand(token: &str, tokens: &mut Vec<String>, depth: usize) -> Result<Expression, String> {
    let fields = |text: &str| {
        text.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    match token.chars().next().unwrap_or(' ') {
        '(' => {
            let inner = pipeline(tokens, depth + 1)?;
            match tokens.pop().as_deref() {
                Some(")") => Ok(inner),
                _ => Err("a bracket is not closed".into()),
            }
        }
        '.' => Ok(Expression::Path { root: Root::Here, fields: fields(token) }),
        '$' => {
            let (name, path) = token[1..].split_at(token.find('.').unwrap_or(token.len()) - 1);
            let root = if name.is_empty() { Root::Top } else { Root::Variable(name.into()) };
            Ok(Expression::Path { root, fields: fields(path) })
        }
        '"' => serde_json::from_str(token)
            .map(Expression::Literal)
            .map_err(|_| format!("{token} is not a text")),
        '`' => Ok(Expression::Literal(token.trim_matches('`').into())),
        '0'..='9' | '-' => token
            .parse::<i64>()
            .map(|number| Expression::Literal(number.into()))
            .map_err(|_| format!("`{token}` is not a number")),
        _ => match token {
            "true" => Ok(Expression::Literal(true.into())),
            "false" => Ok(Expression::Literal(false.into())),
            "nil" => Ok(Expression::Literal(Value::Null)),
            name => Ok(Expression::Call(name.into(), Vec::new())),
        },
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | '|' => 1,
            '"' => quoted(rest).ok_or_else(|| format!("{rest} has no end"))?,
            '`' => rest[1..]
                .find('`')
                .map(|end| end + 2)
                .ok_or_else(|| format!("{rest} has no end"))?,
            _ => {
                rest.find(|c: char| c.is_whitespace() || "()|\"`".contains(c)).unwrap_or(rest.len())
            }
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn write(
    nodes: &[Node],
    value: &Value,
    scope: &mut Scope<'_>,
    out: &mut String,
) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(expression) => out.push_str(&shown(&evaluate(expression, value, scope)?)),
            Node::Assign(name, expression, declares) => {
                let found = evaluate(expression, value, scope)?;
                if *declares {
                    scope.variables.push((name.clone(), found));
                    continue;
                }
                scope.variable(name)?;
                let known = scope.variables.iter_mut().rev().find(|(known, _)| known == name);
                if let Some((_, old)) = known {
                    *old = found;
                }
            }
            Node::If(condition, body, other) => {
                let found = evaluate(&condition.expression, value, scope)?;
                let nodes = if truth(&found) { body } else { other };
                scope.block(condition.bound([found]), nodes, value, out)?;
            }
            Node::With(condition, body, other) => {
                let found = evaluate(&condition.expression, value, scope)?;
                let bound = condition.bound([found.clone()]);
                match truth(&found) {
                    true => scope.block(bound, body, &found, out)?,
                    false => scope.block(bound, other, value, out)?,
                }
            }
            Node::Range(condition, body, other) => {
                let items = entries(evaluate(&condition.expression, value, scope)?)?;
                if items.is_empty() {
                    scope.block(Vec::new(), other, value, out)?;
                }
                for (key, item) in items {
                    // One variable is the value, two are the key and the value.
                    let bound = match condition.variables.len() {
                        2 => condition.bound([key, item.clone()]),
                        _ => condition.bound([item.clone()]),
                    };
                    scope.block(bound, body, &item, out)?;
                }
            }
        }
    }
    Ok(())
}

impl Condition {
    fn bound<const N: usize>(&self, values: [Value; N]) -> Vec<(String, Value)> {
        self.variables.iter().cloned().zip(values).collect()
    }
}

/// What `range` goes over: items by their number, or by their keys in order.
fn entries(value: Value) -> Result<Vec<(Value, Value)>, String> {
    Ok(match value {
        Value::Array(items) => {
            items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()
        }
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            entries.into_iter().map(|(key, item)| (key.into(), item)).collect()
        }
        Value::Null => Vec::new(),
        other => return Err(format!("`range` over `{}`, which is no list", shown(&other))),
    })
}

fn evaluate(expression: &Expression, value: &Value, scope: &Scope<'_>) -> Result<Value, String> {
    match expression {
        Expression::Literal(value) => Ok(value.clone()),
        Expression::Path { root, fields } => {
            let from = match root {
                Root::Here => value,
                Root::Top => scope.top,
                Root::Variable(name) => scope.variable(name)?,
            };
            follow(from, fields)
        }
        Expression::Field(inner, fields) => follow(&evaluate(inner, value, scope)?, fields),
        Expression::Call(name, arguments) => {
            let arguments: Vec<Value> = arguments
                .iter()
                .map(|argument| evaluate(argument, value, scope))
                .collect::<Result<_, _>>()?;
            match (name.as_str(), arguments.as_slice()) {
                ("json", [only]) if scope.is_indented => {
                    Ok(serde_json::to_string_pretty(only).unwrap_or_default().into())
                }
                _ => call(name, &arguments),
            }
        }
    }
}

fn follow(value: &Value, fields: &[String]) -> Result<Value, String> {
    let mut value = value;
    for (at, field) in fields.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| fields[before].as_str());
        value = match value {
            // A key that a map of anything does not have is no mistake.
            Value::Object(map) if matches!(before, Some("Labels" | "Annotations")) => {
                map.get(field).unwrap_or(&Value::Null)
            }
            Value::Object(map) => match map.get(field).or_else(|| by_go_name(map, field)) {
                Some(value) => value,
                None => {
                    let known: Vec<&str> = map.keys().map(String::as_str).collect();
                    return Err(format!("there is no `.{field}`; there are {}", known.join(", ")));
                }
            },
            Value::Null => return Ok(Value::Null),
            _ => return Err(format!("`.{field}`: what is before it has no fields")),
        };
    }
    Ok(value.clone())
}

/// What Go calls `DiffIDs` is `diff_ids` in JSON.
fn by_go_name<'m>(map: &'m serde_json::Map<String, Value>, field: &str) -> Option<&'m Value> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let field = plain(field);
    map.iter().find(|(name, _)| plain(name) == field).map(|(_, value)| value)
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |index: usize| arguments.get(index).map(shown).unwrap_or_default();
    let both = |compare: fn(std::cmp::Ordering) -> bool| {
        let order = match (
            arguments.first().and_then(Value::as_f64),
            arguments.get(1).and_then(Value::as_f64),
        ) {
            (Some(one), Some(other)) => one.partial_cmp(&other).unwrap_or(std::cmp::Ordering::Less),
            _ => text(0).cmp(&text(1)),
        };
        Value::Bool(compare(order))
    };
    Ok(match name {
        "json" => serde_json::to_string(arguments.first().unwrap_or(&Value::Null))
            .unwrap_or_default()
            .into(),
        "index" => {
            let mut value = arguments.first().cloned().unwrap_or(Value::Null);
            for key in &arguments[1.min(arguments.len())..] {
                value = item(&value, key)?;
            }
            value
        }
        "len" => match arguments.first() {
            Some(Value::Array(items)) => items.len().into(),
            Some(Value::Object(map)) => map.len().into(),
            _ => text(0).len().into(),
        },
        "join" => match arguments.first() {
            Some(Value::Array(items)) => {
                items.iter().map(shown).collect::<Vec<_>>().join(&text(1)).into()
            }
            _ => return Err("`join` needs a list and a text".into()),
        },
        "split" => text(0).split(&text(1)).collect::<Vec<_>>().into(),
        "lower" => text(0).to_lowercase().into(),
        "upper" => text(0).to_uppercase().into(),
        "title" => {
            let text = text(0);
            let mut letters = text.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            (first + letters.as_str()).into()
        }
        "print" => arguments.iter().map(shown).collect::<String>().into(),
        "println" => (arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        "printf" => printf(&text(0), &arguments[1.min(arguments.len())..])?.into(),
        "truncate" => {
            let length = arguments.get(1).and_then(Value::as_u64).unwrap_or(0);
            text(0).chars().take(usize::try_from(length).unwrap_or(0)).collect::<String>().into()
        }
        "pad" => {
            let count = |index: usize| {
                let count = arguments.get(index).and_then(Value::as_u64).unwrap_or(0);
                " ".repeat(usize::try_from(count.min(1024)).unwrap_or(0))
            };
            match text(0) {
                empty if empty.is_empty() => empty.into(),
                text => [count(1), text, count(2)].concat().into(),
            }
        }
        "not" => Value::Bool(!arguments.first().is_some_and(truth)),
        "and" => arguments
            .iter()
            .find(|value| !truth(value))
            .or(arguments.last())
            .cloned()
            .unwrap_or(Value::Null),
        "or" => arguments
            .iter()
            .find(|value| truth(value))
            .or(arguments.last())
            .cloned()
            .unwrap_or(Value::Null),
        "eq" => both(std::cmp::Ordering::is_eq),
        "ne" => both(std::cmp::Ordering::is_ne),
        "lt" => both(std::cmp::Ordering::is_lt),
        "le" => both(std::cmp::Ordering::is_le),
        "gt" => both(std::cmp::Ordering::is_gt),
        "ge" => both(std::cmp::Ordering::is_ge),
        _ => return Err(format!("there is no function `{name}` in templates here")),
    })
}

fn item(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Array(items), Value::Number(number)) => {
            let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| items.get(index)).cloned().ok_or_else(|| {
                format!("`index`: there is no item {number} in a list of {}", items.len())
            })
        }
        (Value::Object(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or_else(|| Value::String(String::new())))
        }
        (Value::Null, _) => Err("`index` of nothing".into()),
        _ => Err("`index` needs a list and a number, or a map and a text".into()),
    }
}

fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && !"-.".contains(c));
        let (layout, verb) = after.split_at(end.unwrap_or(after.len()));
        let mut letters = verb.chars();
        let text = match letters.next() {
            Some('%') => "%".to_owned(),
            Some('s' | 'v' | 'd' | 't') => arguments.next().map(shown).unwrap_or_default(),
            Some('q') => Value::String(arguments.next().map(shown).unwrap_or_default()).to_string(),
            other => {
                let verb = other.map(String::from).unwrap_or_default();
                return Err(format!("`printf`: `%{verb}` is not there; %s, %v, %d, %t and %q are"));
            }
        };
        out.push_str(&laid_out(&text, layout)?);
        rest = letters.as_str();
    }
    Ok(out + rest)
}

/// A text by what stands between `%` and the letter: `-20`, `8`, `.12`.
fn laid_out(text: &str, layout: &str) -> Result<String, String> {
    let wrong = || format!("`printf`: `%{layout}` is not there");
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse::<u16>().map(|number| Some(usize::from(number))).map_err(|_| wrong()),
    };
    let (left, layout) = layout.strip_prefix('-').map_or((false, layout), |rest| (true, rest));
    let (width, precision) = layout.split_once('.').unwrap_or((layout, ""));
    let cut: String = text.chars().take(number(precision)?.unwrap_or(usize::MAX)).collect();
    let width = number(width)?.unwrap_or(0);
    Ok(if left { format!("{cut:<width$}") } else { format!("{cut:>width$}") })
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let mut pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let value = json!({
            "Id": "sha256:aa", "RepoTags": ["a:1", "b:2"], "Empty": [], "Size": 12,
            "Config": {"Env": ["A=1"], "Labels": {"org.x/y": "z"}, "User": ""},
        });
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn what_scripts_use() {
        for (template, expected) in [
            ("{{.Id}}", "sha256:aa"),
            ("{{ .Id }}\\t{{.Size}}", "sha256:aa\t12"),
            ("{{index .RepoTags 1}}", "b:2"),
            ("{{json .Config.Env}}", "[\"A=1\"]"),
            ("{{.Config.Env | json}}", "[\"A=1\"]"),
            ("{{range .RepoTags}}{{.}},{{end}}", "a:1,b:2,"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .Config.User}}u{{else}}root{{end}}", "root"),
            ("{{with .Config}}{{index .Labels \"org.x/y\"}}{{end}}", "z"),
            ("{{join .RepoTags \" \"}}", "a:1 b:2"),
            ("{{index (index .RepoTags 0 | split \":\") 0}}", ":"),
            ("{{(index .RepoTags 0)}}", "a:1"),
            ("{{if eq .Size 12}}{{printf \"%s-%d\" .Id .Size}}{{end}}", "sha256:aa-12"),
            ("{{.RepoTags}}", "[a:1 b:2]"),
            ("a {{- .Size -}} b", "a12b"),
            ("{{$.Id}}{{len .RepoTags}}", "sha256:aa2"),
            ("{{(index .RepoTags 0) | upper}}", "A:1"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "org.x/y=z "),
            ("{{range $i,$tag:=.RepoTags}}{{if $i}}, {{end}}{{$tag}}{{end}}", "a:1, b:2"),
            ("{{range $tag := .RepoTags}}{{$tag}}{{$.Size}} {{end}}", "a:112 b:212 "),
            (
                "{{$size := .Size}}{{with .Config}}{{$size}}{{$size = .User}}{{end}}[{{$size}}]",
                "12[]",
            ),
            ("{{with $c := .Config}}{{len $c.Env}}{{end}}", "1"),
            ("{{if .Config.User}}u{{else if eq .Size 12}}twelve{{else}}-{{end}}", "twelve"),
            ("{{range .RepoTags}}{{.}}{{\"\\n\"}}{{end}}", "a:1\nb:2\n"),
            ("{{.Config.Labels.nope}}{{if .Config.Labels.nope}}x{{end}}", "<no value>"),
            ("{{.ID}} {{.config.labels}}", "sha256:aa map[org.x/y:z]"),
            ("{{printf \"%-5s|%5s|%.4s\" \"a\" \"b\" .Id}}", "a    |    b|sha2"),
            ("{{pad \"a\" 1 2}}|", " a  |"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (template, word) in [
            ("{{.Nope}}", "there is no `.Nope`; there are Id"),
            ("{{.Id", "has no `}}`"),
            ("{{range .RepoTags}}", "has no `{{end}}`"),
            ("{{end}}", "has no beginning"),
            ("{{index .RepoTags 7}}", "no item 7"),
            ("{{frob .Id}}", "no function `frob`"),
            ("{{$x}}", "no variable `$x`"),
            ("{{with $x := .Id}}{{end}}{{$x}}", "no variable `$x`"),
            ("{{$x, $y := .Config}}", "only `range`"),
            ("{{if .Id}}a{{else}}b{{else}}c{{end}}", "behind `else`"),
            ("{{template \"x\"}}", "not there yet"),
            ("{{(.Id}}", "not closed"),
        ] {
            let error = render(template).unwrap_err();
            assert!(error.contains(word), "{template}: {error}");
        }
    }
}
