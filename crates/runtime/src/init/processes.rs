//! The processes that come of a command, where no process namespace ends them all.

use rustix::io::Errno;

use crate::sys;
use crate::wire::{SetupFailure, StepContext};

/// All processes that this one has started and that are left of those; an orphan among them becomes a child of this
/// process.
pub struct Children(());

impl Children {
    pub fn adopt() -> Result<Children, SetupFailure> {
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own))
            .step(|| "adopt what the command leaves".into())?;
        Ok(Children(()))
    }

    /// Waits for the end of `pid`.
    pub fn wait_for(&mut self, pid: i32) -> rustix::io::Result<Option<i32>> {
        loop {
            match sys::wait_for_any(true) {
                Ok(Some((ended, status))) if ended == pid => return Ok(Some(status)),
                Ok(_) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Ends all of them.
    pub fn end_all(&mut self) {
        let own = std::process::id() as i32;
        loop {
            for pid in descendants(own) {
                sys::kill(pid, libc::SIGKILL);
            }
            // A process that is born meanwhile becomes a child of this one once its parent is gone.
            match sys::wait_for_any(true) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// The threads of `init` and all that came of it: their processes' ids, without its own.
pub fn descendants(init: i32) -> Vec<i32> {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, parent)) = pid.and_then(|pid| Some((pid, parent_of(pid)?))) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![init];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// The process that a process belongs to.
pub fn parent_of(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A program's name may hold anything.
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// True if a process descends from `init`.
pub fn descends_from(init: i32, mut pid: i32) -> bool {
    // A bound, because the chain may change while it is followed.
    for _ in 0..1024 {
        match parent_of(pid) {
            Some(parent) if parent == init => return true,
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
    false
}
