//! Sizes and durations for people, in the forms that docker and BuildKit print and read.

use std::time::Duration;

const DECIMAL: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

fn scale(bytes: u64) -> (f64, usize) {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < DECIMAL.len() {
        value /= 1000.0;
        unit += 1;
    }
    (value, unit)
}

/// A size as progress prints it: `227B`, `3.40MB`.
pub fn transfer_size(bytes: u64) -> String {
    match scale(bytes) {
        (_, 0) => format!("{bytes}B"),
        (value, unit) => format!("{value:.2}{}", DECIMAL[unit]),
    }
}

/// A size with at most four digits, as docker's tables print it: `5.613MB`, `120kB`.
pub fn size(bytes: u64) -> String {
    let (value, unit) = scale(bytes);
    let whole_digits = if value >= 1000.0 {
        4
    } else if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.*}", 4 - whole_digits);
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", DECIMAL[unit])
}

/// A text that is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a size, as 10gb")]
pub struct NotASize;

/// Reads a size with binary units, as docker, buildx and BuildKit read those of disks too: `10gb`.
///
/// # Errors
/// If it is not a size.
pub fn disk_size(text: &str) -> Result<u64, NotASize> {
    let size = bake::quantity::size(text).ok();
    size.and_then(|size| u64::try_from(size).ok()).ok_or(NotASize)
}

/// A duration as docker's tables print it: `About a minute`, `3 days`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal() {
        for (bytes, transfer, table) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (3_400_000, "3.40MB", "3.4MB"),
            (1_234_567, "1.23MB", "1.235MB"),
            (120_000, "120.00kB", "120kB"),
            (5_000_000_000, "5.00GB", "5GB"),
        ] {
            assert_eq!(transfer_size(bytes), transfer);
            assert_eq!(size(bytes), table);
        }
    }

    #[test]
    fn sizes_of_disks_are_binary() {
        for (text, bytes) in [("10gb", 10 << 30), ("1.5K", 1536), ("1MiB", 1 << 20), ("7", 7)] {
            assert_eq!(disk_size(text), Ok(bytes));
        }
        for text in ["much", "1x", ""] {
            assert_eq!(disk_size(text), Err(NotASize), "{text}");
        }
    }

    #[test]
    fn durations_are_rounded_as_docker_does() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (119, "About a minute"),
            (3600, "About an hour"),
            (3600 * 47, "47 hours"),
            (3600 * 24 * 3, "3 days"),
            (3600 * 24 * 900, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
