//! Doing a call on the machine's own files.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid, XattrFlags,
    accessat, chmodat, chownat, fstat, fstatfs, getxattr, linkat, listxattr, major, minor, openat,
    openat2, readlinkat, setxattr, statx,
};
use rustix::io::Errno;

use super::behind::Owner;
use super::callers::LARGEST_ATTRIBUTE;
use super::lead::Lead;
use super::paths::clean;
use super::stand_in::list_processes;
use super::{Answer, Base, CallReply, Caller, Supervisor, Wish, bytes_of, go_on};
use crate::init::processes::descendants;
use crate::init::walk::{fd_path, file_type};

impl Supervisor {
    /// Does what is wished with a path in the kernel's folders, with the rights of who wishes it.
    pub(super) fn serve(
        &mut self,
        tid: i32,
        wish: &Wish,
        path: &[u8],
    ) -> rustix::io::Result<CallReply> {
        let caller = Caller::find(tid)?;
        let as_caller = caller.rights.take()?;
        let lead = self.lead(tid, &caller, path, wish.follows())?;
        match (wish, &lead) {
            (Wish::Open { .. }, Lead::Processes) => {
                drop(as_caller);
                if let Some(proc) = &self.kernels.proc {
                    let mut processes = descendants(std::process::id() as i32);
                    processes.retain(|pid| !self.hidden.contains(pid));
                    list_processes(proc, &processes);
                }
                return go_on();
            }
            (Wish::Open { flags, mode }, _) => {
                let (file, owner) = self.open(&lead, *flags, mode & !caller.umask)?;
                let is_folder = file_type(&file)? == FileType::Directory;
                let close_on_exec = flags.contains(OFlags::CLOEXEC);
                if owner == Owner::Root || !is_folder {
                    self.terminals.extend(crate::sys::terminal_number(&file));
                    return Ok(CallReply::File(file, close_on_exec));
                }
                let seen = self.look_into(&file, *flags)?;
                drop(as_caller);
                return Ok(CallReply::File(self.stand_in(&seen, *flags)?, close_on_exec));
            }
            (Wish::StatFs { .. }, Lead::Processes) => {}
            // It is as the root shows it.
            (_, Lead::Processes) => return go_on(),
            (Wish::Execute, _) => {
                drop(as_caller);
                return self.execute(tid, path, &lead, &caller.rights);
            }
            (Wish::Enter, _) => {
                let folder = self.find(&lead, true)?.0;
                is_folder(&folder)?;
                drop(as_caller);
                self.make_enterable(path, &folder)?;
                return go_on();
            }
            _ => {}
        }
        match wish {
            Wish::ReadLink { buffer, size } => {
                let text = match path {
                    b"/proc/self" => caller.process.to_string().into_bytes(),
                    b"/proc/thread-self" => format!("{}/task/{tid}", caller.process).into_bytes(),
                    _ => self.link_text(&self.find(&lead, false)?.0)?,
                };
                let length = text.len().min(usize::try_from(*size).unwrap_or(usize::MAX));
                self.callers.write(tid, *buffer, &text[..length])?;
                Ok(value(length))
            }
            Wish::Name { folder, path } => match self.find(&lead, true)? {
                (file, Owner::Root) => self.name(tid, &file, *folder, *path),
                (_, Owner::Kernel) => Err(Errno::XDEV),
            },
            Wish::Stat { .. } | Wish::Statx { .. } => {
                let (file, owner) = self.find(&lead, wish.follows())?;
                drop(as_caller);
                self.tell_stat(tid, wish, &file, owner)
            }
            Wish::StatFs { buffer } => {
                let found = fstatfs(self.find(&lead, true)?.0)?;
                self.callers.write(tid, *buffer, bytes_of(&found))?;
                Ok(value(0))
            }
            Wish::Access { mode } => self.may(&lead, *mode),
            Wish::SetMode { .. }
            | Wish::SetOwner { .. }
            | Wish::Attribute { .. }
            | Wish::Attributes { .. }
            | Wish::SetAttribute { .. } => self.change(tid, wish, &lead),
            Wish::Open { .. }
            | Wish::Enter
            | Wish::Execute
            | Wish::OpenHow { .. }
            | Wish::Link { .. }
            | Wish::Change { .. } => go_on(),
        }
    }

