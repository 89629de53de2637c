//! Functions of numbers and truth values.

use serde_json::Value;

use super::{argument, number_at};
use crate::BakeError;
use crate::error::invalid;
use crate::value::{boolean, from_f64, is_equal, number};

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
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
        let numbers: Result<Vec<f64>, BakeError> = arguments.iter().map(number).collect();
        numbers?
            .into_iter()
            .reduce(choose)
            .map(from_f64)
            .ok_or_else(|| invalid!("it needs a number"))
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
        "divide" | "modulo" if number_at(arguments, 1).is_ok_and(|number| number == 0.0) => {
            Err(BakeError::DivisionByZero)
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

fn range(arguments: &[Value]) -> Result<Value, BakeError> {
    let (start, end, step) = match arguments.len() {
        1 => (0.0, number_at(arguments, 0)?, 1.0),
        _ => (
            number_at(arguments, 0)?,
            number_at(arguments, 1)?,
            if arguments.len() > 2 { number_at(arguments, 2)? } else { 1.0 },
        ),
    };
    if step == 0.0 || (end - start) / step > 10_000.0 {
        return Err(BakeError::Limit("it has too many numbers"));
    }
    // Counted, not added up: a step that is small beside the start would never reach the end.
    let numbers = (0..=10_000).map(|at| f64::from(at).mul_add(step, start));
    let within = |number: &f64| (step > 0.0 && *number < end) || (step < 0.0 && *number > end);
    Ok(numbers.take_while(within).map(from_f64).collect())
}
