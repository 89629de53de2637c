//! The functions that bake's expressions can call: those of its standard library that
//! definitions use.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use regex::Regex;
use serde_json::{Map, Value};

use super::expression::{boolean, from_f64, is_equal, number, text};
use super::networks;

/// Texts and lists do not grow beyond this.
const LARGEST: usize = 1 << 20;

/// Calls a function.
///
/// # Errors
/// A sentence if there is no such function, or its arguments make no sense.
pub fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let result = texts(name, arguments)
        .or_else(|| numbers(name, arguments))
        .or_else(|| collections(name, arguments))
        .or_else(|| encodings(name, arguments))
        .or_else(|| networks::call(name, arguments));
    result.unwrap_or_else(|| {
        Err("there is no such function here; put its value into a variable, and set that in the environment".into())
    })
}

/// An item of a list or map.
///
/// # Errors
/// A sentence if it is not there.
pub fn item(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        Value::Array(items) => {
            let index = number(key)?;
            let found = items.iter().enumerate().find(|(at, _)| from_usize(*at) == index);
            found
                .map(|(_, item)| item.clone())
                .ok_or_else(|| format!("there is no item {index} in a list of {}", items.len()))
        }
        Value::Object(map) => {
            let key = text(key)?;
            map.get(&key).cloned().ok_or_else(|| format!("there is no `{key}` in the map"))
        }
        other => Err(format!("`{other}` is neither list nor map")),
    }
}

fn from_usize(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

fn argument(arguments: &[Value], at: usize) -> Result<&Value, String> {
    arguments.get(at).ok_or_else(|| format!("it takes more than {} arguments", arguments.len()))
}

fn text_at(arguments: &[Value], at: usize) -> Result<String, String> {
    text(argument(arguments, at)?)
}

fn number_at(arguments: &[Value], at: usize) -> Result<f64, String> {
    number(argument(arguments, at)?)
}

fn list_at(arguments: &[Value], at: usize) -> Result<&[Value], String> {
    match argument(arguments, at)? {
        Value::Array(items) => Ok(items),
        other => Err(format!("`{other}` is no list")),
    }
}

fn map_at(arguments: &[Value], at: usize) -> Result<&Map<String, Value>, String> {
    match argument(arguments, at)? {
        Value::Object(map) => Ok(map),
        other => Err(format!("`{other}` is no map")),
    }
}

/// A whole number that can be an index.
fn index_at(arguments: &[Value], at: usize) -> Result<usize, String> {
    let number = number_at(arguments, at)?;
    match number.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(&number) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        true => Ok(number as usize),
        false => Err(format!("`{number}` is no index")),
    }
}

fn texts(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    let one = |change: fn(&str) -> String| text_at(arguments, 0).map(|text| change(&text).into());
    let two = |change: fn(&str, &str) -> String| {
        Ok(change(&text_at(arguments, 0)?, &text_at(arguments, 1)?).into())
    };
    Some(match name {
        "upper" => one(str::to_uppercase),
        "lower" => one(str::to_lowercase),
        "title" => one(|text| {
            text.split_inclusive(' ')
                .map(|word| {
                    let mut letters = word.chars();
                    let first: String =
                        letters.next().into_iter().flat_map(char::to_uppercase).collect();
                    first + letters.as_str()
                })
                .collect()
        }),
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
        "format" => format(arguments),
        "formatlist" => format_list(arguments),
        "indent" => indent(arguments),
        "regex" | "regexall" | "regex_replace" => regex(name, arguments),
        _ => return None,
    })
}

fn two_flags(arguments: &[Value], check: fn(&str, &str) -> bool) -> Result<Value, String> {
    Ok(Value::Bool(check(&text_at(arguments, 0)?, &text_at(arguments, 1)?)))
}

fn replace(arguments: &[Value]) -> Result<Value, String> {
    let (all, from, to) = (text_at(arguments, 0)?, text_at(arguments, 1)?, text_at(arguments, 2)?);
    if all.len().saturating_mul(to.len().max(1)) > LARGEST {
        return Err("the text would be too long".into());
    }
    Ok(all.replace(&from, &to).into())
}

