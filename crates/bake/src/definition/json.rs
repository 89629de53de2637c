//! Bake files in JSON: the blocks of HCL as objects, with templates in their texts.

use ::hcl::expr::{Expression, ObjectKey, TemplateExpr};
use serde_json::{Map, Value};

use super::{Attributes, Definition, RawBlock};
use crate::BakeError;
use crate::error::invalid;

impl Definition {
    /// Adds what a JSON file defines.
    ///
    /// # Errors
    /// If the text is not JSON, or a block is unknown or incomplete.
    pub fn add_json(&mut self, text: &str) -> Result<(), BakeError> {
        let root: Value = serde_json::from_str(text)?;
        let Value::Object(root) = root else { return Err(invalid!("it is no object")) };
        for (kind, value) in root {
            let is_block = matches!(kind.as_str(), "group" | "target" | "variable" | "function");
            match value {
                Value::Object(blocks) if is_block => {
                    for (name, block) in blocks {
                        let Value::Object(block) = block else {
                            return Err(invalid!("`{kind}.{name}` is no object"));
                        };
                        self.add(raw(&kind, name, block))?;
                    }
                }
                value => self.add_constant(kind, expression(value)),
            }
        }
        Ok(())
    }
}

fn raw(kind: &str, name: String, block: Map<String, Value>) -> RawBlock {
    let (mut own, mut inner) = (Attributes::new(), Vec::new());
    for (key, value) in block {
        if key != "validation" {
            own.push((key, expression(value)));
            continue;
        }
        let all = match value {
            Value::Array(all) => all,
            one => vec![one],
        };
        for one in all {
            if let Value::Object(one) = one {
                let attributes = one.into_iter().map(|(key, value)| (key, expression(value)));
                inner.push((key.clone(), attributes.collect()));
            }
        }
    }
    RawBlock { kind: kind.to_owned(), name, attributes: own, inner }
}

/// JSON as an expression: a text with `${` or `%{` is a template.
fn expression(value: Value) -> Expression {
    match value {
        Value::Null => Expression::Null,
        Value::Bool(value) => Expression::Bool(value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Expression::from(whole),
            None => Expression::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) if text.contains("${") || text.contains("%{") => {
            Expression::TemplateExpr(Box::new(TemplateExpr::QuotedString(text)))
        }
        Value::String(text) => Expression::String(text),
        Value::Array(items) => Expression::Array(items.into_iter().map(expression).collect()),
        Value::Object(map) => {
            let pairs = map.into_iter().map(|(key, value)| {
                (ObjectKey::Expression(Expression::String(key)), expression(value))
            });
            Expression::Object(pairs.collect())
        }
    }
}
