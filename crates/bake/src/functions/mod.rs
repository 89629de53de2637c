//! The functions of bake's library, a file for each family.

mod collections;
mod digests;
mod encodings;
mod format;
mod networks;
mod numbers;
mod regexes;
mod sets;
#[cfg(test)]
mod tests;
mod texts;
mod times;
mod uuids;
mod versions;

use serde_json::{Map, Value};

use crate::BakeError;
use crate::error::invalid;
use crate::value::{number, text};

/// The largest text that is given to a function or made by it, in bytes.
const MAX_TEXT: usize = 4 << 20;
/// The longest list that is given to a function or made by it: some compare each item with each.
const MAX_ITEMS: usize = 10_001;

/// Calls a function.
///
/// # Errors
/// If there is no such function, or its arguments are wrong.
pub fn call(name: &str, arguments: &[Value]) -> Result<Value, BakeError> {
    check_sizes(arguments)?;
    let result = texts::call(name, arguments)
        .or_else(|| format::call(name, arguments))
        .or_else(|| regexes::call(name, arguments))
        .or_else(|| numbers::call(name, arguments))
        .or_else(|| collections::call(name, arguments))
        .or_else(|| sets::call(name, arguments))
        .or_else(|| encodings::call(name, arguments))
        .or_else(|| digests::call(name, arguments))
        .or_else(|| times::call(name, arguments))
        .or_else(|| versions::call(name, arguments))
        .or_else(|| networks::call(name, arguments))
        .or_else(|| uuids::call(name, arguments));
    result.unwrap_or(Err(BakeError::NoFunction))
}

fn check_sizes(arguments: &[Value]) -> Result<(), BakeError> {
    for argument in arguments {
        match argument {
            Value::String(text) => check_text(text.len())?,
            Value::Array(items) if items.len() > MAX_ITEMS => {
                return Err(BakeError::Limit("the list is too long"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a text that would be longer than this many bytes.
fn check_text(length: usize) -> Result<(), BakeError> {
    if length > MAX_TEXT {
        return Err(BakeError::Limit("the text would be too long"));
    }
    Ok(())
}

/// An item of a list or map.
///
/// # Errors
/// If there is no such item.
pub fn item(value: &Value, key: &Value) -> Result<Value, BakeError> {
    match value {
        Value::Array(items) => {
            let index = number(key)?;
            let found = items.iter().enumerate().find(|(at, _)| from_usize(*at) == index);
            found
                .map(|(_, item)| item.clone())
                .ok_or_else(|| invalid!("there is no item {index} in a list of {}", items.len()))
        }
        Value::Object(map) => {
            let key = text(key)?;
            map.get(&key).cloned().ok_or_else(|| invalid!("there is no `{key}` in the map"))
        }
        other => Err(invalid!("`{other}` is neither list nor map")),
    }
}

fn from_usize(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

fn argument(arguments: &[Value], at: usize) -> Result<&Value, BakeError> {
    arguments.get(at).ok_or_else(|| BakeError::TooFewArguments(arguments.len()))
}

fn text_at(arguments: &[Value], at: usize) -> Result<String, BakeError> {
    text(argument(arguments, at)?)
}

fn number_at(arguments: &[Value], at: usize) -> Result<f64, BakeError> {
    number(argument(arguments, at)?)
}

fn list_at(arguments: &[Value], at: usize) -> Result<&[Value], BakeError> {
    match argument(arguments, at)? {
        Value::Array(items) => Ok(items),
        other => Err(BakeError::wrong_type(other, "list")),
    }
}

fn map_at(arguments: &[Value], at: usize) -> Result<&Map<String, Value>, BakeError> {
    match argument(arguments, at)? {
        Value::Object(map) => Ok(map),
        other => Err(BakeError::wrong_type(other, "map")),
    }
}

/// A whole number that can be an index.
fn index_at(arguments: &[Value], at: usize) -> Result<usize, BakeError> {
    let number = number_at(arguments, at)?;
    if number.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(&number) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        return Ok(number as usize);
    }
    Err(BakeError::wrong_text(number, "index"))
}