fn split(arguments: &[Value]) -> Result<Value, String> {
    let (separator, all) = (text_at(arguments, 0)?, text_at(arguments, 1)?);
    if all.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    Ok(all.split(&separator).map(Value::from).collect())
}

fn join(arguments: &[Value]) -> Result<Value, String> {
    let separator = text_at(arguments, 0)?;
    let mut parts = Vec::new();
    for at in 1..arguments.len().max(2) {
        for item in list_at(arguments, at)? {
            parts.push(text(item)?);
        }
    }
    Ok(parts.join(&separator).into())
}

fn substr(arguments: &[Value]) -> Result<Value, String> {
    let letters: Vec<char> = text_at(arguments, 0)?.chars().collect();
    let (offset, length) = (number_at(arguments, 1)?, number_at(arguments, 2)?);
    let start = match offset < 0.0 {
        true => from_usize(letters.len()) + offset,
        false => offset,
    };
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

/// `%s`, `%d`, `%v`, `%q`, `%t`, `%x`, `%f`, `%%`, with what stands between: `%-8s`, `%03d`, `%.2f`.
fn format(arguments: &[Value]) -> Result<Value, String> {
    let form = text_at(arguments, 0)?;
    let mut values = arguments[1..].iter();
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
        let value = values.next().ok_or("there are fewer values than places")?;
        out.push_str(&placed(value, layout, verb)?);
    }
    Ok((out + rest).into())
}

/// A value at a place of a format.
fn placed(value: &Value, layout: &str, verb: Option<char>) -> Result<String, String> {
    let is_left = layout.contains('-');
    let plain = layout.trim_start_matches(['-', '+']);
    let (width, precision) = plain.split_once('.').unwrap_or((plain, ""));
    let count = |text: &str| text.parse::<u16>().ok().map(|count| usize::from(count.min(1000)));
    let precision = count(precision);
    let whole = || Ok::<_, String>(number(value)?.trunc());
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
            return Err(format!("`%{verb}` is not there; %s, %d, %v, %q, %t, %x and %f are"));
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

fn format_list(arguments: &[Value]) -> Result<Value, String> {
    let lists = arguments[1.min(arguments.len())..].iter().filter_map(Value::as_array);
    let length = lists.map(Vec::len).max().unwrap_or(1);
    let mut made = Vec::new();
    for at in 0..length {
        let own: Result<Vec<Value>, String> = arguments
            .iter()
            .map(|argument| match argument {
                Value::Array(items) => {
                    items.get(at).cloned().ok_or_else(|| "the lists differ in length".to_owned())
                }
                other => Ok(other.clone()),
            })
            .collect();
        made.push(format(&own?)?);
    }
    Ok(Value::Array(made))
}

fn indent(arguments: &[Value]) -> Result<Value, String> {
    let blanks = " ".repeat(index_at(arguments, 0)?.min(200));
    Ok(text_at(arguments, 1)?.replace('\n', &format!("\n{blanks}")).into())
}

fn regex(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let (pattern, subject) = match name {
        "regex_replace" => (text_at(arguments, 1)?, text_at(arguments, 0)?),
        _ => (text_at(arguments, 0)?, text_at(arguments, 1)?),
    };
    let regex = Regex::new(&pattern).map_err(|error| format!("`{pattern}`: {error}"))?;
    if name == "regex_replace" {
        let to = text_at(arguments, 2)?;
        return Ok(regex.replace_all(&subject, to.as_str()).into_owned().into());
    }
    let captured = |captures: regex::Captures<'_>| -> Value {
        let named: Vec<&str> = regex.capture_names().flatten().collect();
        let group = |found: Option<regex::Match<'_>>| {
            found.map_or(Value::Null, |found| found.as_str().into())
        };
        if !named.is_empty() {
            return named
                .iter()
                .map(|name| ((*name).to_owned(), group(captures.name(name))))
                .collect();
        }
        match captures.len() {
            1 => group(captures.get(0)),
            count => (1..count).map(|at| group(captures.get(at))).collect(),
        }
    };
    match name {
        "regexall" => Ok(regex.captures_iter(&subject).map(captured).collect()),
        _ => regex
            .captures(&subject)
            .map(captured)
            .ok_or_else(|| "the pattern matches nothing in the text".into()),
    }
}

