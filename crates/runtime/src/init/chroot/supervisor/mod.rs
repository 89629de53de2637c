//! Answers for `/proc`, `/sys` and what of `/dev` cannot be made, in a root where they cannot be mounted.
//!
//! The kernel tells each call that names a path. Nearly all go on as if nobody had looked; those whose path leads into
//! the kernel's folders are done here, on the machine's own files, and the result is put into the caller: an open file,
//! bytes in its memory, a number. Of processes a caller sees those that this init process has started.
//!
//! This makes programs work; it keeps none from anything. A thread can change a path between our reading and the
//! kernel's, and then it gets what it would have got without us: a look at empty folders.

mod callers;
mod paths;
mod serve;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;

use self::callers::{Caller, Callers};
pub use self::callers::{receive as receive_file, send as send_file};
pub use self::paths::Links;
use self::paths::{clean, is_at_or_below};
use crate::seccomp::{self, Answer, Notification};
use crate::sys::{self, KernelStructure};

/// The calls that name a path and are looked at.
pub fn calls() -> Vec<i64> {
    vec![
        libc::SYS_openat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_openat2,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_statfs,
        libc::SYS_symlinkat,
        libc::SYS_getxattr,
        libc::SYS_lgetxattr,
        libc::SYS_listxattr,
        libc::SYS_llistxattr,
        libc::SYS_uname,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lstat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink,
    ]
}

/// What a call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Open {
        flags: OFlags,
    },
    /// The flags are at this address.
    OpenHow {
        how: u64,
    },
    Stat {
        buffer: u64,
        follow: bool,
    },
    Statx {
        buffer: u64,
        follow: bool,
        mask: u32,
    },
    ReadLink {
        buffer: u64,
        size: u64,
    },
    Access {
        mode: u32,
    },
    Execute,
    StatFs {
        buffer: u64,
    },
    /// A change of the folder around, and with another path of the folder around that.
    Change {
        other: Option<(Option<i32>, u64)>,
    },
    /// Attributes, of which the kernel's files have none.
    Attribute {
        follow: bool,
    },
    Attributes {
        follow: bool,
    },
    /// The target's text is at this address.
    Link {
        target: u64,
    },
}

impl Wish {
    /// Whether a link at the path's end counts.
    fn follows(self) -> bool {
        match self {
            Wish::Open { flags } => !flags.contains(OFlags::NOFOLLOW),
            Wish::Stat { follow, .. }
            | Wish::Statx { follow, .. }
            | Wish::Attribute { follow }
            | Wish::Attributes { follow } => follow,
            Wish::ReadLink { .. } | Wish::Link { .. } | Wish::Change { .. } => false,
            Wish::OpenHow { .. } | Wish::Access { .. } | Wish::Execute | Wish::StatFs { .. } => {
                true
            }
        }
    }
}

/// A call that names a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    /// What a relative path is relative to; none is the working directory.
    folder: Option<i32>,
    /// Where the path is in memory.
    path: u64,
    wish: Wish,
}

