//! The processes that come of a command, where no process namespace ends them all.

use rustix::io::Errno;

use super::supervisor::descendants;
use crate::sys;
use crate::wire::{Failure, Step};

/// All processes that this one has started and that are left of those; whoever loses its parent becomes a child of
/// this one.
pub struct Children(());

impl Children {
    pub fn adopt() -> Result<Children, Failure> {
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own))
            .step(|| "adopt what the command leaves".into())?;
        Ok(Children(()))
    }

    /// Buries those that have ended; how `pid` did, if it was among them.
    pub fn ended(&mut self, pid: i32) -> rustix::io::Result<Option<i32>> {
        let mut found = None;
        loop {
            match sys::wait_for_any(false) {
                Ok(Some((ended, status))) if ended == pid => found = Some(status),
                Ok(Some(_)) => {}
                Ok(None) | Err(Errno::CHILD) => return Ok(found),
                Err(errno) => return Err(errno),
            }
        }
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
            // Whoever is born meanwhile is a child of this process once its parent is gone.
            match sys::wait_for_any(true) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}
