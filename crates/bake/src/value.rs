//! Values of expressions: conversions between texts, numbers and truth values, as HCL has them.

use serde_json::{Number, Value};

use crate::BakeError;
use crate::error::{invalid, shown};

/// A literal number.
pub fn of_number(number: &hcl::Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole.into(),
        (None, Some(float)) => from_f64(float),
        _ => Value::Null,
    }
}

/// A number, whole where it can be.
pub fn from_f64(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A value as a text.
///
/// # Errors
/// If it is null, a list or a map.
pub fn text(value: &Value) -> Result<String, BakeError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Err(invalid!("a value is null, where a text is needed")),
        other => Err(BakeError::wrong_type(other, "text")),
    }
}

/// A value as a number.
///
/// # Errors
/// If it is none.
pub fn number(value: &Value) -> Result<f64, BakeError> {
    match value {
        Value::Number(number) => number.as_f64().ok_or_else(|| invalid!("`{number}` is too large")),
        Value::String(text) => {
            text.trim().parse().map_err(|_| BakeError::wrong_text(text, "number"))
        }
        other => Err(BakeError::wrong_type(other, "number")),
    }
}

/// A value as a truth value.
///
/// # Errors
/// If it is none.
pub fn boolean(value: &Value) -> Result<bool, BakeError> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) => match text.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(invalid!("`{text}` is neither true nor false")),
        },
        other => Err(invalid!("{} is neither true nor false", shown(other))),
    }
}

/// Compares values; numbers by their value.
pub fn is_equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}
