//! The commands, one file each: what they ask, and what they print.

pub mod build;
pub mod completion;
pub mod du;
pub mod history;
pub mod images;
pub mod inspect;
pub mod login;
pub mod prune;
pub mod rmi;
pub mod transfer;
pub mod version;

/// Seconds since 1970 of a time in RFC 3339, as image configs have them.
fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// `3 days ago`; `N/A` for no time, as docker prints the zero time.
fn ago(time: Option<i64>, now: i64) -> String {
    match time {
        // 0001-01-01 is Go's zero time.
        None | Some(..=-62_135_596_800) => "N/A".into(),
        Some(time) => {
            let seconds = u64::try_from(now - time).unwrap_or(0);
            format!("{} ago", crate::human::duration(std::time::Duration::from_secs(seconds)))
        }
    }
}

/// Twelve digits of a digest, or all of it with its algorithm.
fn id(digest: oci::Digest, whole: bool) -> String {
    match whole {
        true => digest.to_string(),
        false => digest.hex()[..12].to_owned(),
    }
}

/// Objects as JSON, one per line.
fn json_lines(values: impl IntoIterator<Item = serde_json::Value>) -> String {
    values.into_iter().map(|value| format!("{value}\n")).collect()
}
