//! Values of attributes: from what an expression evaluates to, to the form that is kept.

use serde_json::{Map, Value, json};

use super::{AttributeType, MAX_ITEMS};
use crate::BakeError;
use crate::csv::fields;
use crate::error::{Location, Within as _, invalid, shown};
use crate::value::{boolean, text};

/// Reads an attribute's value.
///
/// # Errors
/// If it has another type.
pub fn read(name: &str, kind: AttributeType, value: Value) -> Result<Value, BakeError> {
    Ok(match kind {
        AttributeType::Text => Value::String(text(&value)?),
        AttributeType::Flag => Value::Bool(boolean(&value)?),
        AttributeType::Texts => {
            let items = list(value)?.into_iter().filter(|item| !item.is_null());
            let texts: Vec<String> = items.map(|item| text(&item)).collect::<Result<_, _>>()?;
            // A condition leaves a name out by making it empty.
            let texts = texts.into_iter().filter(|text| !text.is_empty());
            distinct(texts.map(Value::String).collect())?
        }
        AttributeType::Map => match value {
            Value::Object(map) => texts(map)?,
            other => return Err(BakeError::wrong_type(&other, "map")),
        },
        AttributeType::Options => {
            let mut read = Vec::new();
            // A value without its brackets can be a cache's key.
            let Value::Array(items) = value else { return Err(invalid!("it is no list")) };
            for item in items {
                match item {
                    Value::Null => {}
                    Value::String(text) if text.is_empty() => {}
                    Value::String(text) => read.push(options(name, &text)?),
                    Value::Object(map) => read.push(texts(map)?),
                    other => return Err(invalid!("{} is neither text nor map", shown(&other))),
                }
            }
            distinct(read)?
        }
    })
}

fn list(value: Value) -> Result<Vec<Value>, BakeError> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(BakeError::wrong_type(&other, "list")),
    }
}

/// A map with values that are texts. Null hides nothing that a parent says, so it is left out.
fn texts(map: Map<String, Value>) -> Result<Value, BakeError> {
    let mut read = Map::new();
    for (key, value) in map {
        if !value.is_null() {
            let text = text(&value).within(|| Location::Key(key.clone()))?;
            read.insert(key, Value::String(text));
        }
    }
    Ok(Value::Object(read))
}

/// The items without repetitions.
fn distinct(items: Vec<Value>) -> Result<Value, BakeError> {
    if items.len() > MAX_ITEMS {
        return Err(BakeError::Limit("the list is too long"));
    }
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    Ok(Value::Array(kept))
}

/// A compound value's text as a map.
fn options(name: &str, text: &str) -> Result<Value, BakeError> {
    if name == "ssh" {
        return Ok(match text.split_once('=') {
            Some((id, paths)) => json!({ "id": id, "paths": paths }),
            None => json!({ "id": text }),
        });
    }
    let parts = fields(text)?;
    if let [only] = parts.as_slice()
        && !only.contains('=')
    {
        return Ok(match (name, only.as_str()) {
            ("output", "-") => json!({ "type": "tar", "dest": "-" }),
            ("output", path) => json!({ "type": "local", "dest": path }),
            ("cache-from" | "cache-to", reference) => {
                json!({ "type": "registry", "ref": reference })
            }
            (_, other) => return Err(invalid!("`{other}` is not NAME=VALUE")),
        });
    }
    let mut map = Map::new();
    for part in &parts {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        map.insert(key.into(), value.into());
    }
    Ok(Value::Object(map))
}
