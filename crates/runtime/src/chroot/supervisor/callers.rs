//! Looking into the processes that are supervised: their memory, folders, ids.
//!
//! The kernel lets a process without CAP_SYS_PTRACE look into one of the same user and group only, and goes by the ids for
//! file access (ptrace(2), PTRACE_MODE_FSCREDS). So this process takes on a caller's for the moment of a look: setfsuid(2).
//! It stays an ancestor of all of them, which is what Yama asks for.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use crate::init::processes::parent_of;
use crate::init::walk::fd_path;
use crate::sys::FileRights;

/// The longest path of a system call, with its zero.
pub const LONGEST_PATH: usize = 4096;

/// Limit of memories that are kept open.
const MOST_MEMORIES: usize = 512;

/// Longest value of an extended attribute, and longest list of their names.
pub const LARGEST_ATTRIBUTE: usize = 65536;

/// The ids by which a process may access files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// A thread, as `/proc/TID/status` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its process.
    pub process: i32,
    /// The bits that its new files do not get.
    pub umask: u32,
    pub rights: Rights,
}

impl Caller {
    /// Looks a thread up.
    pub fn find(tid: i32) -> rustix::io::Result<Caller> {
        let text =
            std::fs::read_to_string(format!("/proc/{tid}/status")).map_err(|_| Errno::SRCH)?;
        Caller::parse(&text).ok_or(Errno::SRCH)
    }

    fn parse(status: &str) -> Option<Caller> {
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
        };
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
        // Real, effective, saved, of the file system: the second is what counts.
        Some(Caller {
            process: i32::try_from(*numbers("Tgid:")?.first()?).ok()?,
            umask: u32::from_str_radix(umask.trim(), 8).ok()?,
            rights: Rights {
                uid: *numbers("Uid:")?.get(1)?,
                gid: *numbers("Gid:")?.get(1)?,
                groups: numbers("Groups:")?,
            },
        })
    }
}

/// Ways into supervised processes.
#[derive(Default)]
pub struct Callers {
    memories: HashMap<i32, Memory>,
    /// The user and group that could open something last.
    last: Option<(u32, u32)>,
}

/// A thread's memory. It stays open when the thread changes its user, which hides it from then on.
struct Memory {
    file: File,
    /// An address that could be read.
    address: u64,
}

