//! The end of a container: waiting for its init process and removing its mount points, however it ends.

use std::fs;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, openat, statat, unlinkat, utimensat};

use crate::init::strays::{self, Sign};
use crate::init::walk::times_of;
use crate::reports::Reports;

/// Longest time for a killed container to be gone: only a process stuck in the kernel takes longer.
const REAPING: Duration = Duration::from_secs(20);

/// A running init process. Waits for it and removes the container's mount points, at the latest when it is dropped.
pub struct ChildGuard {
    /// Until it has been waited for.
    pub child: Option<Child>,
    pub line: StdUnixStream,
    pub reports: Reports,
    /// The folder of the container's changes to its root.
    pub changes: Option<PathBuf>,
    pub work: Option<PathBuf>,
    /// The folder of this container's own files, if the command runs in their place.
    pub place: Option<PathBuf>,
    /// True if a process namespace ends with the init process.
    pub has_namespace: bool,
}

impl ChildGuard {
    /// True if the init process has ended without a report, and its children may go on.
    pub fn is_unattended(&self) -> bool {
        !self.has_namespace && self.reports.end.is_none()
    }

    /// Waits for the init process, and removes what is left of the container.
    pub fn reap(&mut self) -> Reports {
        let Some(mut child) = self.child.take() else { return Reports::default() };
        let _ = self.line.shutdown(Shutdown::Write);
        // The init process may be putting this container's files back, and must not be killed over it.
        if self.place.is_none() && !ends_within(&child, REAPING) {
            let _ = child.kill();
        }
        let _ = child.wait();
        // Reports that were sent and not read yet; the descriptor does not block.
        self.reports.hear_rest(&mut self.line);
        if let (true, Some(root)) = (self.is_unattended(), &self.changes) {
            strays::end(Sign::Root, root);
        }
        if let Some(place) = &self.place {
            // Nothing, unless it was killed. What cannot be put back now is put back by the next kiln.
            let _ = crate::in_place::recover(place);
        }

        let told = std::mem::take(&mut self.reports);
        if let Some(changes) = &self.changes {
            remove_stubs(changes, &told.stubs);
        }
        if let Some(work) = &self.work {
            // A mark of `volatile`, which would forbid using the directories again.
            let _ = fs::remove_dir_all(work.join("work/incompat"));
        }
        told
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.reap();
    }
}

/// Waits for a process without polling, where there are process descriptors (kernel 5.3).
fn ends_within(child: &Child, limit: Duration) -> bool {
    let Ok(raw) = i32::try_from(child.id()) else { return true };
    let Some(pid) = rustix::process::Pid::from_raw(raw) else { return true };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)), Ok(0))
}

/// Removes made mount points that are still as they were made, the inner ones first. The folders around them keep
/// their times.
fn remove_stubs(changes: &Path, stubs: &[String]) {
    let Ok(top) = open(changes, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return;
    };
    for stub in stubs.iter().rev() {
        // A folder on the way may have become a symbolic link since: nothing outside may be touched.
        let _ = remove_stub(&top, stub);
    }
}

fn remove_stub(top: &OwnedFd, stub: &str) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names: Vec<&str> = stub.split('/').collect();
    let name = names.pop().unwrap_or_default();
    let mut folder = openat(top, ".", flags, Mode::empty())?;
    for name in names {
        folder = openat(&folder, name, flags, Mode::empty())?;
    }
    let found = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let around = rustix::fs::fstat(&folder)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => unlinkat(&folder, name, AtFlags::REMOVEDIR)?,
        FileType::RegularFile if found.st_size == 0 => unlinkat(&folder, name, AtFlags::empty())?,
        _ => return Ok(()),
    }
    utimensat(&folder, ".", &times_of(&around), AtFlags::empty())
}