fn numbers(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    let one =
        |change: fn(f64) -> f64| number_at(arguments, 0).map(|number| from_f64(change(number)));
    let two = |change: fn(f64, f64) -> f64| {
        Ok(from_f64(change(number_at(arguments, 0)?, number_at(arguments, 1)?)))
    };
    let compare = |check: fn(f64, f64) -> bool| {
        Ok(Value::Bool(check(number_at(arguments, 0)?, number_at(arguments, 1)?)))
    };
    let flags = |check: fn(bool, bool) -> bool| {
        let flag = |at| boolean(argument(arguments, at)?);
        Ok(Value::Bool(check(flag(0)?, flag(1)?)))
    };
    let best = |choose: fn(f64, f64) -> f64| {
        let numbers: Result<Vec<f64>, String> = arguments.iter().map(number).collect();
        numbers?.into_iter().reduce(choose).map(from_f64).ok_or_else(|| "it needs a number".into())
    };
    Some(match name {
        "abs" | "absolute" => one(f64::abs),
        "ceil" => one(f64::ceil),
        "floor" => one(f64::floor),
        "int" => one(f64::trunc),
        "neg" | "negate" => one(|number| -number),
        "signum" => one(|number| if number == 0.0 { 0.0 } else { number.signum() }),
        "tonumber" | "parseint" => one(|number| number),
        "tobool" => argument(arguments, 0).and_then(boolean).map(Value::Bool),
        "add" => two(|a, b| a + b),
        "subtract" => two(|a, b| a - b),
        "multiply" => two(|a, b| a * b),
        "divide" | "modulo" if number_at(arguments, 1) == Ok(0.0) => {
            Err("it divides by zero".into())
        }
        "divide" => two(|a, b| a / b),
        "modulo" => two(|a, b| a % b),
        "log" => {
            number_at(arguments, 0).and_then(|n| Ok(from_f64(n.log(number_at(arguments, 1)?))))
        }
        "pow" => two(f64::powf),
        "min" => best(f64::min),
        "max" => best(f64::max),
        "greaterthan" => compare(|a, b| a > b),
        "greaterthanorequalto" => compare(|a, b| a >= b),
        "lessthan" => compare(|a, b| a < b),
        "lessthanorequalto" => compare(|a, b| a <= b),
        "and" => flags(|a, b| a && b),
        "or" => flags(|a, b| a || b),
        "not" => argument(arguments, 0).and_then(boolean).map(|value| Value::Bool(!value)),
        "equal" | "notequal" => argument(arguments, 0).and_then(|one| {
            Ok(Value::Bool(is_equal(one, argument(arguments, 1)?) == (name == "equal")))
        }),
        "range" => range(arguments),
        _ => return None,
    })
}

fn range(arguments: &[Value]) -> Result<Value, String> {
    let (start, end, step) = match arguments.len() {
        1 => (0.0, number_at(arguments, 0)?, 1.0),
        _ => (
            number_at(arguments, 0)?,
            number_at(arguments, 1)?,
            if arguments.len() > 2 { number_at(arguments, 2)? } else { 1.0 },
        ),
    };
    if step == 0.0 || (end - start) / step > 10_000.0 {
        return Err("it has too many numbers".into());
    }
    let (mut numbers, mut next) = (Vec::new(), start);
    while (step > 0.0 && next < end) || (step < 0.0 && next > end) {
        numbers.push(from_f64(next));
        next += step;
    }
    Ok(Value::Array(numbers))
}

