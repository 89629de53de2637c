//! `matrix`: a target for each combination of values.

use serde_json::Value;

use crate::BakeError;
use crate::error::invalid;

/// The most targets of one matrix.
const MAX_COMBINATIONS: usize = 1000;

/// All combinations of a matrix; the last name changes fastest.
///
/// # Errors
/// If it is not a map of lists, or has too many combinations.
pub fn combinations(matrix: &Value) -> Result<Vec<Vec<(String, Value)>>, BakeError> {
    let Value::Object(axes) = matrix else { return Err(invalid!("`matrix` is no map")) };
    let mut all = vec![Vec::new()];
    for (name, values) in axes {
        let values = values.as_array().ok_or_else(|| invalid!("`matrix.{name}` is no list"))?;
        let longer = all.iter().flat_map(|known: &Vec<(String, Value)>| {
            values.iter().map(|value| {
                let mut known = known.clone();
                known.push((name.clone(), value.clone()));
                known
            })
        });
        all = longer.take(MAX_COMBINATIONS + 1).collect();
        if all.len() > MAX_COMBINATIONS {
            return Err(invalid!("`matrix` has more than {MAX_COMBINATIONS} combinations"));
        }
    }
    Ok(all)
}
