//! Functions of texts.

use serde_json::Value;

use super::{MAX_ITEMS, argument, check_text, from_usize, index_at, list_at, number_at, text_at};
use crate::BakeError;
use crate::value::text;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    let one = |change: fn(&str) -> String| text_at(arguments, 0).map(|text| change(&text).into());
    let two = |change: fn(&str, &str) -> String| {
        Ok(change(&text_at(arguments, 0)?, &text_at(arguments, 1)?).into())
    };
    Some(match name {
        "upper" => one(str::to_uppercase),
        "lower" => one(str::to_lowercase),
        "title" => one(|text| text.split_inclusive(' ').map(capitalised).collect()),
        "trimspace" => one(|text| text.trim().to_owned()),
        "chomp" => one(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
        "strlen" => text_at(arguments, 0).map(|text| text.chars().count().into()),
        "strrev" | "reverse" if !matches!(arguments.first(), Some(Value::Array(_))) => {
            one(|text| text.chars().rev().collect())
        }
        "trim" => two(|text, set| text.trim_matches(|c| set.contains(c)).to_owned()),
        "trimprefix" => two(|text, end| text.strip_prefix(end).unwrap_or(text).to_owned()),
        "trimsuffix" => two(|text, end| text.strip_suffix(end).unwrap_or(text).to_owned()),
        "startswith" => two_flags(arguments, |text, end| text.starts_with(end)),
        "endswith" => two_flags(arguments, |text, end| text.ends_with(end)),
        "basename" => {
            one(|text| text.trim_end_matches('/').rsplit('/').next().unwrap_or("").into())
        }
        "dirname" => one(|text| match text.rsplit_once('/') {
            Some(("", _)) => "/".into(),
            Some((folder, _)) => folder.into(),
            None => ".".into(),
        }),
        "sanitize" => one(|text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            text.chars().map(|c| if fits(c) { c } else { '_' }).collect()
        }),
        "tostring" => argument(arguments, 0).and_then(|value| match value {
            Value::Null => Ok(Value::Null),
            value => text(value).map(Value::String),
        }),
        "replace" => replace(arguments),
        "split" => split(arguments),
        "join" => join(arguments),
        "substr" => substr(arguments),
        "indent" => indent(arguments),
        _ => return None,
    })
}

fn two_flags(arguments: &[Value], check: fn(&str, &str) -> bool) -> Result<Value, BakeError> {
    Ok(Value::Bool(check(&text_at(arguments, 0)?, &text_at(arguments, 1)?)))
}

fn replace(arguments: &[Value]) -> Result<Value, BakeError> {
    let (all, from, to) = (text_at(arguments, 0)?, text_at(arguments, 1)?, text_at(arguments, 2)?);
    check_text(all.matches(&from).count().saturating_mul(to.len()).saturating_add(all.len()))?;
    Ok(all.replace(&from, &to).into())
}

fn split(arguments: &[Value]) -> Result<Value, BakeError> {
    let (separator, all) = (text_at(arguments, 0)?, text_at(arguments, 1)?);
    if all.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    let parts: Vec<&str> = all.split(&separator).take(MAX_ITEMS + 1).collect();
    if parts.len() > MAX_ITEMS {
        return Err(BakeError::Limit("the list is too long"));
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

fn join(arguments: &[Value]) -> Result<Value, BakeError> {
    let separator = text_at(arguments, 0)?;
    let mut parts = Vec::new();
    for at in 1..arguments.len().max(2) {
        for item in list_at(arguments, at)? {
            parts.push(text(item)?);
        }
    }
    let length: usize = parts.iter().map(|part| part.len() + separator.len()).sum();
    check_text(length)?;
    Ok(parts.join(&separator).into())
}

fn substr(arguments: &[Value]) -> Result<Value, BakeError> {
    let letters: Vec<char> = text_at(arguments, 0)?.chars().collect();
    let (offset, length) = (number_at(arguments, 1)?, number_at(arguments, 2)?);
    let start = if offset < 0.0 { from_usize(letters.len()) + offset } else { offset };
    let end = if length < 0.0 { f64::INFINITY } else { start + length };
    let inside = |(at, _): &(usize, &char)| (start..end).contains(&from_usize(*at));
    Ok(letters
        .iter()
        .enumerate()
        .filter(inside)
        .map(|(_, letter)| *letter)
        .collect::<String>()
        .into())
}

fn indent(arguments: &[Value]) -> Result<Value, BakeError> {
    let blanks = " ".repeat(index_at(arguments, 0)?.min(200));
    let text = text_at(arguments, 1)?;
    let lines = text.matches('\n').count();
    check_text(text.len() + lines * blanks.len())?;
    Ok(text.replace('\n', &format!("\n{blanks}")).into())
}

/// A word with its first letter in upper case.
fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + letters.as_str()
}
