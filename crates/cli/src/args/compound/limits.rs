//! `--ulimit`, `--shm-size`.

use graph::Ulimit;

use super::OptionError;

const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads `name=soft[:hard]`; -1 is unlimited.
///
/// # Errors
/// If there is no such limit, a number is not one, or the soft limit is above the hard one.
pub fn ulimit(text: &str) -> Result<Ulimit, OptionError> {
    let (name, limits) =
        text.split_once('=').ok_or_else(|| OptionError::malformed(text, "`name=soft[:hard]`"))?;
    if !NAMES.contains(&name) {
        return Err(OptionError::malformed(name, format!("a limit: {}", NAMES.join(", "))));
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .ok()
            .filter(|number| *number >= -1)
            .ok_or_else(|| OptionError::malformed(text, "a number, or -1 for no limit"))
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(OptionError::refused(text, "the soft limit is above the hard one"));
    }
    Ok(Ulimit { name: name.into(), soft, hard })
}

/// Reads a size in bytes as docker does: `64m`, `1.5GiB`, `100`; units are binary.
///
/// # Errors
/// If it is not a size, or larger than a number of bytes can be.
pub fn size(text: &str) -> Result<i64, OptionError> {
    let error = || OptionError::malformed(text, "a size, as 64m or 1g");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |last| last + 1);
    let (number, unit) = text.split_at(end);
    let is_number = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| is_number).ok_or_else(error)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(error()),
    };
    let bytes = number * 1024f64.powi(power);
    if bytes < i64::MAX as f64 {
        Ok(bytes as i64)
    } else {
        Err(OptionError::refused(text, "too large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let nofile = |soft, hard| Ulimit { name: "nofile".into(), soft, hard };
        assert_eq!(ulimit("nofile=1024").unwrap(), nofile(1024, 1024));
        assert_eq!(ulimit("nofile=1:-1").unwrap(), nofile(1, -1));
        for text in ["nofile", "speed=1", "nofile=a", "nofile=2:1", "nofile=-1:5", "nofile=1:2:3"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in
            [("100", 100), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("2 kb", 2048), ("1B", 1)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1", "1x", "1kk", "1e9", "99999999p"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