impl Call {
    /// Reads the arguments of a call; none for one that names no path after all.
    fn of(call: i64, args: &[u64; 6]) -> Option<Call> {
        let at = |index: usize| {
            let fd = args[index] as i32;
            (fd != libc::AT_FDCWD).then_some(fd)
        };
        let flag = |index: usize, flag: i32| args[index] as i32 & flag != 0;
        let open =
            |index: usize| Wish::Open { flags: OFlags::from_bits_retain(args[index] as u32) };
        let here = |path: usize, wish| Call { folder: None, path: args[path], wish };
        let there = |wish| Call { folder: at(0), path: args[1], wish };
        let follow = |index| !flag(index, libc::AT_SYMLINK_NOFOLLOW);
        #[cfg(target_arch = "x86_64")]
        match call {
            libc::SYS_open => return Some(here(0, open(1))),
            libc::SYS_stat => return Some(here(0, Wish::Stat { buffer: args[1], follow: true })),
            libc::SYS_lstat => return Some(here(0, Wish::Stat { buffer: args[1], follow: false })),
            libc::SYS_access => return Some(here(0, Wish::Access { mode: args[1] as u32 })),
            libc::SYS_readlink => {
                return Some(here(0, Wish::ReadLink { buffer: args[1], size: args[2] }));
            }
            libc::SYS_symlink => return Some(here(1, Wish::Link { target: args[0] })),
            libc::SYS_mkdir | libc::SYS_rmdir | libc::SYS_unlink | libc::SYS_mknod => {
                return Some(here(0, Wish::Change { other: None }));
            }
            libc::SYS_creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                return Some(here(0, Wish::Open { flags }));
            }
            libc::SYS_rename | libc::SYS_link => {
                return Some(here(0, Wish::Change { other: Some((None, args[1])) }));
            }
            _ => {}
        }
        Some(match call {
            libc::SYS_openat => there(open(2)),
            libc::SYS_openat2 => there(Wish::OpenHow { how: args[2] }),
            // With this flag the path is empty, and the descriptor is meant.
            libc::SYS_newfstatat if flag(3, libc::AT_EMPTY_PATH) => return None,
            libc::SYS_newfstatat => there(Wish::Stat { buffer: args[2], follow: follow(3) }),
            libc::SYS_statx if flag(2, libc::AT_EMPTY_PATH) => return None,
            libc::SYS_statx => {
                there(Wish::Statx { buffer: args[4], follow: follow(2), mask: args[3] as u32 })
            }
            libc::SYS_readlinkat => there(Wish::ReadLink { buffer: args[2], size: args[3] }),
            libc::SYS_faccessat | libc::SYS_faccessat2 => {
                there(Wish::Access { mode: args[2] as u32 })
            }
            libc::SYS_execve => here(0, Wish::Execute),
            libc::SYS_execveat if flag(4, libc::AT_EMPTY_PATH) => return None,
            libc::SYS_execveat => there(Wish::Execute),
            libc::SYS_statfs => here(0, Wish::StatFs { buffer: args[1] }),
            libc::SYS_getxattr => here(0, Wish::Attribute { follow: true }),
            libc::SYS_lgetxattr => here(0, Wish::Attribute { follow: false }),
            libc::SYS_listxattr => here(0, Wish::Attributes { follow: true }),
            libc::SYS_llistxattr => here(0, Wish::Attributes { follow: false }),
            libc::SYS_symlinkat => {
                Call { folder: at(1), path: args[2], wish: Wish::Link { target: args[0] } }
            }
            libc::SYS_mkdirat | libc::SYS_unlinkat | libc::SYS_mknodat => {
                there(Wish::Change { other: None })
            }
            libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
                there(Wish::Change { other: Some((at(2), args[3])) })
            }
            _ => return None,
        })
    }
}

/// The calls that change folders: looked at where something must not be written to.
pub fn changing_calls() -> Vec<i64> {
    vec![
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_mknodat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_renameat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rmdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat,
    ]
}

/// The calls that wait for a disk. What a RUN leaves is stored, or done again: none of them is worth its time, as on an
/// overlay that is mounted `volatile`.
pub fn syncing_calls() -> Vec<i64> {
    vec![
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_sync,
        libc::SYS_syncfs,
        libc::SYS_sync_file_range,
    ]
}

/// Answers calls.
pub struct Supervisor {
    listener: OwnedFd,
    /// The root of the calls' paths, as this process names it.
    root: Vec<u8>,
    /// What stands at `/proc` in the root.
    proc: OwnedFd,
    links: Links,
    callers: Callers,
    /// The program that the last call executed by a link in `/proc`, and when.
    executed: Option<(Vec<u8>, Instant)>,
    shown: Shown,
}

/// What else the calls are to see.
pub struct Shown {
    /// What the machine is called.
    pub hostname: String,
    /// What seems to be mounted.
    pub mounted: Vec<Mounted>,
}

/// Something that stands at a place as if it were mounted there.
pub struct Mounted {
    pub target: String,
    /// The type of file system that it would be.
    pub kind: &'static str,
    pub readonly: bool,
}

