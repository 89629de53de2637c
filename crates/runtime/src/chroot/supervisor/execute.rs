//! Executing what a link in `/proc` leads to: `/proc/self/exe`, `/proc/self/fd/7`.
//!
//! The kernel looks the path up by itself. So the link is made, in the `/proc` of the root, as that one call has to see
//! it, and stays until another call needs another one there.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::behind::Owner;
use super::callers::Rights;
use super::lead::Lead;
use super::stand_in::make_folders;
use super::{CallReply, Supervisor, go_on};
use crate::init::walk::{fd_path, file_type};

/// The longest time between a program's call and the kernel's reading of the link. Only waited for if another program
/// is wanted meanwhile.
const EXECUTION: Duration = Duration::from_millis(200);

/// A program that was executed by a link in `/proc`.
pub(super) struct Executed {
    tid: i32,
    rights: Rights,
    /// The state before, by which the start of the next program is seen.
    before: Option<String>,
    /// The link, below `/proc`, and where it leads; none if it is a copy.
    link: Vec<u8>,
    target: Option<Vec<u8>>,
    when: Instant,
}

impl Executed {
    /// Waits until the kernel has read the link.
    fn wait(&self) {
        let _as_caller = self.rights.take();
        while self.when.elapsed() < EXECUTION && program_of(self.tid) == self.before {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Supervisor {
    /// Has the kernel find what it is to execute. `path` is the link's own.
    pub(super) fn execute(
        &mut self,
        tid: i32,
        path: &[u8],
        lead: &Lead,
        rights: &Rights,
    ) -> rustix::io::Result<CallReply> {
        let (Lead::Behind(machines), Some(link)) = (lead, path.strip_prefix(b"/proc/")) else {
            // The kernel finds an empty file at most.
            return go_on();
        };
        let as_caller = rights.take()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (program, owner) = self.behind(machines)?;
        let itself = rustix::fs::open(&machines.path, flags, Mode::empty())?;
        if owner != Owner::Root || file_type(&program)? != FileType::RegularFile {
            return Err(Errno::ACCESS);
        }
        let target = self.link_text(&itself)?;
        let target = self.leads_to(&target, &program).then_some(target);
        let before = program_of(tid);
        drop(as_caller);

        if let Some(last) = &self.executed {
            if last.link == link && last.target.is_some() && last.target == target {
                return go_on();
            }
            last.wait();
        }
        self.place_program(link, target.as_deref(), &program, rights)?;
        let (link, when) = (link.to_vec(), Instant::now());
        let rights = rights.clone();
        self.executed = Some(Executed { tid, rights, before, link, target, when });
        go_on()
    }

    /// True if a path of the root is this file: it may have been removed, or never have had a name.
    fn leads_to(&self, path: &[u8], file: &OwnedFd) -> bool {
        let named = self.open_inside(path, OFlags::PATH | OFlags::CLOEXEC, 0);
        match (named.and_then(fstat), fstat(file)) {
            (Ok(named), Ok(file)) => (named.st_dev, named.st_ino) == (file.st_dev, file.st_ino),
            _ => false,
        }
    }

    /// Puts a link, or a copy of a program without a name, into the `/proc` of the root.
    fn place_program(
        &self,
        link: &[u8],
        target: Option<&[u8]>,
        program: &OwnedFd,
        rights: &Rights,
    ) -> rustix::io::Result<()> {
        let link = Path::new(std::ffi::OsStr::from_bytes(link));
        let name = link.file_name().ok_or(Errno::NOENT)?;
        let folder = self.folder_in_proc(link.parent().unwrap_or(Path::new("")))?;
        match unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        if let Some(target) = target {
            return symlinkat(target, &folder, name);
        }
        let as_caller = rights.take()?;
        let mut from = File::from(rustix::fs::open(
            fd_path(program),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        drop(as_caller);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = fstat(program)?.st_mode & 0o777;
        let to = openat(&folder, name, flags, Mode::from_raw_mode(mode))?;
        std::io::copy(&mut from, &mut File::from(to)).map(drop).map_err(|_| Errno::IO)
    }

    /// A folder in the `/proc` of the root, made where it is not there.
    pub(super) fn folder_in_proc(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        make_folders(self.kernels.proc.as_ref().ok_or(Errno::NOENT)?, path)
    }
}

/// The part of `/proc/TID/stat` that changes when a thread executes another program: the start of its stack, which is
/// shown to those who may trace it, and its name.
fn program_of(tid: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    let (name, fields) = text.rsplit_once(") ")?;
    Some(format!("{name} {}", fields.split(' ').nth(25)?))
}
