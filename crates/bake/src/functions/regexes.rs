//! Functions of regular expressions.

use regex::{Captures, Match, Regex};
use serde_json::Value;

use super::{MAX_ITEMS, check_text, text_at};
use crate::BakeError;
use crate::error::invalid;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    matches!(name, "regex" | "regexall" | "regex_replace").then(|| regex(name, arguments))
}

fn regex(name: &str, arguments: &[Value]) -> Result<Value, BakeError> {
    let (pattern, subject) = match name {
        "regex_replace" => (text_at(arguments, 1)?, text_at(arguments, 0)?),
        _ => (text_at(arguments, 0)?, text_at(arguments, 1)?),
    };
    let regex = Regex::new(&pattern).map_err(|error| invalid!("`{pattern}`: {error}"))?;
    if name == "regex_replace" {
        let to = text_at(arguments, 2)?;
        return replaced(&regex, &subject, &to).map(Value::String);
    }
    if name == "regexall" {
        let found = regex.captures_iter(&subject).take(MAX_ITEMS + 1);
        let found: Vec<Value> =
            found.map(|captures| captured(&regex, &captures)).collect::<Result<_, _>>()?;
        if found.len() > MAX_ITEMS {
            return Err(BakeError::Limit("the list is too long"));
        }
        return Ok(Value::Array(found));
    }
    match regex.captures(&subject) {
        Some(captures) => captured(&regex, &captures),
        None => Err(invalid!("the pattern matches nothing in the text")),
    }
}

/// The text with each match replaced, in which `$1` stands for a group.
fn replaced(regex: &Regex, subject: &str, to: &str) -> Result<String, BakeError> {
    let (mut out, mut end) = (String::new(), 0);
    for captures in regex.captures_iter(subject) {
        let Some(whole) = captures.get(0) else { continue };
        out.push_str(&subject[end..whole.start()]);
        // The replacement can repeat groups, of which none is longer than the match.
        check_text(out.len().saturating_add(to.len().saturating_mul(whole.len() + 1)))?;
        captures.expand(to, &mut out);
        end = whole.end();
    }
    out.push_str(&subject[end..]);
    check_text(out.len())?;
    Ok(out)
}

/// A match: its groups by their names or in a list; the whole of it if there are none.
fn captured(regex: &Regex, captures: &Captures<'_>) -> Result<Value, BakeError> {
    check_text(captures.iter().flatten().map(|group| group.len()).sum())?;
    let group = |found: Option<Match<'_>>| found.map_or(Value::Null, |group| group.as_str().into());
    let named: Vec<&str> = regex.capture_names().flatten().collect();
    if !named.is_empty() {
        let pairs = named.iter().map(|name| ((*name).to_owned(), group(captures.name(name))));
        return Ok(pairs.collect());
    }
    Ok(match captures.len() {
        1 => group(captures.get(0)),
        count => (1..count).map(|at| group(captures.get(at))).collect(),
    })
}
