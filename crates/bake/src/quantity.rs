//! Sizes and durations with units.

use std::time::Duration;

use crate::BakeError;
use crate::error::invalid;

/// A size as docker's `go-units` reads it: `64m`, `1.5GiB`.
///
/// # Errors
/// If it is not a size, or too large.
pub fn size(text: &str) -> Result<i64, BakeError> {
    let wrong = || invalid!("`{text}`: expected a size, as 64m or 1g");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |last| last + 1);
    let (number, unit) = text.split_at(end);
    let is_number = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
    let power = match unit.strip_prefix(' ').unwrap_or(unit).to_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024f64.powi(power);
    if bytes >= i64::MAX as f64 {
        return Err(invalid!("`{text}`: too large"));
    }
    Ok(bytes as i64)
}

/// A duration as Go writes it, without its sign: `1h30m`.
///
/// # Errors
/// If it is not one.
pub fn duration(text: &str) -> Result<Duration, BakeError> {
    let wrong = || invalid!("it is not a time, as 24h or 7d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let factor = match &after[..unit] {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = &after[unit..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}