    /// Answers access(2).
    fn may(&self, lead: &Lead, mode: u32) -> rustix::io::Result<CallReply> {
        let wanted = Access::from_bits_truncate(mode);
        match lead {
            Lead::Machine(path) if wanted.contains(Access::WRITE_OK) && !is_writable(path) => {
                return Err(Errno::ROFS);
            }
            Lead::Made(_) if wanted.contains(Access::WRITE_OK) => return Err(Errno::ACCESS),
            Lead::Made(_) | Lead::Processes => {}
            Lead::Machine(_) | Lead::Behind(_) | Lead::Root(_) => {
                let (file, _) = self.find(lead, true)?;
                accessat(CWD, fd_path(&file), wanted, AtFlags::EACCESS)?;
            }
        }
        Ok(value(0))
    }

    /// Says what a file is like. A folder of the kernel's looks like the one that stands for it, which is what its
    /// descriptor will be of.
    fn tell_stat(
        &mut self,
        tid: i32,
        wish: &Wish,
        file: &OwnedFd,
        owner: Owner,
    ) -> rustix::io::Result<CallReply> {
        let found = fstat(file)?;
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let shown = (is_folder && owner == Owner::Kernel)
            .then(|| self.stat_of_stand_in(file))
            .and_then(rustix::io::Result::ok);
        match wish {
            Wish::Stat { buffer, .. } => {
                let mut stat = found;
                if let Some(shown) = shown {
                    (stat.st_dev, stat.st_ino) = (shown.st_dev, shown.st_ino);
                    // Of unknown meaning, for programs that count folders by it.
                    stat.st_nlink = 1;
                }
                self.callers.write(tid, *buffer, bytes_of(&stat))?;
            }
            Wish::Statx { buffer, mask, .. } => {
                let mask = StatxFlags::from_bits_retain(*mask & !libc::STATX__RESERVED as u32);
                let mut stat = statx(file, "", AtFlags::EMPTY_PATH, mask)?;
                if let Some(shown) = shown {
                    stat.stx_dev_major = major(shown.st_dev);
                    stat.stx_dev_minor = minor(shown.st_dev);
                    (stat.stx_ino, stat.stx_nlink) = (shown.st_ino, 1);
                }
                self.callers.write(tid, *buffer, bytes_of(&stat))?;
            }
            _ => return go_on(),
        }
        Ok(value(0))
    }

    /// Changes or reads what a file has besides its content.
    fn change(&mut self, tid: i32, wish: &Wish, lead: &Lead) -> rustix::io::Result<CallReply> {
        let (file, owner) = self.find(lead, wish.follows())?;
        let changes = matches!(
            wish,
            Wish::SetMode { .. } | Wish::SetOwner { .. } | Wish::SetAttribute { .. }
        );
        // Those are for all of this machine.
        if changes && owner == Owner::Kernel {
            return Err(Errno::PERM);
        }
        // By this path the calls take descriptors of every kind, O_PATH included.
        let path = fd_path(&file);
        match wish {
            Wish::SetMode { mode, .. } => {
                chmodat(CWD, &path, Mode::from_raw_mode(*mode), AtFlags::empty())?;
            }
            Wish::SetOwner { uid, gid, .. } => {
                let uid = (*uid != u32::MAX).then(|| Uid::from_raw(*uid));
                let gid = (*gid != u32::MAX).then(|| Gid::from_raw(*gid));
                chownat(&file, "", uid, gid, AtFlags::EMPTY_PATH)?;
            }
            Wish::Attribute { name, buffer, size, .. } => {
                let name = self.callers.read_path(tid, *name)?;
                let mut found = vec![0; LARGEST_ATTRIBUTE];
                let length = getxattr(&path, &*name, &mut found[..])?;
                return self.hand_over(tid, &found[..length], (*buffer, *size));
            }
            Wish::Attributes { buffer, size, .. } => {
                let mut found = vec![0; LARGEST_ATTRIBUTE];
                let length = listxattr(&path, &mut found[..])?;
                return self.hand_over(tid, &found[..length], (*buffer, *size));
            }
            Wish::SetAttribute { name, value, size, flags, .. } => {
                let name = self.callers.read_path(tid, *name)?;
                let value = self.callers.read_all(tid, *value, *size)?;
                setxattr(&path, &*name, &value, XattrFlags::from_bits_retain(*flags))?;
            }
            _ => return go_on(),
        }
        Ok(value(0))
    }

