//! The commands, one file each, with their questions and output. `main.rs` dispatches to them.

pub mod archives;
pub mod build;
pub mod cache;
pub mod call;
pub mod check;
pub mod completion;
pub mod du;
pub mod failure;
pub mod history;
pub mod images;
pub mod inspect;
pub mod listing;
pub mod login;
pub mod presentation;
pub mod prune;
pub mod rmi;
pub mod serve;
pub mod tag;
pub mod transfer;
pub mod version;

use ::build::images::ImageError;

use crate::render::Report;

/// The current time, in seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The report of an error about an image, with a hint.
pub fn report(error: &ImageError) -> Report {
    let hint = match error {
        ImageError::NotHere(_) => {
            Some("`kiln images` lists what is here; `kiln pull` fetches more")
        }
        ImageError::NothingToPush(_) => Some("`kiln tag` gives an image that name"),
        ImageError::SeveralNames { .. } => Some("remove it by its names, or with `--force`"),
        _ => None,
    };
    Report { hint: hint.map(str::to_owned), ..Report::from(oci::chain_text(error)) }
}

/// One report of several errors; none if there are no errors.
fn reports(errors: &[ImageError]) -> Result<(), Report> {
    let Some(first) = errors.first() else { return Ok(()) };
    let messages: Vec<String> = errors.iter().map(|error| oci::chain_text(error)).collect();
    Err(Report { message: messages.join("\n"), ..report(first) })
}

/// Seconds since 1970 of a time in RFC 3339, as image configs have them.
pub fn seconds(time: &str) -> Option<i64> {
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

/// The first twelve digits of a digest, or the whole digest with its algorithm.
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
