//! The fields of a body: their table, and the way from values to types.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{ApiError, Handling};

/// A field in the body of a request.
#[derive(Clone, Copy, Debug)]
pub struct BodyField {
    /// Its name; the fields of objects have the object's name and a dot before theirs.
    pub path: &'static str,
    /// Its handling.
    pub handling: Handling,
    /// Values, beside empty ones, that ask for nothing.
    pub harmless: &'static [&'static str],
}

const fn field(path: &'static str, handling: Handling) -> BodyField {
    BodyField { path, handling, harmless: &[] }
}

pub(super) const fn honoured(path: &'static str, about: &'static str) -> BodyField {
    field(path, Handling::Honoured(about))
}

pub(super) const fn no_effect(path: &'static str, why: &'static str) -> BodyField {
    field(path, Handling::NoEffect(why))
}

pub(super) const fn noted(path: &'static str, why: &'static str) -> BodyField {
    field(path, Handling::Noted(why))
}

pub(super) const fn refused(path: &'static str, why: &'static str) -> BodyField {
    field(path, Handling::Refused(why))
}

impl BodyField {
    /// The same field, with values that ask for nothing.
    pub(super) const fn unless(self, harmless: &'static [&'static str]) -> Self {
        Self { harmless, ..self }
    }

    /// True for a value without which the container would be the same.
    fn is_harmless(&self, value: &Value) -> bool {
        match value {
            Value::String(text) if self.harmless.contains(&text.as_str()) => true,
            Value::Number(number) if self.harmless.contains(&number.to_string().as_str()) => true,
            Value::Array(list) => list.iter().all(|value| self.is_harmless(value)),
            Value::Object(map) => map.values().all(|value| self.is_harmless(value)),
            _ => is_nothing(value),
        }
    }
}

/// True for a value that asks for nothing: what clients send for options that were not given.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Checks the fields of an object, and takes out those that ask for nothing or have no effect. Returns sentences about
/// the latter.
///
/// # Errors
/// If a field is not in the table, or refused.
pub(super) fn judge(
    object: &mut Map<String, Value>,
    fields: &[BodyField],
) -> Result<Vec<String>, ApiError> {
    let mut notes = Vec::new();
    judge_below(object, "", fields, &mut notes)?;
    Ok(notes)
}

fn judge_below(
    object: &mut Map<String, Value>,
    parent: &str,
    fields: &[BodyField],
    notes: &mut Vec<String>,
) -> Result<(), ApiError> {
    // An empty list of `Entrypoint` takes the image's away, and no time to stop is a time.
    let counts_empty = |name: &str, value: &Value| match name {
        "Entrypoint" => value.is_array(),
        "StopTimeout" => value.is_number(),
        _ => false,
    };
    object.retain(|name, value| !is_nothing(value) || counts_empty(name, value));
    let mut idle = Vec::new();
    for (name, value) in object.iter_mut() {
        let path = format!("{parent}{name}");
        let Some(field) = fields.iter().find(|field| field.path == path) else {
            let prefix = format!("{path}.");
            if !fields.iter().any(|field| field.path.starts_with(&prefix)) {
                return Err(unknown(&path));
            }
            let object = value.as_object_mut().ok_or_else(|| wrong(&path, "it is no object"))?;
            judge_below(object, &prefix, fields, notes)?;
            continue;
        };
        match field.handling {
            Handling::Honoured(_) => {}
            Handling::NoEffect(_) => idle.push(name.clone()),
            _ if field.is_harmless(value) => idle.push(name.clone()),
            Handling::Noted(why) => {
                notes.push(format!("`{path}`: {why}"));
                idle.push(name.clone());
            }
            Handling::Refused(why) => {
                return Err(refuse(&path, why));
            }
        }
    }
    object.retain(|name, _| !idle.contains(name));
    Ok(())
}

/// Characters of a message: a text of the client is not repeated at any length.
const LONGEST: usize = 400;

pub(super) fn short(text: impl std::fmt::Display) -> String {
    text.to_string().chars().take(LONGEST).collect()
}

