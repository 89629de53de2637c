//! Understanding a path in the kernel's folders.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{CWD, readlinkat};
use rustix::io::Errno;

use super::made::Made;
use super::paths::{clean, is_at_or_below};
use super::{Caller, Supervisor};
use crate::init::kernel_files::is_masked;

/// A path in the kernel's folders, understood.
pub(super) enum Lead {
    /// `/proc` itself.
    Processes,
    /// A file that is written here.
    Made(Made),
    /// A path of this machine.
    Machine(PathBuf),
    /// The file that such a link of a process leads to, which its text need not name.
    Behind(MagicLink),
    /// A path of the root, behind a link of a process.
    Root(Vec<u8>),
}

/// A link in a process's folder that the kernel follows without a path.
pub(super) struct MagicLink {
    /// Its path.
    pub(super) path: PathBuf,
    /// The file in `fdinfo` with the flags that it was opened with, for a descriptor.
    pub(super) how: Option<PathBuf>,
    /// True if only an executed or mapped file can be behind it.
    pub(super) is_program: bool,
}

impl Supervisor {
    /// Understands a path.
    pub(super) fn lead(
        &self,
        tid: i32,
        caller: &Caller,
        path: &[u8],
        follow: bool,
    ) -> rustix::io::Result<Lead> {
        let Some(inside) = path.strip_prefix(b"/proc") else {
            return match is_hidden(path) || self.is_others_terminal(path) {
                true => Err(Errno::NOENT),
                false => Ok(machine(path)),
            };
        };
        let inside = inside.strip_prefix(b"/").unwrap_or(inside);
        if inside.is_empty() {
            return Ok(Lead::Processes);
        }
        let end = inside.iter().position(|byte| *byte == b'/').unwrap_or(inside.len());
        let (first, rest) = (&inside[..end], inside[end..].strip_prefix(b"/").unwrap_or_default());
        if is_masked(first) {
            return Err(Errno::NOENT);
        }
        let is_last = rest.is_empty() && !follow;
        let own = match first {
            b"self" | b"thread-self" if is_last => return Ok(machine(path)),
            b"self" => format!("/proc/{}", caller.process),
            b"thread-self" => format!("/proc/{}/task/{tid}", caller.process),
            // In a container the command is process 1: by its root programs tell whether they are in one.
            b"1" => format!("/proc/{}", self.shown.first),
            b"mounts" if !is_last => return Ok(Lead::Made(Made::Mounts)),
            b"sys" if rest == b"kernel/hostname" => return Ok(Lead::Made(Made::Hostname)),
            b"net" if !is_last => format!("/proc/{}/net", caller.process),
            _ => {
                let Some(pid) = std::str::from_utf8(first).ok().and_then(|text| text.parse().ok())
                else {
                    return Ok(machine(path));
                };
                if !self.is_ours(pid) {
                    return Err(Errno::NOENT);
                }
                format!("/proc/{pid}")
            }
        };
        self.lead_of_process(&own, rest, follow)
    }

    /// Understands a path in a process's folder.
    fn lead_of_process(&self, folder: &str, rest: &[u8], follow: bool) -> rustix::io::Result<Lead> {
        let names: Vec<&[u8]> =
            rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let all = [folder.as_bytes(), b"/", rest].concat();
        // Threads have the same files.
        let own = match &names[..] {
            [b"task", _, own @ ..] => own,
            own => own,
        };
        let taken = names.len() - own.len();
        let behind = |is_program, how: Option<&[u8]>| {
            let how = how.map(|number| {
                let names = [&names[..taken], &[b"fdinfo", number]].concat();
                [folder.as_bytes(), b"/", &names.join(&b'/')].concat()
            });
            Ok(Lead::Behind(MagicLink {
                path: as_path(&all),
                how: how.as_deref().map(as_path),
                is_program,
            }))
        };
        let link_length = match own {
            [b"mounts"] => return Ok(Lead::Made(Made::Mounts)),
            [b"mountinfo"] => return Ok(Lead::Made(Made::MountInfo)),
            [b"root" | b"cwd"] if follow => return behind(false, None),
            [b"exe"] | [b"map_files", _] if follow => return behind(true, None),
            [b"ns", _] if follow => return behind(false, None),
            [b"fd", number] if follow => return behind(false, Some(number)),
            [b"root" | b"cwd" | b"exe", _, ..] => taken + 1,
            [b"fd" | b"map_files" | b"ns", _, _, ..] => taken + 2,
            _ => return Ok(machine(if rest.is_empty() { folder.as_bytes() } else { &all })),
        };
        // The file behind such a link is in the root, and its own links must not lead out.
        let link = [folder.as_bytes(), b"/", &names[..link_length].join(&b'/')].concat();
        let target = readlinkat(CWD, &link[..], Vec::new())?.into_bytes();
        let rest_of_path = names[link_length..].join(&b'/');
        match self.inside(&target) {
            Some(inside) => Ok(Lead::Root(clean(&inside, &rest_of_path))),
            None => Err(Errno::NOENT),
        }
    }
}

/// True for the parts of `/sys` that no container sees.
pub(super) fn is_hidden(path: &[u8]) -> bool {
    let hidden = [&b"/sys/firmware"[..], b"/sys/devices/virtual/powercap"];
    hidden.iter().any(|hidden| is_at_or_below(path, hidden))
}

fn machine(path: &[u8]) -> Lead {
    Lead::Machine(as_path(path))
}

fn as_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
