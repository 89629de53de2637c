//! Sizes and durations with units.

use std::time::Duration;

/// A text that is no quantity. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// A text that is not a size.
    #[error("expected a size, as 64m or 1g")]
    NotASize,
    /// A size of more bytes than 63 bits can count.
    #[error("too large")]
    TooLarge,
    /// A text that is not a duration.
    #[error("it is not a time, as 24h or 7d")]
    NotADuration,
}

/// Reads a size in bytes as docker's `go-units` does: `64m`, `1.5GiB`, `100`. Units are binary.
///
/// # Errors
/// If it is not a size, or too large.
pub fn size(text: &str) -> Result<i64, QuantityError> {
    let wrong = || QuantityError::NotASize;
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
        return Err(QuantityError::TooLarge);
    }
    Ok(bytes as i64)
}

/// Reads a duration in Go's form without a sign, and days: `24h`, `1h30m`, `7d`.
///
/// # Errors
/// If it is not one.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let wrong = || QuantityError::NotADuration;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in
            [("100", 100), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("2 kb", 2048), ("1B", 1)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1kk", "1e9"] {
            assert_eq!(size(text), Err(QuantityError::NotASize), "{text}");
        }
        assert_eq!(size("99999999p"), Err(QuantityError::TooLarge));
    }
}
