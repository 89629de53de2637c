//! From a tree and a value to text.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::{Map, Value};

use crate::TemplateError;
use crate::functions::{call, is_true, shown};
use crate::parser::{BlockKind, Expression, ExpressionRoot, TemplateBlock, TemplateNode};

/// The most work of one rendering, in units of [`weight`].
const MAX_WORK: usize = 4_000_000;
/// The largest output, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// One rendering.
pub struct Evaluator<'v> {
    top: &'v Value,
    /// Variables in scope, the innermost last.
    variables: Vec<(String, Value)>,
    is_indented: bool,
    work: Cell<usize>,
    out: String,
}

impl<'v> Evaluator<'v> {
    pub fn new(top: &'v Value, is_indented: bool) -> Self {
        let (variables, out) = (Vec::new(), String::new());
        Self { top, variables, is_indented, work: Cell::new(0), out }
    }

    pub fn render(mut self, nodes: &[TemplateNode]) -> Result<String, TemplateError> {
        self.nodes(nodes, self.top)?;
        Ok(self.out)
    }

    fn nodes(&mut self, nodes: &[TemplateNode], dot: &Value) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                TemplateNode::Text(text) => self.push(text)?,
                TemplateNode::Print(expression) => {
                    let text = shown(self.evaluate(expression, dot)?.as_ref());
                    self.push(&text)?;
                }
                TemplateNode::Declare(name, expression) => {
                    let value = self.evaluate(expression, dot)?.into_owned();
                    self.variables.push((name.clone(), value));
                }
                TemplateNode::Assign(name, expression) => {
                    let value = self.evaluate(expression, dot)?.into_owned();
                    let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                    let no_variable = || TemplateError::NoVariable(name.clone());
                    known.ok_or_else(no_variable)?.1 = value;
                }
                TemplateNode::Block(block) => self.block(block, dot)?,
            }
        }
        Ok(())
    }

    fn block(&mut self, block: &TemplateBlock, dot: &Value) -> Result<(), TemplateError> {
        let value = self.evaluate(&block.condition, dot)?.into_owned();
        let bound = |value: &Value| {
            block.variables.first().map(|name| (name.clone(), value.clone())).into_iter().collect()
        };
        match block.kind {
            BlockKind::If => {
                let nodes = if is_true(&value) { &block.body } else { &block.otherwise };
                self.scoped(bound(&value), nodes, dot)
            }
            BlockKind::With if is_true(&value) => self.scoped(bound(&value), &block.body, &value),
            BlockKind::With => self.scoped(bound(&value), &block.otherwise, dot),
            BlockKind::Range => {
                let entries = entries(value)?;
                if entries.is_empty() {
                    return self.scoped(Vec::new(), &block.otherwise, dot);
                }
                for (key, item) in entries {
                    // One variable is the value, two are the key and the value.
                    let bound = match block.variables.as_slice() {
                        [key_name, name, ..] => {
                            vec![(key_name.clone(), key), (name.clone(), item.clone())]
                        }
                        _ => bound(&item),
                    };
                    self.charge(&item)?;
                    self.scoped(bound, &block.body, &item)?;
                }
                Ok(())
            }
        }
    }

    /// Renders nodes whose variables end with them.
    fn scoped(
        &mut self,
        variables: Vec<(String, Value)>,
        nodes: &[TemplateNode],
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let before = self.variables.len();
        self.variables.extend(variables);
        let result = self.nodes(nodes, dot);
        self.variables.truncate(before);
        result
    }

    fn evaluate<'s>(
        &'s self,
        expression: &'s Expression,
        dot: &'s Value,
    ) -> Result<Cow<'s, Value>, TemplateError> {
        let value = match expression {
            Expression::Literal(value) => Cow::Borrowed(value),
            Expression::Path { root, fields } => {
                let from = match root {
                    ExpressionRoot::Dot => dot,
                    ExpressionRoot::Top => self.top,
                    ExpressionRoot::Variable(name) => self.variable(name)?,
                };
                Cow::Borrowed(follow(from, fields)?)
            }
            Expression::Field(inner, fields) => match self.evaluate(inner, dot)? {
                Cow::Borrowed(value) => Cow::Borrowed(follow(value, fields)?),
                Cow::Owned(value) => Cow::Owned(follow(&value, fields)?.clone()),
            },
            Expression::Call(name, arguments) => {
                let arguments: Vec<Value> = arguments
                    .iter()
                    .map(|argument| self.evaluate(argument, dot).map(Cow::into_owned))
                    .collect::<Result<_, _>>()?;
                Cow::Owned(match (name.as_str(), arguments.as_slice()) {
                    ("json", [only]) if self.is_indented => {
                        serde_json::to_string_pretty(only).unwrap_or_default().into()
                    }
                    _ => call(name, &arguments)?,
                })
            }
        };
        self.charge(&value)?;
        Ok(value)
    }

    fn variable(&self, name: &str) -> Result<&Value, TemplateError> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| TemplateError::NoVariable(name.to_owned()))
    }

    /// Counts a value that is copied or printed.
    fn charge(&self, value: &Value) -> Result<(), TemplateError> {
        let work = self.work.get() + weight(value);
        self.work.set(work);
        if work > MAX_WORK { Err(TemplateError::TooManySteps) } else { Ok(()) }
    }

    fn push(&mut self, text: &str) -> Result<(), TemplateError> {
        self.out.push_str(text);
        if self.out.len() > MAX_OUTPUT { Err(TemplateError::TooLarge) } else { Ok(()) }
    }
}

/// The cost of copying a value: one for each value in it and for each 64 bytes of text.
fn weight(value: &Value) -> usize {
    let text = |text: &String| 1 + text.len() / 64;
    match value {
        Value::String(own) => text(own),
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => {
            1 + map.iter().map(|(key, value)| text(key) + weight(value)).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

/// The entries that `range` visits: items with their index, or values in the order of their keys.
fn entries(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
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
        other => return Err(TemplateError::NotAList(shown(&other))),
    })
}

fn follow<'m>(value: &'m Value, fields: &[String]) -> Result<&'m Value, TemplateError> {
    let mut value = value;
    let mut before = "";
    for field in fields {
        value = match value {
            // In Go these two are maps, and a key that a map lacks is not an error.
            Value::Object(map) if matches!(before, "Labels" | "Annotations") => {
                map.get(field).unwrap_or(&Value::Null)
            }
            Value::Object(map) => map
                .get(field)
                .or_else(|| by_go_name(map, field))
                .ok_or_else(|| no_field(field, map))?,
            Value::Null => return Ok(&Value::Null),
            _ => return Err(TemplateError::NotAMap(field.clone())),
        };
        before = field;
    }
    Ok(value)
}

fn no_field(field: &str, map: &Map<String, Value>) -> TemplateError {
    TemplateError::NoField { field: field.into(), known: map.keys().cloned().collect() }
}

/// The value of a field by its name in Go: `DiffIDs` is `diff_ids` in JSON.
fn by_go_name<'m>(map: &'m Map<String, Value>, field: &str) -> Option<&'m Value> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let field = plain(field);
    map.iter().find(|(name, _)| plain(name) == field).map(|(_, value)| value)
}
