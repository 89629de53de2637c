//! The merging of services of several files.

use serde_json::{Map, Value};

use crate::BakeError;
use crate::budget::{Budget, weight};
use crate::error::invalid;

/// Attributes of services that matter for their images; the others are for containers.
const OF_IMAGES: [&str; 5] = ["image", "build", "environment", "env_file", "extends"];

/// Removes the attributes that are for containers.
pub fn trim(service: &mut Value) {
    if let Value::Object(service) = service {
        service.retain(|key, _| OF_IMAGES.contains(&key.as_str()));
    }
}

/// Merges a later file on top: maps by their keys, lists one after the other.
///
/// # Errors
/// If it is too much work.
pub fn merge(below: &mut Value, above: Value, budget: &Budget) -> Result<(), BakeError> {
    budget.charge(weight(&above))?;
    put_on_top(below, above, false, budget)
}

fn put_on_top(
    below: &mut Value,
    above: Value,
    of_pairs: bool,
    budget: &Budget,
) -> Result<(), BakeError> {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                match below.get_mut(&key) {
                    // In a list of variables, null means the value of the environment; elsewhere
                    // it changes nothing.
                    Some(known) if value.is_null() && of_pairs => *known = value,
                    Some(_) if value.is_null() => {}
                    Some(known) => put_on_top(known, value, is_of_pairs(&key), budget)?,
                    None => {
                        below.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(below), Value::Array(above)) => {
            budget.charge_pairs(below.len() + above.len(), above.len())?;
            for item in above {
                if !below.contains(&item) {
                    below.push(item);
                }
            }
        }
        (below, above) => *below = above,
    }
    Ok(())
}

fn is_of_pairs(key: &str) -> bool {
    matches!(key, "args" | "environment" | "labels")
}

/// Removes the paths that a later document tags `!reset` or `!override`.
pub fn clear(root: &mut Value, cleared: &[Vec<String>]) {
    for path in cleared {
        let Some((last, before)) = path.split_last() else { continue };
        let mut parent = Some(&mut *root);
        for part in before {
            parent = parent.and_then(|value| value.as_object_mut()?.get_mut(part));
        }
        if let Some(Value::Object(map)) = parent {
            map.remove(last);
        }
    }
}

/// A map, or a list of `KEY=VALUE`, as a map; a key alone has no value.
///
/// # Errors
/// If it is neither.
pub fn pairs(value: &Value) -> Result<Value, BakeError> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Object(map) => {
            let mut texts = Map::new();
            for (key, value) in map {
                let value = match value {
                    Value::Null => Value::Null,
                    Value::Array(_) | Value::Object(_) => {
                        return Err(invalid!("`{key}` is no text, number or truth value"));
                    }
                    value => yaml::text(value).into(),
                };
                texts.insert(key.clone(), value);
            }
            Ok(Value::Object(texts))
        }
        Value::Array(items) => {
            let mut map = Map::new();
            for item in items {
                let text = yaml::text(item);
                match text.split_once('=') {
                    Some((key, value)) => map.insert(key.into(), value.into()),
                    None => map.insert(text, Value::Null),
                };
            }
            Ok(Value::Object(map))
        }
        _ => Err(invalid!("it is neither map nor list")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_files_are_on_top() {
        let mut below = json!({
            "image": "a", "build": {"args": {"A": "1", "B": "2"}, "tags": ["x"], "target": "t"},
        });
        let above = json!({
            "image": null, "build": {"args": {"A": null, "C": "3"}, "tags": ["x", "y"], "target": null},
        });
        merge(&mut below, above, &Budget::default()).unwrap();
        assert_eq!(
            below,
            json!({
                "image": "a",
                "build": {"args": {"A": null, "B": "2", "C": "3"}, "tags": ["x", "y"], "target": "t"},
            })
        );
    }

    #[test]
    fn what_is_cleared_is_gone() {
        let mut root = json!({"services": {"a": {"build": {"tags": ["x"], "target": "t"}}}});
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        clear(&mut root, &[path("services.a.build.tags"), path("services.b.image"), path("x")]);
        assert_eq!(root, json!({"services": {"a": {"build": {"target": "t"}}}}));
    }

    #[test]
    fn pairs_are_texts() {
        assert_eq!(
            pairs(&json!(["A=1=2", "B", "C=", 3])).unwrap(),
            json!({"A": "1=2", "B": null, "C": "", "3": null})
        );
        assert_eq!(
            pairs(&json!({"A": 1, "B": true, "C": null, "D": 1e21})).unwrap(),
            json!({"A": "1", "B": "true", "C": null, "D": "1e+21"})
        );
        assert!(pairs(&json!({"A": [1]})).is_err() && pairs(&json!("x")).is_err());
    }
}
