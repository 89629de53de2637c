//! `--ulimit`, `--shm-size`.

use bake::quantity::QuantityError;
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

/// Reads a size in bytes: see [`bake::quantity::size`].
///
/// # Errors
/// If it is not a size, or larger than a number of bytes can be.
pub fn size(text: &str) -> Result<i64, OptionError> {
    bake::quantity::size(text).map_err(|error| match error {
        QuantityError::TooLarge => OptionError::refused(text, "too large"),
        _ => OptionError::malformed(text, "a size, as 64m or 1g"),
    })
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
}
