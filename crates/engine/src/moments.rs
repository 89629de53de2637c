//! Times as Docker writes and reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::ApiError;

/// The time that Go writes where there is none.
const ZERO: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with nine digits after the point, so that texts sort as times do.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    match Timestamp::try_from(time) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => ZERO.to_owned(),
    }
}

pub(crate) fn rfc3339_or_zero(time: Option<SystemTime>) -> String {
    time.map_or_else(|| ZERO.to_owned(), rfc3339)
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    Timestamp::try_from(time).map_or(0, Timestamp::as_second)
}

/// A moment in seconds since 1970, with up to nine digits after a point. Zero is none.
pub(crate) fn parse_seconds(name: &str, text: &str) -> Result<Option<SystemTime>, ApiError> {
    let wrong = || {
        let text: String = text.chars().take(40).collect();
        ApiError::BadRequest(format!("`{name}`: `{text}` is no number of seconds since 1970"))
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return Err(wrong());
    }
    let seconds: u64 = whole.parse().map_err(|_| wrong())?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| wrong())?;
    let since = Duration::new(seconds, nanoseconds);
    Ok(UNIX_EPOCH.checked_add(since).filter(|_| !since.is_zero()))
}

/// A moment of a filter: seconds since 1970, or a length of time before `now` in Go's form (`10m`, `1h30m`).
pub(crate) fn parse_moment(
    name: &str,
    text: &str,
    now: SystemTime,
) -> Result<SystemTime, ApiError> {
    if let Some(length) = parse_length(text) {
        return Ok(now.checked_sub(length).unwrap_or(UNIX_EPOCH));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.into());
    }
    Ok(parse_seconds(name, text)?.unwrap_or(UNIX_EPOCH))
}

fn parse_length(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut length = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit()).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let unit = match &rest[..letters] {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        rest = &rest[letters..];
        length = length.checked_add(unit.checked_mul(u32::try_from(number).ok()?)?)?;
    }
    (!text.is_empty()).then_some(length)
}

/// A length of time in words, as `docker ps` shows it.
pub(crate) fn in_words(length: Duration) -> String {
    let seconds = length.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    let days = hours / 24;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written() {
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 5_000_000);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.005000000Z");
        assert_eq!(rfc3339_or_zero(None), "0001-01-01T00:00:00Z");
        assert_eq!(seconds(time), 1_700_000_000);
    }

    #[test]
    fn times_are_read() {
        let read = |text: &str| parse_seconds("since", text);
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 5_000_000);
        assert_eq!(read("1700000000.005"), Ok(Some(time)));
        assert_eq!(read("1700000000.0050000000001"), Ok(Some(time)));
        assert_eq!(read("0"), Ok(None));
        for wrong in ["", "x", "-1", "1.x", "1e9", ".5", "99999999999999999999"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let now = time;
        let moment = |text: &str| parse_moment("until", text, now);
        assert_eq!(moment("1h30m"), Ok(now - Duration::from_secs(5400)));
        assert_eq!(moment("2023-11-14T22:13:20.005Z"), Ok(now));
        assert_eq!(moment("1700000000.005"), Ok(now));
        for wrong in ["", "h", "1d", "5 m", "1h30"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (3500, "58 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (20 * 86400, "2 weeks"),
            (100 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
