//! Files of the kernel's folders that are written here, because the machine's own say something else.

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use rustix::io::Errno;

use super::paths::is_at_or_below;
use super::{Mounted, Supervisor};
use crate::init::walk::fd_path;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// The mounts: the kernel shows none to a process with a root of its own.
    Mounts,
    MountInfo,
    /// The machine's name.
    Hostname,
}

impl Made {
    /// The machine's file in its place.
    pub(super) fn machines(self) -> &'static str {
        match self {
            Made::Mounts => "/proc/self/mounts",
            Made::MountInfo => "/proc/self/mountinfo",
            Made::Hostname => "/proc/sys/kernel/hostname",
        }
    }
}

impl Supervisor {
    /// The file, to be read.
    pub(super) fn make(&self, made: Made) -> rustix::io::Result<OwnedFd> {
        let text = match made {
            Made::Mounts | Made::MountInfo => self.mounts(made)?,
            Made::Hostname => format!("{}\n", self.shown.hostname),
        };
        let file = memfd_create("made", MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        file.write_all(text.as_bytes()).map_err(|_| Errno::IO)?;
        // Read-only, and from its beginning.
        let path = fd_path(&file);
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    fn mounts(&self, made: Made) -> rustix::io::Result<String> {
        let mut text = String::new();
        let numbered = made == Made::MountInfo;
        for (place, mounted) in self.shown.mounted.iter().enumerate() {
            let Mounted { target, kind, readonly } = mounted;
            // The kernel writes the characters that would end a field in octal.
            let target = target.replace('\\', "\\134").replace(' ', "\\040").replace('\n', "\\012");
            let mode = if *readonly { "ro" } else { "rw" };
            let line = if numbered {
                let above = if place == 0 { 0 } else { 1 };
                format!(
                    "{} {above} 0:{} / {target} {mode} - {kind} {kind} {mode}\n",
                    place + 1,
                    place + 1
                )
            } else {
                format!("{kind} {target} {kind} {mode} 0 0\n")
            };
            text.push_str(&line);
        }
        text.push_str(&machines_cgroups(made)?);
        Ok(text)
    }
}

/// The machine's control groups, by which language runtimes size themselves.
fn machines_cgroups(made: Made) -> rustix::io::Result<String> {
    let text = std::fs::read_to_string(made.machines()).map_err(|_| Errno::IO)?;
    let place = if made == Made::Mounts { 1 } else { 4 };
    let target = |line: &str| line.split(' ').nth(place).unwrap_or_default().as_bytes().to_vec();
    let is_cgroup = |line: &&str| is_at_or_below(&target(line), b"/sys/fs/cgroup");
    Ok(text.lines().filter(is_cgroup).map(|line| format!("{line}\n")).collect())
}
