//! Processes that a command has left without a supervisor, where no process namespace ends them.

use std::fs;
use std::path::Path;

use crate::sys;

/// The mark by which a process is known to belong to a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Its root is the folder.
    Root,
    /// Its program is in the folder.
    Program,
}

/// Kills all processes that have a sign of being of a folder.
///
/// A process of another user can be seen by root with all capabilities only.
pub fn end(sign: Sign, folder: &Path) {
    let Ok(folder) = folder.canonicalize() else { return };
    // A process that is born meanwhile is found by the next look; one that has ended has neither sign.
    while end_once(sign, &folder) {}
}

fn end_once(sign: Sign, folder: &Path) -> bool {
    let name = match sign {
        Sign::Root => "root",
        Sign::Program => "exe",
    };
    let mut found = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if fs::read_link(entry.path().join(name)).is_ok_and(|path| path.starts_with(folder)) {
            sys::kill(number, libc::SIGKILL);
            found = true;
        }
    }
    found
}