impl Callers {
    /// A text in a thread's memory, without its zero.
    pub fn read_path(&mut self, tid: i32, address: u64) -> rustix::io::Result<Vec<u8>> {
        let mut text = vec![0; 256];
        let mut length = 0;
        loop {
            let count = self.read(tid, address + length as u64, &mut text[length..])?;
            if count == 0 {
                return Err(Errno::FAULT);
            }
            let piece = &text[length..length + count];
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.truncate(length + end);
                return Ok(text);
            }
            length += count;
            if length >= LONGEST_PATH {
                return Err(Errno::NAMETOOLONG);
            }
            if length == text.len() {
                text.resize(LONGEST_PATH, 0);
            }
        }
    }

    /// Some bytes of a thread's memory: as many as there are, up to the first page that is not there.
    pub fn read(&mut self, tid: i32, address: u64, bytes: &mut [u8]) -> rustix::io::Result<usize> {
        if let Some(memory) = self.memories.get(&tid)
            && let Ok(count) = memory.file.read_at(bytes, address)
            && count > 0
        {
            return Ok(count);
        }
        // The thread of that number may be another one, or have executed another program.
        let file = match self.open_memory(tid) {
            Err(Errno::ACCESS | Errno::PERM) => return self.read_of_parent(tid, address, bytes),
            file => file?,
        };
        let count = file.read_at(bytes, address).map_err(|_| Errno::FAULT)?;
        if self.memories.len() >= MOST_MEMORIES {
            self.memories.retain(|_, memory| memory.is_alive());
            if self.memories.len() >= MOST_MEMORIES {
                self.memories.clear();
            }
        }
        self.memories.insert(tid, Memory { file, address });
        Ok(count)
    }

    /// The same of the process that a thread's came of. The kernel hides the memory of one whose parent has changed its
    /// user, as `apt-get` does, until it executes something. Up to then it has what its parent had.
    fn read_of_parent(
        &self,
        tid: i32,
        address: u64,
        bytes: &mut [u8],
    ) -> rustix::io::Result<usize> {
        let process = Caller::find(tid)?.process;
        let parent = parent_of(process).and_then(|parent| self.memories.get(&parent));
        parent.ok_or(Errno::ACCESS)?.file.read_at(bytes, address).map_err(|_| Errno::FAULT)
    }

    /// `size` bytes of a thread's memory.
    pub fn read_all(&mut self, tid: i32, address: u64, size: u64) -> rustix::io::Result<Vec<u8>> {
        let size = usize::try_from(size).ok().filter(|size| *size <= LARGEST_ATTRIBUTE);
        let mut bytes = vec![0; size.ok_or(Errno::TOOBIG)?];
        if !bytes.is_empty() && self.read(tid, address, &mut bytes)? != bytes.len() {
            return Err(Errno::FAULT);
        }
        Ok(bytes)
    }

    /// Puts bytes into a thread's memory, which has been read from.
    pub fn write(&mut self, tid: i32, address: u64, bytes: &[u8]) -> rustix::io::Result<()> {
        if let Some(memory) = self.memories.get(&tid)
            && memory.file.write_all_at(bytes, address).is_ok()
        {
            return Ok(());
        }
        let memory = self.open_memory(tid)?;
        memory.write_all_at(bytes, address).map_err(|_| Errno::FAULT)
    }

    /// When a thread begins to execute another program. It may share its memory with its parent until then, and have one
    /// of its own afterwards.
    pub fn begin_execution(&mut self, tid: i32) {
        self.memories.remove(&tid);
    }

    fn open_memory(&mut self, tid: i32) -> rustix::io::Result<File> {
        let path = format!("/proc/{tid}/mem");
        self.open_for(tid, path.as_ref(), OFlags::RDWR).map(File::from)
    }

    /// The path of a thread's descriptor, or with none of its working directory, as this process sees it.
    pub fn folder(&mut self, tid: i32, fd: Option<i32>) -> rustix::io::Result<Vec<u8>> {
        let path = match fd {
            Some(fd) => format!("/proc/{tid}/fd/{fd}"),
            None => format!("/proc/{tid}/cwd"),
        };
        // Opened, it can be asked where it is without any rights.
        let found = match readlinkat(CWD, &path, Vec::new()) {
            Err(Errno::ACCESS | Errno::PERM) => {
                let opened = self.open_for(tid, path.as_ref(), OFlags::PATH)?;
                readlinkat(CWD, fd_path(&opened), Vec::new())?
            }
            result => result?,
        };
        Ok(found.into_bytes())
    }

    /// Opens something of a thread's, as itself or else with the thread's ids.
    fn open_for(&mut self, tid: i32, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let open = || openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        let open_as = |(uid, gid): (u32, u32)| {
            let _as_caller = FileRights::take(uid, gid, None)?;
            open()
        };
        match open() {
            Err(Errno::ACCESS | Errno::PERM) => {}
            result => return result,
        }
        // Most that a command starts have one user.
        if let Some(last) = self.last
            && let Ok(opened) = open_as(last)
        {
            return Ok(opened);
        }
        let rights = Caller::find(tid)?.rights;
        let opened = open_as((rights.uid, rights.gid))?;
        self.last = Some((rights.uid, rights.gid));
        Ok(opened)
    }
}

impl Memory {
    /// True while the program runs.
    fn is_alive(&self) -> bool {
        self.file.read_at(&mut [0], self.address).is_ok_and(|count| count > 0)
    }
}

impl Rights {
    /// Takes them on, unless they are root's.
    pub fn take(&self) -> rustix::io::Result<Option<FileRights>> {
        if self.uid == 0 {
            return Ok(None);
        }
        FileRights::take(self.uid, self.gid, Some(&self.groups)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_effective_ids_are_read() {
        let status = "Name:\tx\nUmask:\t0022\nTgid:\t12\nPid:\t13\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        let rights = Rights { uid: 2, gid: 6, groups: vec![9, 10] };
        assert_eq!(Caller::parse(status), Some(Caller { process: 12, umask: 0o22, rights }));
        assert_eq!(Caller::parse("Tgid:\t12\n"), None);
    }
}
