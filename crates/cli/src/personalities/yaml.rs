//! YAML as a value like JSON's: what compose files and Makisu's registry files are read from.

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value};

/// A larger text is none of these files.
pub const LARGEST: usize = 4 << 20;
/// Nested deeper, it is a mistake.
const DEEPEST: usize = 64;

/// Reads the first document. Keys become texts; `<<` merges.
///
/// # Errors
/// A sentence with the line of what cannot be read.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.len() > LARGEST {
        return Err(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    let documents = Yaml::load_from_str(text).map_err(|error| format!("{error}"))?;
    match documents.first() {
        Some(document) => value(document, 0),
        None => Ok(Value::Null),
    }
}

fn value(yaml: &Yaml<'_>, depth: usize) -> Result<Value, String> {
    if depth > DEEPEST {
        return Err("it is nested too deep".into());
    }
    Ok(match yaml {
        Yaml::Value(scalar) => of_scalar(scalar),
        Yaml::Representation(text, ..) => Value::String(text.to_string()),
        Yaml::Sequence(items) => {
            let items = items.iter().map(|item| value(item, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(pairs) => {
            let mut map = Map::new();
            let mut merged = Vec::new();
            for (key, item) in pairs {
                let key = match value(key, depth + 1)? {
                    Value::String(key) => key,
                    Value::Null => "null".into(),
                    other @ (Value::Bool(_) | Value::Number(_)) => other.to_string(),
                    other => return Err(format!("`{other}` is no key")),
                };
                let item = value(item, depth + 1)?;
                match key.as_str() {
                    "<<" => merged.push(item),
                    _ => drop(map.insert(key, item)),
                }
            }
            for item in merged {
                let maps = match item {
                    Value::Array(items) => items,
                    item => vec![item],
                };
                for other in maps {
                    let Value::Object(other) = other else {
                        return Err("`<<` merges maps, and this is none".into());
                    };
                    for (key, item) in other {
                        map.entry(key).or_insert(item);
                    }
                }
            }
            Value::Object(map)
        }
        Yaml::Tagged(tag, _) => {
            return Err(format!("the tag `!{}` is not there yet", tag.suffix));
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("it has a value that makes no sense".into()),
    })
}

fn of_scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(*value),
        Scalar::Integer(value) => (*value).into(),
        Scalar::FloatingPoint(value) => (**value).into(),
        Scalar::String(text) => Value::String(text.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_values() {
        let text =
            "x: &x {a: 1, b: yes}\ny:\n  <<: *x\n  b: 'no'\n  c: [1.5, ~, true, \"3\"]\n8080: z\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "x": {"a": 1, "b": "yes"},
                "y": {"b": "no", "c": [1.5, null, true, "3"], "a": 1},
                "8080": "z",
            })
        );
        assert_eq!(parse("").unwrap(), Value::Null);
        for text in ["a: [", "a: 1\na: 2\n", "a: !reset null"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse(&deep).is_err());
    }
}
