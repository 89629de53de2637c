//! Answers for `/proc`, `/sys` and what of `/dev` cannot be made, in a root where they cannot be mounted.
//!
//! The kernel tells each call that names a path. Nearly all go on as if there were no supervisor; those whose path leads into
//! the kernel's folders are done here, on the machine's own files, and the result is put into the caller: an open file,
//! bytes in its memory, a number. Of processes a caller sees those that this init process has started.
//!
//! A thread can change a path between our reading and the kernel's, and then it gets what it would have got without us: a
//! look at empty folders. So nothing that goes on may reach outside by itself, and what is handed over must not lead
//! there: no folder of the kernel's, whose `..` are not the root's, only a folder of the root that shows the same names
//! ([`stand_in`]), and behind the link of a process only what is seen to be the root's own or without a file system ([`behind`]). No
//! process gets another root, for the way out of a second one leads past the first.

mod behind;
mod callers;
mod calls;
mod execute;
mod lead;
mod made;
mod paths;
mod serve;
mod stand_in;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, OFlags, fstat, memfd_create};
use rustix::io::Errno;

use self::callers::{Caller, Callers};
use self::calls::{Call, Wish};
pub use self::calls::{calls, changing_calls, syncing_calls, tracing_calls};
use self::execute::Executed;
pub use self::paths::Links;
use self::paths::{clean, is_at_or_below};
use super::notify::{self, Answer, Notification};
use crate::init::processes::descends_from;
use crate::sys::{self, KernelStructure};

/// Answers calls.
pub struct Supervisor {
    /// The root of the calls' paths, as this process names it, and opened: the way there is closed to others than root.
    root: Vec<u8>,
    top: OwnedFd,
    kernels: Kernels,
    /// The device of files that exist in memory alone (memfd_create(2)).
    memory: u64,
    /// The terminals that were made by who is supervised, by number.
    terminals: BTreeSet<u32>,
    /// Processes that are no commands yet, but this program with its rights and files.
    hidden: BTreeSet<i32>,
    refused_root: bool,
    links: Links,
    callers: Callers,
    /// The last program that was executed by a link in `/proc`.
    executed: Option<Executed>,
    shown: ContainerView,
}

/// The folders of the root that stand for the kernel's; none where a mount was wanted there.
#[derive(Default)]
pub struct Kernels {
    pub proc: Option<OwnedFd>,
    pub sys: Option<OwnedFd>,
    pub pts: Option<OwnedFd>,
}

