//! How services of several files are put together.

use serde_json::{Map, Value};

/// Attributes of services that make their images what they are; the others belong to containers.
const OF_IMAGES: [&str; 5] = ["image", "build", "environment", "env_file", "extends"];

/// Leaves out what belongs to containers.
pub fn trim(service: &mut Value) {
    if let Value::Object(service) = service {
        service.retain(|key, _| OF_IMAGES.contains(&key.as_str()));
    }
}

/// Puts what a later file says on top: maps by their keys, lists one behind the other.
pub fn merge(below: &mut Value, above: Value) {
    put_on_top(below, above, false);
}

fn put_on_top(below: &mut Value, above: Value, of_pairs: bool) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                match below.get_mut(&key) {
                    // A variable without a value has another's; anything else without one says
                    // nothing.
                    Some(known) if value.is_null() && of_pairs => *known = value,
                    Some(_) if value.is_null() => {}
                    Some(known) => put_on_top(known, value, is_of_pairs(&key)),
                    None => drop(below.insert(key, value)),
                }
            }
        }
        (Value::Array(below), Value::Array(above)) => {
            for item in above {
                if !below.contains(&item) {
                    below.push(item);
                }
            }
        }
        (below, above) => *below = above,
    }
}

fn is_of_pairs(key: &str) -> bool {
    matches!(key, "args" | "environment" | "labels")
}

/// Removes what is tagged `!reset` or `!override` in a document from what was said before it.
pub fn clear(root: &mut Value, cleared: &[Vec<String>]) {
    for path in cleared {
        let Some((last, before)) = path.split_last() else { continue };
        let mut place = Some(&mut *root);
        for part in before {
            place = place.and_then(|value| value.as_object_mut()?.get_mut(part));
        }
        if let Some(Value::Object(map)) = place {
            map.remove(last);
        }
    }
}

/// A map, or a list of `KEY=VALUE`, as a map; a key alone has no value.
///
/// # Errors
/// If it is neither.
pub fn pairs(value: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Object(map) => {
            let mut texts = Map::new();
            for (key, value) in map {
                let value = match value {
                    Value::Null => Value::Null,
                    Value::Array(_) | Value::Object(_) => {
                        return Err(format!("`{key}` is no text, number or truth value"));
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
        other => Err(format!("`{other}` is neither map nor list")),
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
        merge(&mut below, above);
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
