//! `format` and `formatlist`, with the verbs of Go.

use serde_json::Value;

use super::{check_text, text_at};
use crate::BakeError;
use crate::budget::weight;
use crate::error::invalid;
use crate::value::{boolean, from_f64, number, text};

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    Some(match name {
        "format" => format(arguments),
        "formatlist" => format_list(arguments),
        _ => return None,
    })
}

/// Formats `%s`, `%d`, `%v`, `%q`, `%t`, `%x`, `%f` and `%%`, with layouts: `%-8s`, `%03d`, `%.2f`.
fn format(arguments: &[Value]) -> Result<Value, BakeError> {
    let form = text_at(arguments, 0)?;
    let mut values = arguments.iter().skip(1);
    let mut out = String::new();
    let mut rest = form.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && !"-.+".contains(c));
        let (layout, verb) = after.split_at(end.unwrap_or(after.len()));
        let mut letters = verb.chars();
        let verb = letters.next();
        rest = letters.as_str();
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| invalid!("there are fewer values than places"))?;
        out.push_str(&placed(value, layout, verb)?);
        check_text(out.len())?;
    }
    Ok((out + rest).into())
}

/// A value by its verb and the layout before it.
fn placed(value: &Value, layout: &str, verb: Option<char>) -> Result<String, BakeError> {
    let is_left = layout.contains('-');
    let plain = layout.trim_start_matches(['-', '+']);
    let (width, precision) = plain.split_once('.').unwrap_or((plain, ""));
    let count = |text: &str| text.parse::<u16>().ok().map(|count| usize::from(count.min(1000)));
    let precision = count(precision);
    let whole = || Ok::<_, BakeError>(number(value)?.trunc());
    let shown = match verb {
        Some('s' | 'v' | 'd') if value.is_array() || value.is_object() => value.to_string(),
        Some('s' | 'v') => text(value)?,
        Some('d') => text(&from_f64(whole()?))?,
        Some('x') => format!("{:x}", whole()? as i64),
        Some('f') => format!("{:.*}", precision.unwrap_or(6), number(value)?),
        Some('t') => boolean(value)?.to_string(),
        Some('q') => Value::String(text(value)?).to_string(),
        other => {
            let verb = other.map(String::from).unwrap_or_default();
            return Err(invalid!("`%{verb}` is not supported; %s, %d, %v, %q, %t, %x and %f are"));
        }
    };
    let shown = match (verb, precision) {
        (Some('s' | 'v'), Some(most)) => shown.chars().take(most).collect(),
        _ => shown,
    };
    let fill = if width.starts_with('0') && !is_left { "0" } else { " " };
    let pad = count(width).unwrap_or(0).saturating_sub(shown.chars().count());
    let pad = fill.repeat(pad);
    Ok(if is_left { shown + &pad } else { pad + &shown })
}

fn format_list(arguments: &[Value]) -> Result<Value, BakeError> {
    let lists = arguments[1.min(arguments.len())..].iter().filter_map(Value::as_array);
    let length = lists.map(Vec::len).max().unwrap_or(1);
    let (mut made, mut size) = (Vec::new(), 0);
    for at in 0..length {
        let own: Result<Vec<Value>, BakeError> = arguments
            .iter()
            .map(|argument| match argument {
                Value::Array(items) => {
                    items.get(at).cloned().ok_or_else(|| invalid!("the lists differ in length"))
                }
                other => Ok(other.clone()),
            })
            .collect();
        let text = format(&own?)?;
        size += weight(&text) * 64;
        check_text(size)?;
        made.push(text);
    }
    Ok(Value::Array(made))
}