fn collections(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    Some(match name {
        "length" => argument(arguments, 0).map(|value| match value {
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            other => text(other).map_or(0, |text| text.chars().count()).into(),
        }),
        "concat" => {
            let lists = (0..arguments.len()).map(|at| list_at(arguments, at));
            lists.collect::<Result<Vec<_>, _>>().map(|lists| Value::Array(lists.concat()))
        }
        "contains" => list_at(arguments, 0).and_then(|items| {
            let wanted = argument(arguments, 1)?;
            Ok(Value::Bool(items.iter().any(|item| is_equal(item, wanted))))
        }),
        "index" | "element" => match (name, argument(arguments, 0)) {
            ("element", Ok(Value::Array(items))) if !items.is_empty() => {
                index_at(arguments, 1).map(|at| items[at % items.len()].clone())
            }
            (_, Ok(value)) => argument(arguments, 1).and_then(|key| item(value, key)),
            (_, Err(error)) => Err(error),
        },
        "hasindex" => argument(arguments, 0)
            .and_then(|value| Ok(Value::Bool(item(value, argument(arguments, 1)?).is_ok()))),
        "lookup" => map_at(arguments, 0).and_then(|map| {
            let key = text_at(arguments, 1)?;
            match (map.get(&key), arguments.get(2)) {
                (Some(value), _) | (None, Some(value)) => Ok(value.clone()),
                (None, None) => Err(format!("there is no `{key}` in the map")),
            }
        }),
        "keys" => map_at(arguments, 0).map(|map| {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            keys.into_iter().map(|key| Value::String(key.clone())).collect()
        }),
        "values" => map_at(arguments, 0).map(|map| {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            pairs.into_iter().map(|(_, value)| value.clone()).collect()
        }),
        "merge" => {
            let mut merged = Map::new();
            for argument in arguments {
                match argument {
                    Value::Object(map) => merged.extend(map.clone()),
                    Value::Null => {}
                    other => return Some(Err(format!("`{other}` is no map"))),
                }
            }
            Ok(Value::Object(merged))
        }
        "coalesce" => arguments
            .iter()
            .find(|value| !value.is_null() && value.as_str() != Some(""))
            .cloned()
            .ok_or_else(|| "all arguments are null or empty".into()),
        "coalescelist" => arguments
            .iter()
            .find(|value| value.as_array().is_some_and(|items| !items.is_empty()))
            .cloned()
            .ok_or_else(|| "all lists are empty".into()),
        "compact" => list_at(arguments, 0).map(|items| {
            items
                .iter()
                .filter(|item| !item.is_null() && item.as_str() != Some(""))
                .cloned()
                .collect()
        }),
        "distinct" | "toset" | "setunion" => {
            let mut seen: Vec<Value> = Vec::new();
            for at in 0..arguments.len() {
                match list_at(arguments, at) {
                    Ok(items) => {
                        for item in items {
                            if !seen.iter().any(|known| is_equal(known, item)) {
                                seen.push(item.clone());
                            }
                        }
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
            Ok(Value::Array(seen))
        }
        "setintersection" => list_at(arguments, 0).and_then(|items| {
            let others = (1..arguments.len()).map(|at| list_at(arguments, at));
            let others: Vec<&[Value]> = others.collect::<Result<_, _>>()?;
            let everywhere = |item: &&Value| others.iter().all(|other| other.contains(item));
            Ok(items.iter().filter(everywhere).cloned().collect())
        }),
        "setsymmetricdifference" => symmetric_difference(arguments),
        "sethaselement" => list_at(arguments, 0).and_then(|items| {
            let wanted = argument(arguments, 1)?;
            Ok(items.iter().any(|item| is_equal(item, wanted)).into())
        }),
        "setproduct" => product(arguments),
        "indexof" => list_at(arguments, 0).and_then(|items| {
            let wanted = argument(arguments, 1)?;
            let at = items.iter().position(|item| is_equal(item, wanted));
            at.map(Value::from).ok_or_else(|| "the list does not have it".into())
        }),
        "setsubtract" => list_at(arguments, 0).and_then(|items| {
            let other = list_at(arguments, 1)?;
            Ok(items.iter().filter(|item| !other.contains(item)).cloned().collect())
        }),
        "flatten" => list_at(arguments, 0).map(|items| {
            let mut flat = Vec::new();
            flatten(items, &mut flat);
            Value::Array(flat)
        }),
        "reverse" | "reverselist" => {
            list_at(arguments, 0).map(|items| items.iter().rev().cloned().collect())
        }
        "slice" => list_at(arguments, 0).and_then(|items| {
            let (from, to) = (index_at(arguments, 1)?, index_at(arguments, 2)?);
            items.get(from..to).map(|part| Value::Array(part.to_vec())).ok_or_else(|| {
                format!("there are no items {from} to {to} in a list of {}", items.len())
            })
        }),
        "chunklist" => list_at(arguments, 0).and_then(|items| {
            let size = index_at(arguments, 1)?.max(1);
            Ok(items.chunks(size).map(|part| Value::Array(part.to_vec())).collect())
        }),
        "sort" => list_at(arguments, 0).and_then(|items| {
            let mut texts: Vec<String> = items.iter().map(text).collect::<Result<_, _>>()?;
            texts.sort();
            Ok(texts.into_iter().map(Value::String).collect())
        }),
        "zipmap" => list_at(arguments, 0).and_then(|keys| {
            let values = list_at(arguments, 1)?;
            if keys.len() != values.len() {
                return Err("the lists differ in length".into());
            }
            let mut map = Map::new();
            for (key, value) in keys.iter().zip(values) {
                map.insert(text(key)?, value.clone());
            }
            Ok(Value::Object(map))
        }),
        "tolist" | "tomap" => argument(arguments, 0).cloned(),
        _ => return None,
    })
}

/// What one of two lists has, and the other does not.
fn symmetric_difference(arguments: &[Value]) -> Result<Value, String> {
    let (one, other) = (list_at(arguments, 0)?, list_at(arguments, 1)?);
    let lacks = |items: &[Value], item: &Value| !items.iter().any(|known| is_equal(known, item));
    let first = one.iter().filter(|item| lacks(other, item));
    let second = other.iter().filter(|item| lacks(one, item));
    Ok(first.chain(second).cloned().collect())
}

/// All combinations of items of some lists.
fn product(arguments: &[Value]) -> Result<Value, String> {
    let mut all = vec![Vec::new()];
    for at in 0..arguments.len() {
        let items = list_at(arguments, at)?;
        if all.len().saturating_mul(items.len()) > 10_000 {
            return Err("there are too many combinations".into());
        }
        let longer = all.iter().flat_map(|known: &Vec<Value>| {
            items.iter().map(|item| [known.as_slice(), std::slice::from_ref(item)].concat())
        });
        all = longer.collect();
    }
    Ok(all.into_iter().map(Value::Array).collect())
}

fn flatten(items: &[Value], flat: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::Array(inner) => flatten(inner, flat),
            other => flat.push(other.clone()),
        }
    }
}

fn encodings(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    Some(match name {
        "base64encode" => text_at(arguments, 0).map(|text| STANDARD.encode(text).into()),
        "base64decode" => text_at(arguments, 0).and_then(|text| {
            let bytes = STANDARD.decode(&text).map_err(|_| "it is not base64".to_owned())?;
            String::from_utf8(bytes).map(Value::String).map_err(|_| "it is not UTF-8".into())
        }),
        "jsonencode" => argument(arguments, 0).map(|value| value.to_string().into()),
        "jsondecode" => text_at(arguments, 0).and_then(|text| {
            serde_json::from_str(&text).map_err(|error| format!("it is not JSON: {error}"))
        }),
        "sha256" => text_at(arguments, 0).map(|text| oci::Digest::of(text).hex().into()),
        "urlencode" => text_at(arguments, 0).map(|text| {
            let mut out = String::new();
            for byte in text.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                        out.push(char::from(byte));
                    }
                    b' ' => out.push('+'),
                    byte => out.push_str(&format!("%{byte:02X}")),
                }
            }
            out.into()
        }),
        "timestamp" => Ok(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
        "formattimestamp" | "formatdate" => format_date(arguments),
        "timeadd" => time_add(arguments),
        "unixtimestampparse" => unix_time(arguments),
        "md5" => text_at(arguments, 0).map(|text| hex(&md5::Md5::digest(text)).into()),
        "sha1" => text_at(arguments, 0).map(|text| digest(&SHA1_FOR_LEGACY_USE_ONLY, &text).into()),
        "sha512" => text_at(arguments, 0).map(|text| digest(&SHA512, &text).into()),
        "csvdecode" => text_at(arguments, 0).and_then(|text| csv(&text)),
        "semvercmp" => semver(arguments),
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(algorithm: &'static aws_lc_rs::digest::Algorithm, text: &str) -> String {
    hex(aws_lc_rs::digest::digest(algorithm, text.as_bytes()).as_ref())
}

/// Lines under their headings, as maps.
fn csv(text: &str) -> Result<Value, String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let read = crate::args::compound::fields;
    let names = read(lines.next().ok_or("it has no line of headings")?)?;
    let row = |line: &str| -> Result<Value, String> {
        let values = read(line)?;
        if values.len() != names.len() {
            return Err(format!("`{line}` has {} fields, and not {}", values.len(), names.len()));
        }
        let pairs = names.iter().cloned().zip(values.into_iter().map(Value::String));
        Ok(Value::Object(pairs.collect()))
    };
    lines.map(row).collect::<Result<_, _>>().map(Value::Array)
}

/// The numbers of a version, and its words behind `-`; what is behind `+` does not count.
fn version(text: &str) -> Result<(Vec<u64>, Vec<String>), String> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let plain = plain.split('+').next().unwrap_or_default();
    let (numbers, words) = plain.split_once('-').unwrap_or((plain, ""));
    let numbers: Vec<u64> = numbers
        .split('.')
        .map(|number| number.parse().map_err(|_| format!("`{text}` is no version as 1.2.3")))
        .collect::<Result<_, _>>()?;
    let words = words.split('.').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Ok((numbers, words))
}