/// The rest of the machine as the calls see it.
pub struct ContainerView {
    /// The command's first process, which is number 1 in a container.
    pub first: i32,
    /// The machine's name.
    pub hostname: String,
    /// The mounts that there seem to be.
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
        (root, top): (&Path, OwnedFd),
        kernels: Kernels,
        links: Links,
        shown: ContainerView,
    ) -> rustix::io::Result<Supervisor> {
        let root = root.as_os_str().as_bytes().to_vec();
        let memory = fstat(memfd_create("memory", MemfdFlags::CLOEXEC)?)?.st_dev;
        Ok(Supervisor {
            root,
            top,
            kernels,
            memory,
            terminals: BTreeSet::new(),
            hidden: BTreeSet::new(),
            refused_root: false,
            links,
            callers: Callers::default(),
            executed: None,
            shown,
        })
    }

    /// True if a process wanted another root.
    pub fn has_refused_a_root(&self) -> bool {
        self.refused_root
    }

    /// Lets the supervised processes use a terminal that was made for one of them.
    pub fn add_terminal(&mut self, number: u32) {
        self.terminals.insert(number);
    }

    /// Keeps a process from all others.
    pub fn hide(&mut self, pid: i32) {
        self.hidden.insert(pid);
    }

    /// Ends [`Supervisor::hide`].
    pub fn show(&mut self, pid: i32) {
        self.hidden.remove(&pid);
    }

    /// True for a process, or a thread of one, that supervised processes may see.
    fn is_ours(&self, pid: i32) -> bool {
        !self.hidden.contains(&pid) && descends_from(std::process::id() as i32, pid)
    }

    /// Answers the next call that a listener tells. Each command has one.
    ///
    /// # Errors
    /// If none of its processes is left.
    pub fn serve_one(&mut self, listener: &OwnedFd) -> rustix::io::Result<()> {
        let Some(told) = notify::receive(listener)? else { return Ok(()) };
        let given = self.decide(listener, &told).unwrap_or(CallReply::Answer(Answer::GoOn));
        match given {
            CallReply::Answer(answer) => notify::answer(listener, told.id, answer),
            CallReply::File(file, close_on_exec) => {
                match notify::answer_with_file(listener, told.id, file, close_on_exec) {
                    Ok(()) | Err(Errno::NOENT | Errno::INPROGRESS) => {}
                    Err(errno) => notify::answer(listener, told.id, Answer::Fail(errno)),
                }
            }
        }
        Ok(())
    }

    /// The answer to a call. A call that cannot be looked at goes on.
    fn decide(&mut self, listener: &OwnedFd, told: &Notification) -> rustix::io::Result<CallReply> {
        if told.call == libc::SYS_uname {
            let names = sys::uname_as(&self.shown.hostname)?;
            self.callers.write(told.tid, told.args[0], &names)?;
            return Ok(CallReply::Answer(Answer::Value(0)));
        }
        if told.call == libc::SYS_chroot {
            return Ok(CallReply::Answer(self.change_root(told)));
        }
        if let Some(pid) = calls::reached(told.call, &told.args) {
            return Ok(CallReply::Answer(if self.is_ours(pid) {
                Answer::GoOn
            } else {
                Answer::Fail(Errno::PERM)
            }));
        }
        if matches!(told.call, libc::SYS_execve | libc::SYS_execveat) {
            // It has another memory afterwards, also where the program is named by a descriptor.
            self.callers.begin_execution(told.tid);
        }
        let Some(call) = Call::of(told.call, &told.args) else { return go_on() };
        let path = self.callers.read_path(told.tid, call.path)?;
        if path.is_empty() {
            return go_on();
        }
        let base = if path[0] == b'/' { Base::Root } else { self.base(told.tid, call.folder)? };
        if self.must_not_write(told.tid, &call, &base, &path)? {
            return Ok(CallReply::Answer(Answer::Fail(Errno::ROFS)));
        }
        if let Wish::Change { .. } = call.wish {
            return go_on();
        }
        if let Wish::Link { target } = call.wish {
            let target = self.callers.read_path(told.tid, target)?;
            if let Base::Folder(folder) = &base {
                self.links.learn(&clean(folder, &path), &target);
            } else {
                self.links.learn(&path, &target);
            }
            return go_on();
        }
        let folder = match &base {
            Base::Root => &b""[..],
            Base::Folder(folder) => &folder[..],
            Base::Elsewhere => return go_on(),
        };
        let mut wish = call.wish;
        if let Wish::OpenHow { how } = wish {
            let Some(open) = self.open_how(told.tid, how)? else { return go_on() };
            wish = open;
        }
        if names_folder(&path) {
            wish = wish.of_folder();
        }
        let is_link = |link: &[u8]| self.is_link(link);
        let Some(leads) = self.links.resolve(folder, &path, wish.follows(), is_link) else {
            return go_on();
        };
        if !notify::waits(listener, told.id) {
            return go_on();
        }
        Ok(match self.serve(told.tid, &wish, &leads) {
            Ok(given) => given,
            Err(errno) => CallReply::Answer(Answer::Fail(errno)),
        })
    }

    /// Answers a process that wants to change its root. The root itself can be had, as `apk` and `pacman` ask for each script: it is
    /// what they have. The kernel is never left to do it.
    fn change_root(&mut self, told: &Notification) -> Answer {
        match self.is_own_root(told) {
            Ok(true) => Answer::Value(0),
            Ok(false) | Err(Errno::PERM) => {
                self.refused_root = true;
                Answer::Fail(Errno::PERM)
            }
            Err(errno) => Answer::Fail(errno),
        }
    }

    /// True if the folder that a call names is the root.
    fn is_own_root(&mut self, told: &Notification) -> rustix::io::Result<bool> {
        if Caller::find(told.tid)?.rights.uid != 0 {
            return Err(Errno::PERM);
        }
        let path = self.callers.read_path(told.tid, told.args[0])?;
        let whole = match path.first() {
            None => return Err(Errno::NOENT),
            Some(b'/') => path,
            Some(_) => match self.base(told.tid, None)? {
                Base::Folder(folder) => [&folder[..], b"/", &path[..]].concat(),
                Base::Root | Base::Elsewhere => return Err(Errno::PERM),
            },
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.open_inside(&whole, flags, 0)?;
        behind::is_same(&folder, &self.top)
    }

    /// The request of `openat2`; none if it restricts the way, because then nothing is done here.
    fn open_how(&mut self, tid: i32, how: u64) -> rustix::io::Result<Option<Wish>> {
        let mut bytes = [0; 24];
        self.callers.read(tid, how, &mut bytes)?;
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        // A caller who restricts the way means a tree of his own.
        if number(16) != 0 {
            return Ok(None);
        }
        let flags = OFlags::from_bits_retain(number(0) as u32);
        Ok(Some(Wish::Open { flags, mode: number(8) as u32 }))
    }

    /// The folder at which relative paths begin.
    fn base(&mut self, tid: i32, fd: Option<i32>) -> rustix::io::Result<Base> {
        let folder = self.callers.folder(tid, fd)?;
        Ok(match self.inside(&folder) {
            Some(inside) => Base::Folder(inside),
            None => Base::Elsewhere,
        })
    }

    /// True if a path of the root is a link now.
    fn is_link(&self, path: &[u8]) -> bool {
        let path = [&self.root[..], path].concat();
        rustix::fs::readlinkat(rustix::fs::CWD, path, Vec::new()).is_ok()
    }

    /// True if a call would write to a read-only mount.
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
        if call.wish.writes() && self.is_readonly(base, path) {
            return Ok(true);
        }
        let Some((folder, address)) = call.wish.other() else { return Ok(false) };
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
            Base::Elsewhere => return false,
        };
        let mut readonly = self.shown.mounted.iter().filter(|mounted| mounted.readonly);
        readonly.any(|mounted| is_at_or_below(&path, mounted.target.as_bytes()))
    }

    /// The path that a path of this process has in the root.
    fn inside(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = is_at_or_below(path, &self.root).then(|| &path[self.root.len()..])?;
        Some(if rest.is_empty() { b"/".to_vec() } else { rest.to_vec() })
    }
}

/// True if a path can only be a folder's: then a link at its end is followed.
fn names_folder(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

/// The folder at which a path begins.
enum Base {
    /// The root: the path is absolute.
    Root,
    /// In the root.
    Folder(Vec<u8>),
    /// Somewhere that has no path.
    Elsewhere,
}

/// The answer to a call.
enum CallReply {
    Answer(Answer),
    /// An open file; whether it is closed when the caller executes another program.
    File(OwnedFd, bool),
}

/// The kernel does it.
fn go_on() -> rustix::io::Result<CallReply> {
    Ok(CallReply::Answer(Answer::GoOn))
}

/// The bytes that the kernel would write for a structure.
fn bytes_of<T: KernelStructure>(structure: &T) -> &[u8] {
    structure.bytes()
}
