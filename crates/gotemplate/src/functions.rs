//! The functions of templates: Go's own, and those that docker's command line adds.

use std::cmp::Ordering;

use serde_json::Value;

use crate::TemplateError;

/// The largest text that a function makes, in bytes.
const MAX_TEXT: usize = 16 << 20;
/// The longest list that a function makes.
const MAX_ITEMS: usize = 100_000;

/// Calls a function.
pub fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let first = arguments.first().unwrap_or(&Value::Null);
    let text = |index: usize| arguments.get(index).map(shown).unwrap_or_default();
    Ok(match name {
        "json" => serde_json::to_string(first).unwrap_or_default().into(),
        "index" => {
            let keys = arguments.get(1..).unwrap_or_default();
            keys.iter().try_fold(first.clone(), |value, key| item(&value, key))?
        }
        "len" => match first {
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            _ => text(0).len().into(),
        },
        "join" => join(first, &text(1))?,
        "split" => split(&text(0), &text(1))?,
        "lower" => text(0).to_lowercase().into(),
        "upper" => text(0).to_uppercase().into(),
        "title" => title(&text(0)).into(),
        "print" => {
            check_size(arguments)?;
            arguments.iter().map(shown).collect::<String>().into()
        }
        "println" => {
            check_size(arguments)?;
            (arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into()
        }
        "printf" => {
            check_size(arguments)?;
            printf(&text(0), arguments.get(1..).unwrap_or_default())?.into()
        }
        "truncate" => {
            let length = count(arguments.get(1));
            text(0).chars().take(length).collect::<String>().into()
        }
        "pad" => match text(0) {
            empty if empty.is_empty() => empty.into(),
            text => {
                let blanks = |index: usize| " ".repeat(count(arguments.get(index)).min(1024));
                [blanks(1), text, blanks(2)].concat().into()
            }
        },
        "not" => Value::Bool(!is_true(first)),
        "and" => chosen(arguments, |value| !is_true(value)),
        "or" => chosen(arguments, is_true),
        "eq" => compared(arguments, Ordering::is_eq),
        "ne" => compared(arguments, Ordering::is_ne),
        "lt" => compared(arguments, Ordering::is_lt),
        "le" => compared(arguments, Ordering::is_le),
        "gt" => compared(arguments, Ordering::is_gt),
        "ge" => compared(arguments, Ordering::is_ge),
        _ => return Err(TemplateError::NoFunction(name.into())),
    })
}

/// Refuses arguments that add up to a text that is too large: an assignment in a `range` could
/// double a text with each round.
fn check_size(arguments: &[Value]) -> Result<(), TemplateError> {
    let size = |value: &Value| match value {
        Value::String(text) => text.len(),
        other => shown(other).len(),
    };
    let whole: usize = arguments.iter().map(size).sum();
    if whole > MAX_TEXT { Err(TemplateError::TooLarge) } else { Ok(()) }
}

fn count(value: Option<&Value>) -> usize {
    let count = value.and_then(Value::as_u64).unwrap_or(0);
    usize::try_from(count).unwrap_or(0)
}

/// The first argument of a kind, or else the last one.
fn chosen(arguments: &[Value], fits: impl Fn(&Value) -> bool) -> Value {
    let found = arguments.iter().find(|value| fits(value));
    found.or(arguments.last()).cloned().unwrap_or(Value::Null)
}

/// Compares the first two arguments, as numbers where both are.
fn compared(arguments: &[Value], fits: fn(Ordering) -> bool) -> Value {
    let text = |index: usize| arguments.get(index).map(shown).unwrap_or_default();
    let number = |index: usize| arguments.get(index).and_then(Value::as_f64);
    let order = match (number(0), number(1)) {
        (Some(one), Some(other)) => one.partial_cmp(&other).unwrap_or(Ordering::Less),
        _ => text(0).cmp(&text(1)),
    };
    Value::Bool(fits(order))
}

fn join(list: &Value, separator: &str) -> Result<Value, TemplateError> {
    let Value::Array(items) = list else { return Err(TemplateError::BadJoin) };
    if items.len().saturating_mul(separator.len()) > MAX_TEXT {
        return Err(TemplateError::TooLarge);
    }
    check_size(items)?;
    Ok(items.iter().map(shown).collect::<Vec<_>>().join(separator).into())
}

fn split(text: &str, separator: &str) -> Result<Value, TemplateError> {
    let parts: Vec<&str> = text.split(separator).take(MAX_ITEMS + 1).collect();
    if parts.len() > MAX_ITEMS { Err(TemplateError::TooLarge) } else { Ok(parts.into()) }
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + letters.as_str()
}

fn item(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        (Value::Array(items), Value::Number(number)) => {
            let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
            let no_item =
                || TemplateError::NoItem { index: number.to_string(), length: items.len() };
            index.and_then(|index| items.get(index)).cloned().ok_or_else(no_item)
        }
        (Value::Object(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or_else(|| Value::String(String::new())))
        }
        (Value::Null, _) => Err(TemplateError::IndexOfNull),
        _ => Err(TemplateError::BadIndex),
    }
}

fn printf(format: &str, arguments: &[Value]) -> Result<String, TemplateError> {
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
            other => return Err(TemplateError::BadVerb(other.into_iter().collect())),
        };
        out.push_str(&laid_out(&text, layout)?);
        if out.len() > MAX_TEXT {
            return Err(TemplateError::TooLarge);
        }
        rest = letters.as_str();
    }
    Ok(out + rest)
}

/// A text with the layout between `%` and the verb: `-20`, `8`, `.12`.
fn laid_out(text: &str, layout: &str) -> Result<String, TemplateError> {
    let wrong = || TemplateError::BadLayout(layout.into());
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse::<u16>().map(|number| Some(usize::from(number))).map_err(|_| wrong()),
    };
    let (is_left, rest) = layout.strip_prefix('-').map_or((false, layout), |rest| (true, rest));
    let (width, precision) = rest.split_once('.').unwrap_or((rest, ""));
    let cut: String = text.chars().take(number(precision)?.unwrap_or(usize::MAX)).collect();
    let width = number(width)?.unwrap_or(0);
    Ok(if is_left { format!("{cut:<width$}") } else { format!("{cut:>width$}") })
}

/// A value's truth in Go: empty values are false.
pub fn is_true(value: &Value) -> bool {
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
pub fn shown(value: &Value) -> String {
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
