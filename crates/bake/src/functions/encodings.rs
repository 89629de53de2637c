//! Functions of encodings: base64, JSON, URL, CSV.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{argument, text_at};
use crate::BakeError;
use crate::error::invalid;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    Some(match name {
        "base64encode" => text_at(arguments, 0).map(|text| STANDARD.encode(text).into()),
        "base64decode" => text_at(arguments, 0).and_then(|text| {
            let bytes = STANDARD.decode(&text).map_err(|_| invalid!("it is not base64"))?;
            String::from_utf8(bytes).map(Value::String).map_err(|_| invalid!("it is not UTF-8"))
        }),
        "jsonencode" => argument(arguments, 0).map(|value| value.to_string().into()),
        "jsondecode" => text_at(arguments, 0).and_then(|text| {
            serde_json::from_str(&text).map_err(|error| invalid!("it is not JSON: {error}"))
        }),
        "urlencode" => text_at(arguments, 0).map(|text| oci::percent::query_escape(&text).into()),
        "csvdecode" => text_at(arguments, 0).and_then(|text| csv(&text)),
        _ => return None,
    })
}

/// Lines as maps, by the headings in the first line.
fn csv(text: &str) -> Result<Value, BakeError> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let read = crate::csv::fields;
    let names = read(lines.next().ok_or_else(|| invalid!("it has no line of headings"))?)?;
    let row = |line: &str| -> Result<Value, BakeError> {
        let values = read(line)?;
        if values.len() != names.len() {
            return Err(invalid!("`{line}` has {} fields, and not {}", values.len(), names.len()));
        }
        let pairs = names.iter().cloned().zip(values.into_iter().map(Value::String));
        Ok(Value::Object(pairs.collect()))
    };
    lines.map(row).collect::<Result<_, _>>().map(Value::Array)
}