/// The error about a field that the table does not have.
fn unknown(path: &str) -> ApiError {
    let path: String = path.chars().take(LONGEST / 2).collect();
    ApiError::BadRequest(format!("`{path}` is no field that kiln knows: leave it out"))
}

/// The error about a value that is none.
pub(super) fn wrong(path: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::BadRequest(short(format_args!("`{path}`: {why}")))
}

/// The error about a value that kiln does not have.
pub(super) fn refuse(path: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::NotImplemented(short(format_args!("`{path}`: {why}")))
}

/// The object that a body is.
pub(super) fn object(value: Value) -> Result<Map<String, Value>, ApiError> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(ApiError::BadRequest("the body is no JSON object".into())),
    }
}

/// Types of a value. The reader's message names the type that was expected, and no value of the client's.
pub(super) fn typed<T: DeserializeOwned>(path: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let expected = text.rsplit_once("expected ").map_or("another type", |(_, rest)| rest);
        wrong(path, format_args!("wrong JSON: expected {expected}"))
    })
}

/// The value of one field; the default if it is not there.
pub(super) fn take<T: DeserializeOwned + Default>(
    object: &mut Map<String, Value>,
    name: &str,
) -> Result<T, ApiError> {
    match object.shift_remove(name) {
        Some(value) => typed(name, value),
        None => Ok(T::default()),
    }
}

/// Refuses texts with a NUL byte, which no argument, variable and path can have.
pub(super) fn check_texts(value: &Value) -> Result<(), ApiError> {
    let is_wrong = |text: &str| text.contains('\0');
    match value {
        Value::String(text) if is_wrong(text) => {
            Err(ApiError::BadRequest("a text in the body has a NUL byte".into()))
        }
        Value::Array(list) => list.iter().try_for_each(check_texts),
        Value::Object(map) if map.keys().any(|name| is_wrong(name)) => {
            Err(ApiError::BadRequest("a name in the body has a NUL byte".into()))
        }
        Value::Object(map) => map.values().try_for_each(check_texts),
        _ => Ok(()),
    }
}

/// The most items of a list that becomes mounts, names or ports.
pub(super) const MOST: usize = 1000;

pub(super) fn bounded<T>(path: &str, list: Vec<T>) -> Result<Vec<T>, ApiError> {
    match list.len() {
        0..=MOST => Ok(list),
        length => Err(wrong(path, format_args!("{length} items are too many: {MOST} are allowed"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: &[BodyField] = &[
        honoured("Image", "x"),
        no_effect("Shell", "x"),
        noted("Limits.Memory", "no limit"),
        refused("Limits.Mode", "no").unless(&["soft", "-1"]),
    ];

    fn judged(value: Value) -> Result<(Vec<String>, Value), ApiError> {
        let mut object = object(value)?;
        let notes = judge(&mut object, FIELDS)?;
        Ok((notes, Value::Object(object)))
    }

    #[test]
    fn each_field_is_honoured_noted_or_refused() {
        let (notes, left) = judged(json!({
            "Image": "a", "Shell": ["x"], "Odd": null, "Odder": {}, "Oddest": "",
            "Limits": { "Memory": 5, "Mode": "soft", "Else": 0 },
        }))
        .unwrap();
        assert_eq!(notes, ["`Limits.Memory`: no limit"]);
        assert_eq!(left, json!({ "Image": "a", "Limits": {} }));
        assert!(judged(json!({ "Limits": { "Mode": -1 } })).is_ok());
        for (value, text) in [
            (json!({ "image": "a" }), "`image`"),
            (json!({ "Limits": { "Speed": 1 } }), "`Limits.Speed`"),
            (json!({ "Limits": { "Mode": "hard" } }), "`Limits.Mode`: no"),
            (json!({ "Limits": 5 }), "no object"),
            (json!([]), "no JSON object"),
        ] {
            let error = judged(value).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn errors_do_not_repeat_values() {
        let error = typed::<Vec<String>>("Env", json!([{ "s3cret": 1 }])).unwrap_err().to_string();
        assert_eq!(error, "`Env`: wrong JSON: expected a string");
        let long = json!({ "x".repeat(10_000): 1 });
        assert!(judged(long).unwrap_err().to_string().len() < 300);
    }
}
