//! Scalars as go-yaml reads and prints them: YAML 1.2's, with the octal numbers, underscores and
//! dates of YAML 1.1.

use base64::Engine as _;
use jiff::civil::{Date, DateTime, Time};
use saphyr_parser::Tag;
use serde_json::{Number, Value};

use crate::YamlError;

/// A scalar's value. Dates become the texts that Go prints them as.
pub fn read(text: &str, is_plain: bool, tag: Option<&Tag>) -> Result<Value, YamlError> {
    let named = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    let wrong = |tag: &str| YamlError::Tag { tag: format!("!!{tag}"), text: text.to_owned() };
    match (named, tag) {
        (Some("binary"), _) => {
            let packed: String = text.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD.decode(packed).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.map(Value::String).ok_or_else(|| wrong("binary"))
        }
        (Some(name @ ("int" | "float" | "bool" | "null" | "timestamp")), _) => {
            match (name, resolve(text)?) {
                ("float", PlainScalar::Integer(number)) => Ok(number.into()),
                (name, value) if value.name() == name => Ok(value.value()),
                _ => Err(wrong(name)),
            }
        }
        // Any other tag, or `!` alone, leaves the text as it is.
        (_, Some(_)) => Ok(text.into()),
        (_, None) if !is_plain => Ok(text.into()),
        (_, None) => Ok(resolve(text)?.value()),
    }
}

/// A plain scalar.
#[derive(Debug, PartialEq)]
enum PlainScalar {
    Null,
    Boolean(bool),
    Integer(Number),
    Float(Number),
    Timestamp(String),
    Text(String),
}

impl PlainScalar {
    /// The name of its tag.
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "bool",
            Self::Integer(_) => "int",
            Self::Float(_) => "float",
            Self::Timestamp(_) => "timestamp",
            Self::Text(_) => "str",
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Bool(value),
            Self::Integer(number) | Self::Float(number) => Value::Number(number),
            Self::Timestamp(text) | Self::Text(text) => Value::String(text),
        }
    }
}

fn resolve(text: &str) -> Result<PlainScalar, YamlError> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => PlainScalar::Null,
        "true" | "True" | "TRUE" => PlainScalar::Boolean(true),
        "false" | "False" | "FALSE" => PlainScalar::Boolean(false),
        "-0" | "-0.0" => PlainScalar::Float(float(-0.0)?),
        text if is_endless(text) => return Err(YamlError::Value(text.to_owned())),
        _ => match text.as_bytes()[0] {
            b'.' => match go_float(text) {
                Some(value) => PlainScalar::Float(float(value)?),
                None => PlainScalar::Text(text.into()),
            },
            b'0'..=b'9' | b'+' | b'-' => number_or_time(text)?,
            _ => PlainScalar::Text(text.into()),
        },
    })
}

/// `.inf` and `.nan` in their spellings: no value of a file that becomes JSON.
fn is_endless(text: &str) -> bool {
    matches!(text, ".nan" | ".NaN" | ".NAN")
        || matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF")
            && !text.starts_with("+-")
            && !text.starts_with("-+")
}

fn number_or_time(text: &str) -> Result<PlainScalar, YamlError> {
    if let Some(time) = timestamp(text) {
        return Ok(PlainScalar::Timestamp(time));
    }
    let packed = text.replace('_', "");
    if let Some(whole) = integer(&packed) {
        return Ok(PlainScalar::Integer(whole));
    }
    match is_float(&packed).then(|| packed.parse::<f64>().ok()).flatten() {
        // Go's parser leaves a number that is too large a text.
        Some(value) if value.is_finite() => Ok(PlainScalar::Float(float(value)?)),
        _ => Ok(PlainScalar::Text(text.into())),
    }
}

/// A whole number with Go's prefixes: `0x1f`, `0o17`, `017`, `0b1`.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_str() {
        prefixed if prefixed.starts_with("0x") => (16, &lower[2..]),
        prefixed if prefixed.starts_with("0o") => (8, &lower[2..]),
        prefixed if prefixed.starts_with("0b") => (2, &lower[2..]),
        octal if octal.len() > 1 && octal.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => Some(value.into()),
        // Go accepts a plus sign only for numbers that fit into an i64.
        (_, Ok(value)) if !text.starts_with('+') => Some(value.into()),
        _ => None,
    }
}

/// `1.5`, `1.`, `.5`, `1e3`, with a sign.
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = match number.split_once('.') {
        Some(("", after)) => is_digits(after),
        Some((before, after)) => is_digits(before) && (after.is_empty() || is_digits(after)),
        None => is_digits(number),
    };
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    fits && exponent.is_none_or(is_digits)
}

/// A float that begins with a dot, as Go's own parser has it.
fn go_float(text: &str) -> Option<f64> {
    is_float(text).then(|| text.parse().ok()).flatten().filter(|value: &f64| value.is_finite())
}

fn float(value: f64) -> Result<Number, YamlError> {
    Number::from_f64(value).ok_or_else(|| YamlError::Value(value.to_string()))
}

