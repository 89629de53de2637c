//! Looking into the processes that are supervised: their memory, folders, ids.
//!
//! The kernel lets a process without CAP_SYS_PTRACE look into one of the same user and group only, and goes by the ids for
//! file access (ptrace(2), PTRACE_MODE_FSCREDS). So this process takes on a caller's for the moment of a look: setfsuid(2).
//! It stays an ancestor of all of them, which is what Yama asks for.

use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat, readlinkat};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::sys::FileRights;

/// The longest path of a system call, with its zero.
pub const LONGEST_PATH: usize = 4096;

/// So many threads' memories are kept open.
const MOST_MEMORIES: usize = 256;

/// Whose rights a process has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// What `/proc/TID/status` says of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its process.
    pub process: i32,
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
        // Real, effective, saved, of the file system: the second is what counts.
        Some(Caller {
            process: i32::try_from(*numbers("Tgid:")?.first()?).ok()?,
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
    memories: HashMap<i32, File>,
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
            && let Ok(count) = memory.read_at(bytes, address)
            && count > 0
        {
            return Ok(count);
        }
        // The thread of that number may be another one, or have executed another program.
        let memory = self.open_memory(tid)?;
        let count = memory.read_at(bytes, address).map_err(|_| Errno::FAULT)?;
        if self.memories.len() >= MOST_MEMORIES {
            self.memories.clear();
        }
        self.memories.insert(tid, memory);
        Ok(count)
    }

    /// Puts bytes into a thread's memory.
    pub fn write(&mut self, tid: i32, address: u64, bytes: &[u8]) -> rustix::io::Result<()> {
        let memory = self.open_memory(tid)?;
        memory.write_all_at(bytes, address).map_err(|_| Errno::FAULT)
    }

    /// After a thread has begun to execute another program.
    pub fn forget_memory(&mut self, tid: i32) {
        self.memories.remove(&tid);
    }

    fn open_memory(&mut self, tid: i32) -> rustix::io::Result<File> {
        let path = format!("/proc/{tid}/mem");
        self.open_for(tid, path.as_ref(), OFlags::RDWR).map(File::from)
    }

    /// Where a thread's descriptor, or with none its working directory, leads, as this process sees it.
    pub fn folder(&mut self, tid: i32, fd: Option<i32>) -> rustix::io::Result<Vec<u8>> {
        let path = match fd {
            Some(fd) => format!("/proc/{tid}/fd/{fd}"),
            None => format!("/proc/{tid}/cwd"),
        };
        let found = match readlinkat(CWD, &path, Vec::new()) {
            Err(Errno::ACCESS | Errno::PERM) => {
                let opened = self.open_for(tid, path.as_ref(), OFlags::PATH)?;
                readlinkat(CWD, super::super::super::walk::fd_path(&opened), Vec::new())?
            }
            result => result?,
        };
        Ok(found.into_bytes())
    }

    /// Opens something of a thread's, as itself or else with the thread's ids.
    fn open_for(&mut self, tid: i32, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        match openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::ACCESS | Errno::PERM) => {
                let rights = Caller::find(tid)?.rights;
                let as_caller = FileRights::take(rights.uid, rights.gid, None)?;
                let opened = openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
                drop(as_caller);
                opened
            }
            result => result,
        }
    }

    /// Opens a path of this machine with somebody's rights.
    pub fn open_as(
        &self,
        rights: &Rights,
        path: &Path,
        flags: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        let _as_caller = rights.take()?;
        openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// Whether somebody may do something with a path of this machine.
    pub fn access_as(&self, rights: &Rights, path: &Path, mode: u32) -> rustix::io::Result<()> {
        let _as_caller = rights.take()?;
        accessat(CWD, path, Access::from_bits_truncate(mode), AtFlags::EACCESS)
    }
}

impl Rights {
    /// Takes them on, unless they are root's.
    fn take(&self) -> rustix::io::Result<Option<FileRights>> {
        if self.uid == 0 {
            return Ok(None);
        }
        FileRights::take(self.uid, self.gid, Some(&self.groups)).map(Some)
    }
}

/// Sends a message, and a descriptor with it.
pub fn send(socket: impl AsFd, message: &[u8], file: Option<&OwnedFd>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|file| [file.as_fd()]);
    if let Some(files) = &files {
        ancillary.push(SendAncillaryMessage::ScmRights(files));
    }
    let message = [std::io::IoSlice::new(message)];
    sendmsg(socket, &message, &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Receives a message; none when the other side is gone.
pub fn receive(socket: impl AsFd) -> rustix::io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST_PATH + 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut file = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            file = files.last();
        }
    }
    bytes.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((bytes, file)))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn a_callers_effective_ids_are_read() {
        let status =
            "Name:\tx\nTgid:\t12\nPid:\t13\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        let rights = Rights { uid: 2, gid: 6, groups: vec![9, 10] };
        assert_eq!(Caller::parse(status), Some(Caller { process: 12, rights }));
        assert_eq!(Caller::parse("Tgid:\t12\n"), None);
    }

    #[test]
    fn messages_carry_descriptors() {
        let (left, right) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        send(&left, b"hello", Some(&null)).unwrap();
        let (message, file) = receive(&right).unwrap().unwrap();
        assert_eq!((&message[..], file.is_some()), (&b"hello"[..], true));
        drop(left);
        assert!(receive(&right).unwrap().is_none());
    }
}
