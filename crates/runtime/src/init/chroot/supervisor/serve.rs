//! Doing a call on the machine's own files.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid, XattrFlags,
    accessat, chmodat, chownat, fstat, fstatfs, getxattr, linkat, listxattr, openat, openat2,
    readlinkat, setxattr, statx,
};
use rustix::io::Errno;

use super::super::super::walk::{fd_path, file_type};
use super::super::folders::list_processes;
use super::callers::LARGEST_ATTRIBUTE;
use super::execute::make_folders;
use super::lead::Lead;
use super::paths::clean;
use super::{Answer, Base, Caller, Given, Supervisor, Wish, bytes_of, descendants, go_on};

impl Supervisor {
    /// Does what is wished with a path in the kernel's folders, with the rights of who wishes it.
    pub(super) fn serve(
        &mut self,
        tid: i32,
        wish: &Wish,
        path: &[u8],
    ) -> rustix::io::Result<Given> {
        let caller = Caller::find(tid)?;
        let as_caller = caller.rights.take()?;
        let lead = self.lead(tid, &caller, path, wish.follows())?;
        match (wish, &lead) {
            (Wish::Open { .. }, Lead::Processes) => {
                drop(as_caller);
                list_processes(&self.proc, &descendants(std::process::id() as i32));
                return go_on();
            }
            (Wish::StatFs { .. }, Lead::Processes) => {}
            // It is as the root shows it.
            (_, Lead::Processes) => return go_on(),
            (Wish::Execute, _) => {
                drop(as_caller);
                return self.execute(tid, path, &lead, &caller.rights);
            }
            (Wish::Enter, _) => {
                is_folder(&self.find(&lead, true)?)?;
                drop(as_caller);
                self.make_enterable(path)?;
                return go_on();
            }
            _ => {}
        }
        match wish {
            Wish::Open { flags, mode } => self.open(&lead, *flags, mode & !caller.umask),
            Wish::ReadLink { buffer, size } => {
                let text = match path {
                    b"/proc/self" => caller.process.to_string().into_bytes(),
                    b"/proc/thread-self" => format!("{}/task/{tid}", caller.process).into_bytes(),
                    _ => self.link_text(&self.find(&lead, false)?)?,
                };
                let length = text.len().min(usize::try_from(*size).unwrap_or(usize::MAX));
                self.callers.write(tid, *buffer, &text[..length])?;
                Ok(value(length))
            }
            Wish::Name { folder, path } => {
                let file = self.find(&lead, true)?;
                self.name(tid, &file, *folder, *path)
            }
            Wish::Stat { .. } | Wish::Statx { .. } | Wish::StatFs { .. } | Wish::Access { .. } => {
                self.look(tid, wish, &lead)
            }
            Wish::SetMode { .. }
            | Wish::SetOwner { .. }
            | Wish::Attribute { .. }
            | Wish::Attributes { .. }
            | Wish::SetAttribute { .. } => self.change(tid, wish, &lead),
            Wish::Enter
            | Wish::Execute
            | Wish::OpenHow { .. }
            | Wish::Link { .. }
            | Wish::Change { .. } => go_on(),
        }
    }

    /// Says what a file is like.
    fn look(&mut self, tid: i32, wish: &Wish, lead: &Lead) -> rustix::io::Result<Given> {
        if let Wish::Access { mode } = wish {
            match lead {
                Lead::Machine(path) => {
                    let mode = Access::from_bits_truncate(*mode);
                    accessat(CWD, path, mode, AtFlags::EACCESS)?;
                }
                Lead::Made(_) if mode & libc::W_OK as u32 != 0 => return Err(Errno::ACCESS),
                Lead::Made(_) | Lead::Processes => {}
                Lead::Root(_) => drop(self.find(lead, true)?),
            }
            return Ok(value(0));
        }
        let file = self.find(lead, wish.follows())?;
        match wish {
            Wish::Stat { buffer, .. } => {
                self.callers.write(tid, *buffer, bytes_of(&fstat(file)?))?;
            }
            Wish::Statx { buffer, mask, .. } => {
                let mask = StatxFlags::from_bits_retain(*mask & !libc::STATX__RESERVED as u32);
                let stat = statx(file, "", AtFlags::EMPTY_PATH, mask)?;
                self.callers.write(tid, *buffer, bytes_of(&stat))?;
            }
            Wish::StatFs { buffer } => {
                self.callers.write(tid, *buffer, bytes_of(&fstatfs(file)?))?;
            }
            _ => return go_on(),
        }
        Ok(value(0))
    }