/// Whether a version fits a constraint: `>= 1.2, < 2`, parts joined by commas or blanks.
fn semver(arguments: &[Value]) -> Result<Value, String> {
    let (own, constraint) = (text_at(arguments, 0)?, text_at(arguments, 1)?);
    let own = version(&own)?;
    let mut fits = true;
    let joined = constraint.replace(',', " ");
    let mut words = joined.split_whitespace();
    while let Some(word) = words.next() {
        let at = word.find(|c: char| !"<>=!".contains(c)).unwrap_or(word.len());
        let (sign, text) = word.split_at(at);
        let text = if text.is_empty() { words.next().unwrap_or_default() } else { text };
        let bound = version(text)?;
        let order = compare(&own, &bound);
        // A candidate is no release: only a bound that is a candidate too lets it in.
        fits &= own.1.is_empty() || !bound.1.is_empty() || sign == "!=";
        fits &= match sign {
            "" | "=" => order.is_eq(),
            "!=" => order.is_ne(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            other => return Err(format!("`{other}` is none of =, !=, >, >=, < and <=")),
        };
    }
    Ok(Value::Bool(fits))
}

fn compare(one: &(Vec<u64>, Vec<String>), other: &(Vec<u64>, Vec<String>)) -> std::cmp::Ordering {
    let number = |of: &(Vec<u64>, Vec<String>), at: usize| of.0.get(at).copied().unwrap_or(0);
    let longest = one.0.len().max(other.0.len());
    let numbers = (0..longest).map(|at| number(one, at).cmp(&number(other, at)));
    let words = || match (one.1.is_empty(), other.1.is_empty()) {
        // A version without words is the finished one.
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        _ => {
            let pairs = one.1.iter().zip(&other.1).map(|(a, b)| {
                match (a.parse::<u64>(), b.parse::<u64>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    (Ok(_), Err(_)) => std::cmp::Ordering::Less,
                    (Err(_), Ok(_)) => std::cmp::Ordering::Greater,
                    _ => a.cmp(b),
                }
            });
            let first = pairs.into_iter().find(|order| order.is_ne());
            first.unwrap_or_else(|| one.1.len().cmp(&other.1.len()))
        }
    };
    numbers.into_iter().find(|order| order.is_ne()).unwrap_or_else(words)
}

/// A time and a duration as Go writes it, which may be negative.
fn time_add(arguments: &[Value]) -> Result<Value, String> {
    let (time, added) = (text_at(arguments, 0)?, text_at(arguments, 1)?);
    let time: jiff::Timestamp =
        time.parse().map_err(|_| format!("`{time}` is no time as 2024-01-31T12:00:00Z"))?;
    let (negative, text) =
        added.strip_prefix('-').map_or((false, added.as_str()), |rest| (true, rest));
    let span = crate::args::duration(text).map_err(|error| format!("`{added}`: {error}"))?;
    let moved = if negative { time.checked_sub(span) } else { time.checked_add(span) };
    let moved = moved.map_err(|_| format!("`{added}` leads out of the calendar"))?;
    Ok(moved.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
}

/// The parts of a time in seconds since 1970.
fn unix_time(arguments: &[Value]) -> Result<Value, String> {
    let seconds = number_at(arguments, 0)?;
    let wrong = || format!("`{seconds}` is no time in seconds since 1970");
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

/// HCL's own letters: `YYYY-MM-DD'T'hh:mm:ssZ`.
fn format_date(arguments: &[Value]) -> Result<Value, String> {
    let (form, time) = (text_at(arguments, 0)?, text_at(arguments, 1)?);
    let time: jiff::Timestamp =
        time.parse().map_err(|_| format!("`{time}` is no time as 2024-01-31T12:00:00Z"))?;
    let mut out = String::new();
    let mut rest = form.as_str();
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (quoted, after) = rest[1..].split_once('\'').ok_or("a quote has no end")?;
            out.push_str(quoted);
            rest = after;
            continue;
        }
        let length = rest.len() - rest.trim_start_matches(first).len();
        let (run, after) = rest.split_at(length);
        let form = match run {
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
            run if first.is_ascii_alphabetic() => {
                return Err(format!("`{run}` is no part of a time that is there"));
            }
            run => {
                out.push_str(run);
                rest = after;
                continue;
            }
        };
        out.push_str(&time.strftime(form).to_string());
        rest = after;
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_are_those_of_bake() {
        for (name, arguments, expected) in [
            ("upper", json!(["a"]), json!("A")),
            ("replace", json!(["a/b/c", "/", "-"]), json!("a-b-c")),
            ("split", json!([",", "a,b"]), json!(["a", "b"])),
            ("join", json!([",", ["a", 1]]), json!("a,1")),
            ("format", json!(["%s:%03d%%", "a", 7]), json!("a:007%")),
            (
                "format",
                json!(["%5.2f|%-3s|%x|%t|%.1s", 1.5, "a", 255, true, "xyz"]),
                json!(" 1.50|a  |ff|true|x"),
            ),
            ("formatlist", json!(["%s-%s", "x", ["a", "b"]]), json!(["x-a", "x-b"])),
            ("substr", json!(["abcdef", -3, 2]), json!("de")),
            ("trimprefix", json!(["v1", "v"]), json!("1")),
            ("sanitize", json!(["a.b/c"]), json!("a_b_c")),
            ("regex_replace", json!(["a1b2", "[0-9]", "x"]), json!("axbx")),
            ("regex", json!(["(\\d+)\\.(\\d+)", "v1.2"]), json!(["1", "2"])),
            ("equal", json!(["", ""]), json!(true)),
            ("notequal", json!(["", "x"]), json!(true)),
            ("and", json!([true, false]), json!(false)),
            ("add", json!([1, 2]), json!(3)),
            ("modulo", json!([7, 4]), json!(3)),
            ("range", json!([3]), json!([0, 1, 2])),
            ("concat", json!([["a"], ["b"]]), json!(["a", "b"])),
            ("contains", json!([["a"], "a"]), json!(true)),
            ("compact", json!([["a", "", null]]), json!(["a"])),
            ("distinct", json!([["a", "a"]]), json!(["a"])),
            ("flatten", json!([["a", ["b", ["c"]]]]), json!(["a", "b", "c"])),
            ("merge", json!([{"a": 1}, {"a": 2, "b": 3}]), json!({"a": 2, "b": 3})),
            ("keys", json!([{"b": 1, "a": 2}]), json!(["a", "b"])),
            ("lookup", json!([{"a": 1}, "b", 2]), json!(2)),
            ("element", json!([["a", "b"], 3]), json!("b")),
            ("slice", json!([["a", "b", "c"], 1, 3]), json!(["b", "c"])),
            ("coalesce", json!(["", null, "x"]), json!("x")),
            ("base64decode", json!(["YQ=="]), json!("a")),
            ("md5", json!(["a"]), json!("0cc175b9c0f1b6a831c399e269772661")),
            ("sha1", json!(["a"]), json!("86f7e437faa5a7fce15d1ddcb9eaeaea377667b8")),
            ("csvdecode", json!(["a,b\n1,\"x,y\"\n"]), json!([{"a": "1", "b": "x,y"}])),
            ("semvercmp", json!(["1.2.3", ">= 1.2, <2"]), json!(true)),
            ("semvercmp", json!(["1.2.3-rc.10", "> 1.2.3-rc.9"]), json!(true)),
            ("semvercmp", json!(["v1.2.3-rc.1", ">=1.2.3"]), json!(false)),
            ("timeadd", json!(["2020-01-01T00:00:00Z", "-1h30m"]), json!("2019-12-31T22:30:00Z")),
            ("setproduct", json!([["a"], ["b", "c"]]), json!([["a", "b"], ["a", "c"]])),
            ("setsymmetricdifference", json!([["a", "b"], ["b", "c"]]), json!(["a", "c"])),
            ("sethaselement", json!([["a"], "a"]), json!(true)),
            ("indexof", json!([["a", "b"], "b"]), json!(1)),
            ("log", json!([8, 2]), json!(3)),
            ("jsonencode", json!([{"a": [1]}]), json!("{\"a\":[1]}")),
            (
                "formatdate",
                json!(["YYYY-MM-DD'T'hh", "2024-01-31T12:00:00Z"]),
                json!("2024-01-31T12"),
            ),
            (
                "unixtimestampparse",
                json!([1_690_328_596]),
                json!({
                    "day": 25, "hour": 23, "iso_week": 30, "iso_year": 2023, "minute": 43,
                    "month": 7, "month_name": "July", "rfc3339": "2023-07-25T23:43:16Z",
                    "second": 16, "weekday": 2, "weekday_name": "Tuesday", "year": 2023,
                    "year_day": 206,
                }),
            ),
            ("cidrhost", json!(["10.0.0.0/8", 2]), json!("10.0.0.2")),
            ("length", json!([["a"]]), json!(1)),
            ("min", json!([3, 1]), json!(1)),
        ] {
            let arguments = arguments.as_array().unwrap();
            assert_eq!(call(name, arguments), Ok(expected), "{name}");
        }
        for (name, arguments, word) in [
            ("frob", json!([]), "no such function"),
            ("upper", json!([]), "more than 0 arguments"),
            ("divide", json!([1, 0]), "by zero"),
            ("range", json!([1e9]), "too many"),
            ("regex", json!(["(", ""]), "("),
            ("element", json!([["a"], -1]), "no index"),
        ] {
            let error = call(name, arguments.as_array().unwrap()).unwrap_err();
            assert!(error.contains(word), "{name}: {error}");
        }
    }
}
