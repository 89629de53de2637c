//! `semvercmp`.

use std::cmp::Ordering;

use serde_json::Value;

use super::text_at;
use crate::BakeError;
use crate::error::invalid;

/// Calls a function of this family; `None` if it is of another one.
pub fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, BakeError>> {
    (name == "semvercmp").then(|| semver(arguments))
}

/// A version by the rules of SemVer; build metadata does not count.
struct Semver {
    numbers: Vec<u64>,
    /// The identifiers of a candidate: `rc.1`.
    candidate: Vec<String>,
}

fn version(text: &str) -> Result<Semver, BakeError> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let plain = plain.split('+').next().unwrap_or_default();
    let (numbers, words) = plain.split_once('-').unwrap_or((plain, ""));
    let numbers: Vec<u64> = numbers
        .split('.')
        .map(|number| number.parse().map_err(|_| BakeError::wrong_text(text, "version as 1.2.3")))
        .collect::<Result<_, _>>()?;
    let candidate = words.split('.').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Ok(Semver { numbers, candidate })
}

/// Compares a version with a constraint: `>= 1.2, < 2`, parts joined by commas or blanks.
fn semver(arguments: &[Value]) -> Result<Value, BakeError> {
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
        // A candidate only fits a bound that is a candidate too.
        fits &= own.candidate.is_empty() || !bound.candidate.is_empty() || sign == "!=";
        fits &= match sign {
            "" | "=" => order.is_eq(),
            "!=" => order.is_ne(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            other => return Err(invalid!("`{other}` is none of =, !=, >, >=, < and <=")),
        };
    }
    Ok(Value::Bool(fits))
}

fn compare(one: &Semver, other: &Semver) -> Ordering {
    let number = |of: &Semver, at: usize| of.numbers.get(at).copied().unwrap_or(0);
    let longest = one.numbers.len().max(other.numbers.len());
    let numbers = (0..longest).map(|at| number(one, at).cmp(&number(other, at)));
    let words = || match (one.candidate.is_empty(), other.candidate.is_empty()) {
        // A release is greater than its candidates.
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ => {
            let pairs = one.candidate.iter().zip(&other.candidate).map(|(a, b)| {
                match (a.parse::<u64>(), b.parse::<u64>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    (Ok(_), Err(_)) => Ordering::Less,
                    (Err(_), Ok(_)) => Ordering::Greater,
                    _ => a.cmp(b),
                }
            });
            let first = pairs.into_iter().find(|order| order.is_ne());
            first.unwrap_or_else(|| one.candidate.len().cmp(&other.candidate.len()))
        }
    };
    numbers.into_iter().find(|order| order.is_ne()).unwrap_or_else(words)
}
