//! Limits on the work of evaluation.

use std::cell::Cell;

use serde_json::Value;

use crate::BakeError;

/// The deepest nesting of expressions, calls and variables together.
const MAX_DEPTH: usize = 128;
/// The most steps for all expressions of a definition, in units of [`weight`].
const MAX_STEPS: usize = 4_000_000;

/// The work that is done, shared by all that belongs together: variables, attributes and files that
/// refer to each other could otherwise double a value with each reference.
#[derive(Debug, Default)]
pub struct Budget {
    depth: Cell<usize>,
    steps: Cell<usize>,
}

impl Budget {
    /// Runs a step, one level deeper.
    ///
    /// # Errors
    /// Those of the step, or a limit.
    pub fn step(
        &self,
        work: impl FnOnce() -> Result<Value, BakeError>,
    ) -> Result<Value, BakeError> {
        if self.depth.get() >= MAX_DEPTH {
            return Err(BakeError::Limit("it is nested too deep, or calls itself"));
        }
        self.depth.set(self.depth.get() + 1);
        let result = work();
        self.depth.set(self.depth.get() - 1);
        let value = result?;
        self.charge(weight(&value))?;
        Ok(value)
    }

    /// Counts a comparison of each item of a list with each of another one.
    ///
    /// # Errors
    /// If it is too much.
    pub fn charge_pairs(&self, one: usize, other: usize) -> Result<(), BakeError> {
        self.charge(one.saturating_mul(other) / 16)
    }

    /// Counts work.
    ///
    /// # Errors
    /// If it is too much.
    pub fn charge(&self, steps: usize) -> Result<(), BakeError> {
        let steps = self.steps.get().saturating_add(steps);
        self.steps.set(steps);
        if steps > MAX_STEPS { Err(BakeError::Limit("it takes too many steps")) } else { Ok(()) }
    }
}

/// The cost of copying a value: one for each value in it and for each 64 bytes of text.
pub fn weight(value: &Value) -> usize {
    let text = |text: &String| 1 + text.len() / 64;
    match value {
        Value::String(own) => text(own),
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => {
            1 + map.iter().map(|(key, value)| text(key) + weight(value)).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}