    /// Changes or reads what a file has besides its content.
    fn change(&mut self, tid: i32, wish: &Wish, lead: &Lead) -> rustix::io::Result<Given> {
        let file = self.find(lead, wish.follows())?;
        // What a descriptor is of, whatever the kind of descriptor.
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
    ) -> rustix::io::Result<Given> {
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
    ) -> rustix::io::Result<Given> {
        let path = self.callers.read_path(tid, address)?;
        let base = if path.first() == Some(&b'/') { Base::Root } else { self.base(tid, folder)? };
        let whole = match base {
            Base::Root => clean(b"", &path),
            Base::Folder(folder) => clean(&folder, &path),
            Base::Kernels(_) | Base::Elsewhere => return Err(Errno::XDEV),
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

    /// Makes a folder of the kernel's in the root, so that a program can be in it. What it asks for from there is a path
    /// like others.
    fn make_enterable(&self, path: &[u8]) -> rustix::io::Result<()> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        if let Ok(inside) = path.strip_prefix("/proc") {
            return self.folder_in_proc(inside).map(drop);
        }
        let sys =
            self.open_inside(b"/sys", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, 0)?;
        match path.strip_prefix("/sys") {
            Ok(inside) => make_folders(&sys, inside).map(drop),
            Err(_) => Ok(()),
        }
    }

    fn open(&self, lead: &Lead, flags: OFlags, mode: u32) -> rustix::io::Result<Given> {
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        let file = match lead {
            Lead::Processes => return go_on(),
            Lead::Made(made) => {
                if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
                    return Err(Errno::ACCESS);
                }
                self.make(*made)?
            }
            Lead::Machine(path) => open_machines(path, flags)?,
            Lead::Root(path) => self.open_inside(path, flags | OFlags::CLOEXEC, mode)?,
        };
        Ok(Given::File(file, close_on_exec))
    }

    /// A file to be looked at.
    fn find(&self, lead: &Lead, follow: bool) -> rustix::io::Result<OwnedFd> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !follow);
        let open = |path: &Path| openat(CWD, path, flags, Mode::empty());
        match lead {
            Lead::Processes => open(Path::new("/proc")),
            Lead::Made(made) => open(Path::new(made.machines())),
            Lead::Machine(path) => open(path),
            Lead::Root(path) => self.open_inside(path, flags, 0),
        }
    }

    /// Opens a path of the root, whose links lead nowhere else.
    pub(super) fn open_inside(
        &self,
        path: &[u8],
        flags: OFlags,
        mode: u32,
    ) -> rustix::io::Result<OwnedFd> {
        let is_new = flags.intersects(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
        let mode = if is_new { Mode::from_raw_mode(mode & 0o7777) } else { Mode::empty() };
        openat2(&self.top, path, flags, mode, ResolveFlags::IN_ROOT)
    }

    /// What a link says, as the root's own processes would see it.
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

/// Opens a file of the machine's.
fn open_machines(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // A pipe would keep all others waiting for its other end.
    let is_pipe = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .is_ok_and(|file| file_type(&file) == Ok(FileType::Fifo));
    let mut own = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    if is_pipe {
        own |= OFlags::NONBLOCK;
    }
    // Nothing can be made there.
    let file = openat(CWD, path, own - OFlags::CREATE, Mode::empty())?;
    if is_pipe && !flags.contains(OFlags::NONBLOCK) {
        let set = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, set - OFlags::NONBLOCK)?;
    }
    Ok(file)
}

fn value(value: usize) -> Given {
    Given::Answer(Answer::Value(value as i64))
}