/// A value as the text that Go's `Sprint` makes of it; lists and maps are JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => float_text(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A float in Go's shortest form: `1e+06` from seven digits on and `1e-05` from the fifth place.
fn float_text(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match (-4..6).contains(&exponent) {
        true => format!("{value}"),
        false => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

/// A date, or a date and a time, as Go prints it.
fn timestamp(text: &str) -> Option<String> {
    let is_year = text.len() > 4 && text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    if !is_year || text.as_bytes()[4] != b'-' {
        return None;
    }
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((text.as_bytes()[at], &text[at + 1..]))),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year: i16 = parts.next()?.parse().ok()?;
    let (month, day) = (two_digits(parts.next()?)?, two_digits(parts.next()?)?);
    let date = Date::new(year, month, day).ok()?;
    let Some((separator, rest)) = rest else {
        return Some(format!("{} 00:00:00 +0000 UTC", date.strftime("%Y-%m-%d")));
    };
    let zone_at = rest.find(['Z', '+', '-']);
    let (time, zone) = match (separator, zone_at) {
        (b' ', None) => (rest, "Z"),
        (b' ', Some(_)) | (_, None) => return None,
        (_, Some(at)) => rest.split_at(at),
    };
    let zone = zone_text(zone)?;
    let (time, fraction) = match time.split_once('.') {
        Some((time, fraction)) => (time, fraction),
        None => (time, ""),
    };
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut parts = time.splitn(3, ':').map(two_digits);
    let time = Time::new(parts.next()??, parts.next()??, parts.next()??, 0).ok()?;
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    let moment: DateTime = date.to_datetime(time);
    Some(format!("{}{fraction} {zone}", moment.strftime("%Y-%m-%d %H:%M:%S")))
}

/// One or two digits.
fn two_digits(text: &str) -> Option<i8> {
    let fits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// `Z` or `+01:00`, as Go prints it behind a time.
fn zone_text(zone: &str) -> Option<String> {
    if zone == "Z" {
        return Some("+0000 UTC".into());
    }
    let (sign, rest) = zone.split_at(1);
    let (hours, minutes) = rest.split_once(':')?;
    let is_two = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_two(hours) || !is_two(minutes) || hours > "24" || minutes > "60" {
        return None;
    }
    Some(match (hours, minutes) {
        ("00", "00") => "+0000 UTC".into(),
        _ => format!("{sign}{hours}{minutes} {sign}{hours}{minutes}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_printed_as_go_does() {
        for (written, printed) in [
            ("010", "8"),
            ("0o10", "8"),
            ("09", "9"),
            ("0x_1F", "31"),
            ("-0b11", "-3"),
            ("1_000", "1000"),
            ("+12", "12"),
            ("12345678901234567890", "12345678901234567890"),
            ("123456789012345678901", "1.2345678901234568e+20"),
            ("1000000.5", "1.0000005e+06"),
            ("100000.0", "100000"),
            ("1e3", "1000"),
            ("1e21", "1e+21"),
            ("0.00001", "1e-05"),
            ("1.50", "1.5"),
            ("1.", "1"),
            (".5", "0.5"),
            ("1_000.5", "1000.5"),
            ("1e400", "1e400"),
            ("1:30", "1:30"),
            ("yes", "yes"),
            ("True", "true"),
            ("2020-01-01", "2020-01-01 00:00:00 +0000 UTC"),
            ("2020-1-2T3:4:5.500Z", "2020-01-02 03:04:05.5 +0000 UTC"),
            ("2020-01-01t10:00:00+01:00", "2020-01-01 10:00:00 +0100 +0100"),
            ("2001-12-14 21:59:43.10", "2001-12-14 21:59:43.1 +0000 UTC"),
            ("2001-12-14 21:59:43 -5", "2001-12-14 21:59:43 -5"),
            ("2020-13-01", "2020-13-01"),
            ("1.2.3", "1.2.3"),
            ("-", "-"),
            ("+", "+"),
        ] {
            let value = read(written, true, None).unwrap();
            assert_eq!(text(&value), printed, "{written}");
            assert_eq!(read(written, false, None).unwrap(), written, "quoted {written}");
        }
        for written in ["", "~", "Null"] {
            assert_eq!(read(written, true, None).unwrap(), Value::Null);
        }
        for written in [".inf", "-.INF", ".nan"] {
            assert!(read(written, true, None).is_err(), "{written}");
        }
    }

    #[test]
    fn tags_say_what_a_scalar_is() {
        let tagged = |suffix: &str, written: &str| {
            let handle = "tag:yaml.org,2002:".to_owned();
            let tag = Tag { handle, suffix: suffix.into() };
            read(written, true, Some(&tag)).map(|value| text(&value)).map_err(|e| e.to_string())
        };
        assert_eq!(tagged("str", "010"), Ok("010".into()));
        assert_eq!(tagged("float", "3"), Ok("3".into()));
        assert_eq!(tagged("int", "0x10"), Ok("16".into()));
        assert_eq!(tagged("binary", "aGk="), Ok("hi".into()));
        assert_eq!(tagged("int", "x"), Err("`x` is no `!!int`".into()));
        assert_eq!(tagged("bool", "yes"), Err("`yes` is no `!!bool`".into()));
    }
}
