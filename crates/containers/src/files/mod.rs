//! Copies of files between containers and archives, by docker's rules for paths.
//!
//! [`chain`] reads and changes the layers of a container that does not run, [`live`] the root of one that does.

mod archive_layer;
pub(crate) mod chain;
pub(crate) mod live;
mod requested;
mod users;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use layer::Time;

pub(crate) use requested::RequestedPath;
pub(crate) use users::{FileOwner, find_owner};

/// The facts about a path that docker's clients ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFacts {
    /// The last part of the path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Type and permissions, as `st_mode` has them.
    pub mode: u32,
    /// The last change.
    pub modified: SystemTime,
    /// For a link the path that it leads to, absolute in the container; empty for anything else.
    pub link_target: String,
}

/// The way in which an archive is unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackOptions {
    /// The folder; links are followed, inside the container.
    pub path: String,
    /// True if a folder does not take the place of something else, nor the other way round.
    pub keeps_kinds: bool,
    /// True if everything belongs to the container's user; owners are the archive's otherwise.
    pub owner_is_user: bool,
}

/// A file type of `st_mode`.
pub(crate) mod file_type {
    pub(crate) const FIFO: u32 = 0o010_000;
    pub(crate) const CHARACTER_DEVICE: u32 = 0o020_000;
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    pub(crate) const BLOCK_DEVICE: u32 = 0o060_000;
    pub(crate) const REGULAR: u32 = 0o100_000;
    pub(crate) const LINK: u32 = 0o120_000;
}

pub(crate) fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let base = match time.seconds {
        0.. => UNIX_EPOCH.checked_add(whole),
        _ => UNIX_EPOCH.checked_sub(whole),
    };
    let exact = base.and_then(|base| base.checked_add(Duration::from_nanos(time.nanos.into())));
    exact.unwrap_or(UNIX_EPOCH)
}

pub(crate) fn absolute(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// The name of an entry below the name that stands for the copied path: no name for the root, `/` before its content.
pub(crate) fn below(top: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return top.to_vec();
    }
    [top, b"/", path].concat()
}
