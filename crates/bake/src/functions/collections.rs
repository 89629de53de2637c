//! Functions of lists and maps.

use serde_json::{Map, Value};

use super::{argument, index_at, item, list_at, map_at, text_at};
use crate::BakeError;
use crate::error::invalid;
use crate::value::{is_equal, text};

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
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
                (None, None) => Err(invalid!("there is no `{key}` in the map")),
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
        "merge" => merge(arguments),
        "coalesce" => arguments
            .iter()
            .find(|value| !value.is_null() && value.as_str() != Some(""))
            .cloned()
            .ok_or_else(|| invalid!("all arguments are null or empty")),
        "coalescelist" => arguments
            .iter()
            .find(|value| value.as_array().is_some_and(|items| !items.is_empty()))
            .cloned()
            .ok_or_else(|| invalid!("all lists are empty")),
        "compact" => list_at(arguments, 0).map(|items| {
            items
                .iter()
                .filter(|item| !item.is_null() && item.as_str() != Some(""))
                .cloned()
                .collect()
        }),
        "indexof" => list_at(arguments, 0).and_then(|items| {
            let wanted = argument(arguments, 1)?;
            let at = items.iter().position(|item| is_equal(item, wanted));
            at.map(Value::from).ok_or_else(|| invalid!("the list does not have it"))
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
                invalid!("there are no items {from} to {to} in a list of {}", items.len())
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
                return Err(invalid!("the lists differ in length"));
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

fn flatten(items: &[Value], flat: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::Array(inner) => flatten(inner, flat),
            other => flat.push(other.clone()),
        }
    }
}

fn merge(maps: &[Value]) -> Result<Value, BakeError> {
    let mut merged = Map::new();
    for map in maps {
        match map {
            Value::Object(map) => merged.extend(map.clone()),
            Value::Null => {}
            other => return Err(BakeError::wrong_type(other, "map")),
        }
    }
    Ok(Value::Object(merged))
}
