//! Functions that treat lists as sets.

use serde_json::Value;

use super::{argument, list_at};
use crate::BakeError;
use crate::budget::weight;
use crate::value::is_equal;

/// The largest result of `setproduct`, as [`weight`] has it.
const MAX_PRODUCT: usize = 200_000;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    Some(match name {
        "distinct" | "toset" | "setunion" => union(arguments),
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
        "setsubtract" => list_at(arguments, 0).and_then(|items| {
            let other = list_at(arguments, 1)?;
            Ok(items.iter().filter(|item| !other.contains(item)).cloned().collect())
        }),
        _ => return None,
    })
}

/// The items that only one of two lists has.
fn symmetric_difference(arguments: &[Value]) -> Result<Value, BakeError> {
    let (one, other) = (list_at(arguments, 0)?, list_at(arguments, 1)?);
    let lacks = |items: &[Value], item: &Value| !items.iter().any(|known| is_equal(known, item));
    let first = one.iter().filter(|item| lacks(other, item));
    let second = other.iter().filter(|item| lacks(one, item));
    Ok(first.chain(second).cloned().collect())
}

/// All combinations of items of some lists.
fn product(arguments: &[Value]) -> Result<Value, BakeError> {
    let (mut all, mut size) = (vec![Vec::new()], 1_usize);
    for at in 0..arguments.len() {
        let items = list_at(arguments, at)?;
        let combinations = all.len().saturating_mul(items.len());
        let added = items.iter().map(weight).sum::<usize>().saturating_mul(all.len());
        size = size.saturating_mul(items.len()).saturating_add(added);
        if combinations > 10_000 || size > MAX_PRODUCT {
            return Err(BakeError::Limit("there are too many combinations"));
        }
        let longer = all.iter().flat_map(|known: &Vec<Value>| {
            items.iter().map(|item| [known.as_slice(), std::slice::from_ref(item)].concat())
        });
        all = longer.collect();
    }
    Ok(all.into_iter().map(Value::Array).collect())
}

/// All different items of some lists.
fn union(arguments: &[Value]) -> Result<Value, BakeError> {
    let mut seen: Vec<Value> = Vec::new();
    for at in 0..arguments.len() {
        for item in list_at(arguments, at)? {
            if !seen.iter().any(|known| is_equal(known, item)) {
                seen.push(item.clone());
            }
        }
    }
    Ok(Value::Array(seen))
}
