//! Functions of times.

use serde_json::Value;

use super::{number_at, text_at};
use crate::BakeError;
use crate::error::{Location, Within as _, invalid};
use crate::quantity::duration;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    Some(match name {
        "timestamp" => Ok(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
        "formattimestamp" | "formatdate" => format_date(arguments),
        "timeadd" => time_add(arguments),
        "unixtimestampparse" => unix_time(arguments),
        _ => return None,
    })
}

fn parse(time: &str) -> Result<jiff::Timestamp, BakeError> {
    time.parse().map_err(|_| BakeError::wrong_text(time, "time as 2024-01-31T12:00:00Z"))
}

/// A time and a duration as Go writes it, which may be negative.
fn time_add(arguments: &[Value]) -> Result<Value, BakeError> {
    let (time, added) = (text_at(arguments, 0)?, text_at(arguments, 1)?);
    let time = parse(&time)?;
    let (negative, text) =
        added.strip_prefix('-').map_or((false, added.as_str()), |rest| (true, rest));
    let span = duration(text).within(|| Location::Key(added.clone()))?;
    let moved = if negative { time.checked_sub(span) } else { time.checked_add(span) };
    let moved = moved.map_err(|_| invalid!("`{added}` leads out of the calendar"))?;
    Ok(moved.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
}

/// The parts of a time in seconds since 1970.
fn unix_time(arguments: &[Value]) -> Result<Value, BakeError> {
    let seconds = number_at(arguments, 0)?;
    let wrong = || BakeError::wrong_text(seconds, "time in seconds since 1970");
    #[expect(clippy::cast_possible_truncation, reason = "in range")]
    let whole = (seconds.fract() == 0.0 && seconds.abs() < 1e15).then_some(seconds as i64);
    let time = jiff::Timestamp::from_second(whole.ok_or_else(wrong)?).map_err(|_| wrong())?;
    let part = |form: &str| -> Value {
        let text = time.strftime(form).to_string();
        text.trim().parse::<i64>().map_or_else(|_| text.clone().into(), Value::from)
    };
    let parts = [
        ("day", "%-d"),
        ("hour", "%-H"),
        ("iso_week", "%-V"),
        ("iso_year", "%G"),
        ("minute", "%-M"),
        ("month", "%-m"),
        ("month_name", "%B"),
        ("rfc3339", "%Y-%m-%dT%H:%M:%SZ"),
        ("second", "%-S"),
        ("weekday", "%w"),
        ("weekday_name", "%A"),
        ("year", "%Y"),
        ("year_day", "%-j"),
    ];
    Ok(parts.into_iter().map(|(name, form)| (name.to_owned(), part(form))).collect())
}

/// Formats a time by HCL's letters: `YYYY-MM-DD'T'hh:mm:ssZ`.
fn format_date(arguments: &[Value]) -> Result<Value, BakeError> {
    let (form, time) = (text_at(arguments, 0)?, text_at(arguments, 1)?);
    let time = parse(&time)?;
    let mut out = String::new();
    let mut rest = form.as_str();
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (quoted, after) =
                rest[1..].split_once('\'').ok_or_else(|| invalid!("a quote has no end"))?;
            out.push_str(quoted);
            rest = after;
            continue;
        }
        let length = rest.len() - rest.trim_start_matches(first).len();
        let (run, after) = rest.split_at(length);
        match strftime_of(run) {
            Some(form) => out.push_str(&time.strftime(form).to_string()),
            None if first.is_ascii_alphabetic() => {
                return Err(invalid!("`{run}` is no part of a time"));
            }
            None => out.push_str(run),
        }
        rest = after;
    }
    Ok(out.into())
}

/// A part of a format of HCL as strftime has it.
fn strftime_of(part: &str) -> Option<&'static str> {
    Some(match part {
        "YYYY" => "%Y",
        "YY" => "%y",
        "MM" => "%m",
        "MMM" => "%b",
        "MMMM" => "%B",
        "DD" => "%d",
        "EEE" => "%a",
        "EEEE" => "%A",
        "hh" => "%H",
        "mm" => "%M",
        "ss" => "%S",
        "Z" => "Z",
        _ => return None,
    })
}