impl Supervisor {
    pub fn new(
        listener: OwnedFd,
        root: &Path,
        proc: OwnedFd,
        links: Links,
        shown: Shown,
    ) -> Supervisor {
        let root = root.as_os_str().as_bytes().to_vec();
        Supervisor {
            listener,
            root,
            proc,
            links,
            callers: Callers::default(),
            executed: None,
            shown,
        }
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers the next call.
    ///
    /// # Errors
    /// When nobody will call any more.
    pub fn serve_one(&mut self) -> rustix::io::Result<()> {
        let Some(told) = seccomp::receive(&self.listener)? else { return Ok(()) };
        let given = self.decide(&told).unwrap_or(Given::Answer(Answer::GoOn));
        match given {
            Given::Answer(answer) => seccomp::answer(&self.listener, told.id, answer),
            Given::File(file, close_on_exec) => {
                match seccomp::answer_with_file(&self.listener, told.id, file, close_on_exec) {
                    Ok(()) | Err(Errno::NOENT | Errno::INPROGRESS) => {}
                    Err(errno) => seccomp::answer(&self.listener, told.id, Answer::Fail(errno)),
                }
            }
        }
        Ok(())
    }

    /// What a call gets. What cannot be looked at goes on.
    fn decide(&mut self, told: &Notification) -> rustix::io::Result<Given> {
        let go_on = Ok(Given::Answer(Answer::GoOn));
        if told.call == libc::SYS_uname {
            let names = sys::uname_as(&self.shown.hostname)?;
            self.callers.write(told.tid, told.args[0], &names)?;
            return Ok(Given::Answer(Answer::Value(0)));
        }
        let Some(call) = Call::of(told.call, &told.args) else { return go_on };
        let path = self.callers.read_path(told.tid, call.path)?;
        if call.wish == Wish::Execute {
            self.callers.forget_memory(told.tid);
        }
        if path.is_empty() {
            return go_on;
        }
        let base = if path[0] == b'/' { Base::Root } else { self.base(told.tid, call.folder)? };
        if self.must_not_write(told.tid, &call, &base, &path)? {
            return Ok(Given::Answer(Answer::Fail(Errno::ROFS)));
        }
        if let Wish::Change { .. } = call.wish {
            return go_on;
        }
        if let Wish::Link { target } = call.wish {
            let target = self.callers.read_path(told.tid, target)?;
            if let Base::Folder(folder) = &base {
                self.links.learn(&clean(folder, &path), &target);
            } else {
                self.links.learn(&path, &target);
            }
            return go_on;
        }
        let (folder, is_kernels) = match &base {
            Base::Root => (&b""[..], false),
            Base::Folder(folder) => (&folder[..], false),
            Base::Kernels(folder) => (&folder[..], true),
            Base::Elsewhere => return go_on,
        };
        let mut call = call;
        if let Wish::OpenHow { how } = call.wish {
            let mut bytes = [0; 24];
            self.callers.read(told.tid, how, &mut bytes)?;
            let number =
                |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
            // Who restricts the way means a tree of his own.
            if number(16) != 0 && !is_kernels {
                return go_on;
            }
            call.wish = Wish::Open { flags: OFlags::from_bits_retain(number(0) as u32) };
        }
        let is_link = |link: &[u8]| self.is_link(link);
        let Some(leads) = self.links.resolve(folder, &path, call.wish.follows(), is_link) else {
            // Out of the kernel's folders: the caller's descriptor is of the machine's own.
            return if is_kernels { Ok(Given::Answer(Answer::Fail(Errno::ACCESS))) } else { go_on };
        };
        if !seccomp::waits(&self.listener, told.id) {
            return go_on;
        }
        if !self.has_our_root(told.tid) {
            return go_on;
        }
        Ok(match self.serve(told.tid, &call.wish, &leads) {
            Ok(given) => given,
            Err(errno) => Given::Answer(Answer::Fail(errno)),
        })
    }

    /// What relative paths are relative to.
    fn base(&mut self, tid: i32, fd: Option<i32>) -> rustix::io::Result<Base> {
        let folder = self.callers.folder(tid, fd)?;
        Ok(match self.inside(&folder) {
            Some(inside) => Base::Folder(inside),
            None if self.links.resolve(b"", &folder, true, |_| false).is_some() => {
                Base::Kernels(folder)
            }
            None => Base::Elsewhere,
        })
    }

    /// Whether a path of the root is a link now.
    fn is_link(&self, path: &[u8]) -> bool {
        let path = [&self.root[..], path].concat();
        rustix::fs::readlinkat(rustix::fs::CWD, path, Vec::new()).is_ok()
    }

    /// Whether a call would write where it must not.
    fn must_not_write(
        &mut self,
        tid: i32,
        call: &Call,
        base: &Base,
        path: &[u8],
    ) -> rustix::io::Result<bool> {
        if !self.shown.mounted.iter().any(|mounted| mounted.readonly) {
            return Ok(false);
        }
        let writes = match call.wish {
            Wish::Open { flags } => {
                flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
            }
            Wish::Change { .. } | Wish::Link { .. } => true,
            _ => false,
        };
        if !writes {
            return Ok(false);
        }
        if self.is_readonly(base, path) {
            return Ok(true);
        }
        let Wish::Change { other: Some((folder, address)) } = call.wish else { return Ok(false) };
        let path = self.callers.read_path(tid, address)?;
        let base = match path.first() {
            Some(b'/') | None => Base::Root,
            Some(_) => self.base(tid, folder)?,
        };
        Ok(self.is_readonly(&base, &path))
    }

    fn is_readonly(&self, base: &Base, path: &[u8]) -> bool {
        let path = match base {
            Base::Root => clean(b"", path),
            Base::Folder(folder) => clean(folder, path),
            Base::Kernels(_) | Base::Elsewhere => return false,
        };
        let mut readonly = self.shown.mounted.iter().filter(|mounted| mounted.readonly);
        readonly.any(|mounted| is_at_or_below(&path, mounted.target.as_bytes()))
    }

    /// The path that a path of this process has in the root.
    fn inside(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = is_at_or_below(path, &self.root).then(|| &path[self.root.len()..])?;
        Some(if rest.is_empty() { b"/".to_vec() } else { rest.to_vec() })
    }

    /// Whether a thread's paths begin where we think: a program can enter a root of its own.
    fn has_our_root(&mut self, tid: i32) -> bool {
        let found = std::fs::read_link(format!("/proc/{tid}/root"));
        // Of another user's thread it cannot be seen, and only root can change its root.
        found.map_or(true, |found| found.as_os_str().as_bytes() == self.root)
    }
}

/// Where relative paths begin.
enum Base {
    /// Nowhere: the path is absolute.
    Root,
    /// In the root.
    Folder(Vec<u8>),
    /// In the kernel's folders, by a descriptor that was put into the caller.
    Kernels(Vec<u8>),
    /// Somewhere that has no path.
    Elsewhere,
}

/// What a call gets.
enum Given {
    Answer(Answer),
    /// An open file; whether it is closed when the caller executes another program.
    File(OwnedFd, bool),
}

impl From<File> for Given {
    fn from(file: File) -> Given {
        Given::File(file.into(), true)
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
fn parent_of(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A program's name may hold anything.
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Whether a process comes of `init`.
fn descends_from(init: i32, mut pid: i32) -> bool {
    // Nobody has so many ancestors; the chain may change while it is followed.
    for _ in 0..1024 {
        match parent_of(pid) {
            Some(parent) if parent == init => return true,
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
    false
}

/// The bytes that the kernel would write for a structure.
fn bytes_of<T: KernelStructure>(structure: &T) -> &[u8] {
    structure.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_without_a_path_are_nobodys() {
        let args = |third: i32| [3, 0x1000, 0x2000, third as u64, 0, 0];
        assert_eq!(Call::of(libc::SYS_newfstatat, &args(libc::AT_EMPTY_PATH)), None);
        let call = Call::of(libc::SYS_newfstatat, &args(libc::AT_SYMLINK_NOFOLLOW)).unwrap();
        assert_eq!(call.folder, Some(3));
        assert_eq!(call.wish, Wish::Stat { buffer: 0x2000, follow: false });
        let args = [libc::AT_FDCWD as u32 as u64, 0x1000, libc::O_NOFOLLOW as u64, 0, 0, 0];
        let call = Call::of(libc::SYS_openat, &args).unwrap();
        assert_eq!(call.folder, None);
        assert!(!call.wish.follows());
        assert!(calls().iter().all(|call| *call >= 0));
    }
}