    /// Puts bytes into a caller's buffer, or says how many there are.
    fn hand_over(
        &mut self,
        tid: i32,
        bytes: &[u8],
        (buffer, size): (u64, u64),
    ) -> rustix::io::Result<CallReply> {
        if size != 0 {
            if (bytes.len() as u64) > size {
                return Err(Errno::RANGE);
            }
            self.callers.write(tid, buffer, bytes)?;
        }
        Ok(value(bytes.len()))
    }

    /// Gives a file a name in the root.
    fn name(
        &mut self,
        tid: i32,
        file: &OwnedFd,
        folder: Option<i32>,
        address: u64,
    ) -> rustix::io::Result<CallReply> {
        let path = self.callers.read_path(tid, address)?;
        let base = if path.first() == Some(&b'/') { Base::Root } else { self.base(tid, folder)? };
        let whole = match base {
            Base::Root => clean(b"", &path),
            Base::Folder(folder) => clean(&folder, &path),
            Base::Elsewhere => return Err(Errno::XDEV),
        };
        let end = whole.iter().rposition(|byte| *byte == b'/').ok_or(Errno::NOENT)?;
        let around = self.open_inside(
            if end == 0 { b"/" } else { &whole[..end] },
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            0,
        )?;
        linkat(CWD, fd_path(file), around, &whole[end + 1..], AtFlags::SYMLINK_FOLLOW)?;
        Ok(value(0))
    }

    /// Opens a file with a caller's flags.
    fn open(&self, lead: &Lead, flags: OFlags, mode: u32) -> rustix::io::Result<(OwnedFd, Owner)> {
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC);
        Ok(match lead {
            Lead::Processes => return Err(Errno::NOENT),
            Lead::Made(_) if writes => return Err(Errno::ACCESS),
            Lead::Made(made) => (self.make(*made)?, Owner::Root),
            Lead::Machine(path) if writes && !is_writable(path) => return Err(Errno::ROFS),
            Lead::Machine(path) => (open_machines(path, flags)?, Owner::Kernel),
            Lead::Behind(link) => {
                let (file, owner) = self.behind(link)?;
                if writes && owner == Owner::Kernel && file_type(&file)? == FileType::RegularFile {
                    return Err(Errno::ROFS);
                }
                (open_again(&file, flags)?, owner)
            }
            Lead::Root(path) => (self.open_in_root(path, flags, mode)?, Owner::Root),
        })
    }

    /// Opens a path of the root that may be a pipe, without waiting for its other end.
    fn open_in_root(&self, path: &[u8], flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
        let as_wished = || self.open_inside(path, flags | OFlags::CLOEXEC, mode);
        let makes = flags.contains(OFlags::CREATE);
        if flags.contains(OFlags::PATH)
            || flags.contains(OFlags::TMPFILE)
            || makes && flags.contains(OFlags::EXCL)
        {
            return as_wished();
        }
        let kept = OFlags::NOFOLLOW | OFlags::DIRECTORY;
        match self.open_inside(path, (flags & kept) | OFlags::PATH | OFlags::CLOEXEC, 0) {
            Err(Errno::NOENT) if makes => as_wished(),
            Ok(file) if file_type(&file)? == FileType::Symlink => Err(Errno::LOOP),
            file => open_again(&file?, flags),
        }
    }

    /// A file to be looked at.
    fn find(&self, lead: &Lead, follow: bool) -> rustix::io::Result<(OwnedFd, Owner)> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !follow);
        let kernels = |path: &Path| Ok((open_machines(path, flags)?, Owner::Kernel));
        match lead {
            Lead::Processes => kernels(Path::new("/proc")),
            Lead::Made(made) => kernels(Path::new(made.machines())),
            Lead::Machine(path) => kernels(path),
            Lead::Behind(link) => self.behind(link),
            Lead::Root(path) => Ok((self.open_inside(path, flags, 0)?, Owner::Root)),
        }
    }

    /// Opens a path of the root, whose links are resolved inside it.
    pub(super) fn open_inside(
        &self,
        path: &[u8],
        flags: OFlags,
        mode: u32,
    ) -> rustix::io::Result<OwnedFd> {
        let is_new = flags.intersects(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
        let mode = if is_new { Mode::from_raw_mode(mode & 0o7777) } else { Mode::empty() };
        let mut left = MOST_TRIES;
        loop {
            match openat2(&self.top, path, usual(flags), mode, ResolveFlags::IN_ROOT) {
                // Something on this machine was moved while `..` was followed.
                Err(Errno::AGAIN) if left > 0 => left -= 1,
                result => return result,
            }
        }
    }

    /// The text of a link, as the root's own processes would see it.
    pub(super) fn link_text(&self, link: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
        let text = match readlinkat(link, "", Vec::new()) {
            // Asked by descriptor, the kernel has another word for what is no link.
            Err(Errno::NOENT) => return Err(Errno::INVAL),
            text => text?.into_bytes(),
        };
        if text.first() != Some(&b'/') {
            return Ok(text);
        }
        if let Some(inside) = self.inside(&text) {
            return Ok(inside);
        }
        let kernels = [&b"/proc"[..], b"/sys", b"/dev", b"/memfd:"];
        let is_kernels = kernels.iter().any(|folder| text.starts_with(folder));
        Ok(if is_kernels { text } else { b"/".to_vec() })
    }
}

fn is_folder(file: &OwnedFd) -> rustix::io::Result<()> {
    if file_type(file)? == FileType::Directory { Ok(()) } else { Err(Errno::NOTDIR) }
}

/// Limit of tries while other processes move folders.
const MOST_TRIES: u32 = 128;

/// True in the folder of a process: the files that can be written to there are the process's own.
fn is_writable(path: &Path) -> bool {
    let mut names = path.strip_prefix("/proc").into_iter().flatten();
    let is_process = names.next().and_then(|name| name.to_str()?.parse::<i32>().ok()).is_some();
    is_process || path.starts_with("/dev")
}

/// Flags as openat2(2) takes them, which says no to what open(2) leaves out.
fn usual(flags: OFlags) -> OFlags {
    const WITH_PATH: OFlags =
        OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    const WITHOUT: OFlags = OFlags::from_bits_retain(
        (libc::O_ACCMODE
            | libc::O_CREAT
            | libc::O_EXCL
            | libc::O_NOCTTY
            | libc::O_TRUNC
            | libc::O_APPEND
            | libc::O_NONBLOCK
            | libc::O_SYNC
            | libc::O_ASYNC
            | libc::O_DIRECT
            | libc::O_DIRECTORY
            | libc::O_NOFOLLOW
            | libc::O_NOATIME
            | libc::O_CLOEXEC
            | libc::O_TMPFILE) as u32,
    );
    flags & if flags.contains(OFlags::PATH) { WITH_PATH } else { WITHOUT }
}

/// Opens a file of the machine's.
fn open_machines(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // Nothing can be made there.
    let flags = usual((flags | OFlags::CLOEXEC | OFlags::NOCTTY) - OFlags::CREATE - OFlags::EXCL);
    // No link of a process is on the way: it would lead out of the kernel's folders.
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        // Filters of old container engines do not know the call.
        Err(Errno::NOSYS) => openat(CWD, path, flags, Mode::empty()),
        result => result,
    }
}

/// Opens what a path descriptor is of.
fn open_again(file: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // A pipe would keep all others waiting for its other end.
    let is_pipe = file_type(file)? == FileType::Fifo;
    let mut own = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    if is_pipe {
        own |= OFlags::NONBLOCK;
    }
    let own = own - OFlags::CREATE - OFlags::EXCL - OFlags::NOFOLLOW;
    let opened = openat(CWD, fd_path(file), own, Mode::empty())?;
    if is_pipe && !flags.intersects(OFlags::NONBLOCK | OFlags::PATH) {
        let set = rustix::fs::fcntl_getfl(&opened)?;
        rustix::fs::fcntl_setfl(&opened, set - OFlags::NONBLOCK)?;
    }
    Ok(opened)
}

fn value(value: usize) -> CallReply {
    CallReply::Answer(Answer::Value(value as i64))
}
