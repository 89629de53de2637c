//! The files of a container that runs, through its own root.
//!
//! The processes of the container may change anything meanwhile. Folders are opened inside the root, whatever links
//! there are, and names in them are never followed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use layer::tar::{Limits, Mode as ArchiveMode, TarReader, TarWriter};
use layer::{CAPABILITY, Entry, EntryKind, Time};
use runtime::RootAccess;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fgetxattr, fsetxattr, fstat, fstatfs, futimens, linkat,
    major, makedev, minor, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use tokio::sync::OwnedRwLockReadGuard;
use tree::{components, join, split_last};

use super::{
    FileOwner, PathFacts, RequestedPath, UnpackOptions, absolute, below, find_owner, system_time,
};
use crate::{ContainerId, Error};

/// File systems of the kernel, whose files are no content.
const KERNELS: [i64; 3] = [0x9fa0, 0x6265_6572, 0x6367_7270];
/// Folders within folders that are copied; each is open meanwhile.
const DEEPEST: usize = 400;
/// The largest `/etc/passwd` that is read.
const LARGEST_USERS: u64 = 4 << 20;
/// Bytes of a program's capabilities.
const CAPABILITY_BYTES: usize = 64;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const LISTED: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder inside the root, as a path descriptor; links are followed.
fn open_folder(root: &RootAccess, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let text = std::str::from_utf8(path).map_err(|_| Errno::ILSEQ)?;
    let found = root.find(&format!("/{text}"));
    let found = found.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    match FileType::from_raw_mode(fstat(&found)?.st_mode) {
        FileType::Directory => Ok(found),
        _ => Err(Errno::NOTDIR),
    }
}

/// The files of a container that runs.
pub(crate) struct LiveFiles {
    root: RootAccess,
    id: ContainerId,
    /// True if files whose owner does not exist here belong to the user that unpacks them.
    ignores_owners: bool,
    /// Keeps the container's root from being committed. Dropped after the root.
    _copying: OwnedRwLockReadGuard<()>,
}

impl LiveFiles {
    pub(crate) fn new(
        root: RootAccess,
        id: &ContainerId,
        copying: OwnedRwLockReadGuard<()>,
    ) -> Self {
        Self { root, id: id.clone(), ignores_owners: false, _copying: copying }
    }

    /// The same files, with the store's rule for owners that do not exist here.
    pub(crate) fn ignoring_owners(self, ignores_owners: bool) -> Self {
        Self { ignores_owners, ..self }
    }

    /// The facts about a path.
    pub(crate) fn facts(&self, path: &RequestedPath) -> Result<PathFacts, Error> {
        let (folder, name) = self.find(path)?;
        let stat = self.look(path, &folder, &name)?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = readlinkat(&folder, &*name, Vec::new())
                    .map_err(Error::file("read link", absolute(&path.clean)))?
                    .into_bytes();
                let around = if target.starts_with(b"/") { b"" } else { split_last(&path.clean).0 };
                let whole = join(around, &target);
                let whole = RequestedPath::parse(&String::from_utf8_lossy(&whole));
                absolute(&whole.clean)
            }
            _ => String::new(),
        };
        Ok(PathFacts {
            name: path.shown_name(),
            size: stat.st_size.cast_unsigned(),
            mode: stat.st_mode,
            modified: system_time(time_of(&stat)),
            link_target,
        })
    }

    /// Writes a path as an archive.
    pub(crate) fn copy_out(&self, path: &RequestedPath, out: &mut dyn Write) -> Result<(), Error> {
        let (folder, name) = self.find(path)?;
        let stat = self.look(path, &folder, &name)?;
        let mut copy =
            CopyOut { archive: TarWriter::new(out), seen: HashMap::new(), top: &path.name };
        copy.file(NamedFile { folder: folder.as_fd(), name: &name, stat }, b"", 0)?;
        copy.archive.finish()?;
        Ok(())
    }

    /// Unpacks an archive in a folder. The archive is not trusted.
    pub(crate) fn copy_in(
        &self,
        options: &UnpackOptions,
        user: &str,
        archive: impl Read + Send,
        limits: Limits,
    ) -> Result<(), Error> {
        let requested = RequestedPath::parse(&options.path);
        let folder = open_folder(&self.root, &requested.clean);
        match folder {
            Ok(_) => {}
            Err(Errno::NOTDIR) => return Err(Error::NoFolder(options.path.clone())),
            Err(_) => return Err(self.no_path(&requested)),
        }
        let owner = if options.owner_is_user { self.owner(user) } else { None };
        let mut copy = LiveUnpacking {
            root: &self.root,
            folder: requested.clean,
            keeps_kinds: options.keeps_kinds,
            owner,
            ignores_owners: self.ignores_owners,
            folders: Vec::new(),
        };
        let archive = layer::open_decoder(archive).map_err(Error::file("read", "the archive"))?;
        let mut reader = TarReader::new(archive, ArchiveMode::Archive, limits);
        while let Some((entry, mut content)) = reader.next_entry()? {
            copy.take(&entry, &mut content)?;
        }
        copy.set_times();
        Ok(())
    }

    fn owner(&self, user: &str) -> Option<FileOwner> {
        let text = |path: &str| {
            let file = self.root.read(path).ok()?;
            let mut text = Vec::new();
            file.take(LARGEST_USERS).read_to_end(&mut text).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        let passwd = text("/etc/passwd").unwrap_or_default();
        find_owner(user, &passwd, &text("/etc/group").unwrap_or_default())
    }

    /// The folder of what a request means, and the name in it; `.` for a folder itself.
    fn find(&self, path: &RequestedPath) -> Result<(OwnedFd, Vec<u8>), Error> {
        let (folder, name) = if path.is_folder {
            (path.clean.as_slice(), b".".as_slice())
        } else {
            split_last(&path.clean)
        };
        match open_folder(&self.root, folder) {
            Ok(fd) => Ok((fd, name.to_vec())),
            Err(_) => Err(self.no_path(path)),
        }
    }

    fn look(&self, path: &RequestedPath, folder: &OwnedFd, name: &[u8]) -> Result<Stat, Error> {
        statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| self.no_path(path))
    }

    fn no_path(&self, path: &RequestedPath) -> Error {
        Error::NoPath { path: absolute(&path.clean), id: self.id.clone() }
    }
}

fn time_of(stat: &Stat) -> Time {
    // The kernel's value is less than 10^9.
    Time { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// A file in a folder, as it was seen there.
#[derive(Clone, Copy)]
struct NamedFile<'a> {
    folder: BorrowedFd<'a>,
    name: &'a [u8],
    stat: Stat,
}

/// An archive that is written.
struct CopyOut<'a, W> {
    archive: TarWriter<W>,
    /// Files that have several names, by device and inode, with the first in the archive.
    seen: HashMap<(u64, u64), Vec<u8>>,
    top: &'a [u8],
}

impl<W: Write> CopyOut<'_, W> {
    fn file(&mut self, file: NamedFile<'_>, path: &[u8], depth: usize) -> Result<(), Error> {
        let NamedFile { folder, name, stat } = file;
        let stat = &stat;
        let failed = || Error::file::<Errno>("read", absolute(path));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.regular(file, path),
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink {
                target: readlinkat(folder, name, Vec::new()).map_err(failed())?.into_bytes().into(),
            },
            FileType::CharacterDevice => {
                EntryKind::CharDevice { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
            }
            FileType::BlockDevice => {
                EntryKind::BlockDevice { major: major(stat.st_rdev), minor: minor(stat.st_rdev) }
            }
            FileType::Fifo => EntryKind::Fifo,
            // Archives have no sockets.
            _ => return Ok(()),
        };
        let is_folder = kind == EntryKind::Directory;
        let entry = entry(below(self.top, path), kind, stat);
        // The root has no name of its own.
        if !entry.path.is_empty() {
            self.archive.append(&entry, &mut io::empty())?;
        }
        if !is_folder {
            return Ok(());
        }
        if depth == DEEPEST {
            return Err(Error::Setting(format!("{} is nested too deep", absolute(path))));
        }
        let listed = openat(folder, name, LISTED, Mode::empty()).map_err(failed())?;
        if is_kernels(&listed) {
            return Ok(());
        }
        for name in names(&listed).map_err(failed())? {
            // A file that is gone by now is left out.
            let Ok(stat) = statat(&listed, &*name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let file = NamedFile { folder: listed.as_fd(), name: &name, stat };
            self.file(file, &join(path, &name), depth + 1)?;
        }
        Ok(())
    }

    fn regular(&mut self, file: NamedFile<'_>, path: &[u8]) -> Result<(), Error> {
        let NamedFile { folder, name, stat } = file;
        let shown = below(self.top, path);
        let failed = || Error::file::<Errno>("read", absolute(path));
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.seen.get(&inode) {
            let kind = EntryKind::HardLink { target: first.as_slice().into() };
            return Ok(self.archive.append(&entry(shown, kind, &stat), &mut io::empty())?);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        let stat = fstat(&file).map_err(failed())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            self.seen.insert((stat.st_dev, stat.st_ino), shown.clone());
        }
        let size = stat.st_size.cast_unsigned();
        let mut entry = entry(shown, EntryKind::File { size }, &stat);
        let mut capability = [0; CAPABILITY_BYTES];
        if let Ok(length) = fgetxattr(&file, CAPABILITY, &mut capability[..]) {
            entry.xattrs = vec![(CAPABILITY.into(), capability[..length].into())];
        }
        // The file may grow and shrink meanwhile; its entry has the size that it had.
        let mut content = File::from(file).chain(io::repeat(0)).take(size);
        Ok(self.archive.append(&entry, &mut content)?)
    }
}

fn entry(path: Vec<u8>, kind: EntryKind, stat: &Stat) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: time_of(stat),
        xattrs: Vec::new(),
    }
}

fn is_kernels(folder: &OwnedFd) -> bool {
    fstatfs(folder).is_ok_and(|about| KERNELS.contains(&{ about.f_type }))
}

fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// An archive that is unpacked.
struct LiveUnpacking<'a> {
    root: &'a RootAccess,
    folder: Vec<u8>,
    keeps_kinds: bool,
    owner: Option<FileOwner>,
    ignores_owners: bool,
    /// Folders that get their times at the end.
    folders: Vec<(OwnedFd, Time)>,
}

/// Folders of an archive that are kept open for their times.
const MOST_FOLDERS: usize = 200;

impl LiveUnpacking<'_> {
    fn take(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        if entry.path.is_empty() {
            // The folder itself, which stays as it is.
            return Ok(());
        }
        let whole = join(&self.folder, &entry.path);
        let (around, name) = split_last(&whole);
        let around = self.make_folders(around)?;
        let failed = || Error::file::<Errno>("write", absolute(&whole));
        let is_folder = entry.kind == EntryKind::Directory;
        if let Ok(stat) = statat(&around, name, AtFlags::SYMLINK_NOFOLLOW) {
            let is_folder_there = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_folder_there != is_folder && self.keeps_kinds {
                return Err(Error::Overwrite(absolute(&whole)));
            }
            if !(is_folder && is_folder_there) {
                remove(around.as_fd(), name, 0).map_err(failed())?;
            }
        }
        match &entry.kind {
            EntryKind::File { .. } => return self.regular(&around, name, entry, content),
            EntryKind::Directory => match mkdirat(&around, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => return self.directory(&around, name, entry),
                Err(error) => return Err(failed()(error)),
            },
            EntryKind::Symlink { target } => symlinkat(&**target, &around, name),
            EntryKind::HardLink { target } => {
                let target = join(&self.folder, target);
                let (folder, target) = split_last(&target);
                let from = open_folder(self.root, folder).map_err(failed())?;
                return linkat(&from, target, &around, name, AtFlags::empty()).map_err(failed());
            }
            &EntryKind::CharDevice { major, minor } => {
                let device = makedev(major, minor);
                mknodat(&around, name, FileType::CharacterDevice, Mode::RUSR, device)
            }
            &EntryKind::BlockDevice { major, minor } => {
                let device = makedev(major, minor);
                mknodat(&around, name, FileType::BlockDevice, Mode::RUSR, device)
            }
            EntryKind::Fifo => mknodat(&around, name, FileType::Fifo, Mode::RUSR, 0),
            // An archive that is no layer has none of these.
            EntryKind::Whiteout | EntryKind::Opaque => return Ok(()),
        }
        .map_err(failed())?;
        let FileOwner { uid, gid } = self.owner_of(entry);
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        self.owned(chownat(&around, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)).map_err(failed())?;
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            let mode = Mode::from_raw_mode(entry.mode);
            chmodat(&around, name, mode, AtFlags::empty()).map_err(failed())?;
        }
        let times = times(entry.mtime);
        utimensat(&around, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed())
    }

    fn regular(
        &self,
        around: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let failed = || Error::file::<Errno>("write", absolute(&entry.path));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = openat(around, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed())?;
        let mut file = File::from(made);
        io::copy(content, &mut file).map_err(Error::file("write", absolute(&entry.path)))?;
        self.set_header(file.as_fd(), entry)?;
        futimens(&file, &times(entry.mtime)).map_err(failed())
    }

    fn directory(&mut self, around: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let failed = Error::file::<Errno>("write", absolute(&entry.path));
        let folder = openat(around, name, LISTED, Mode::empty()).map_err(failed)?;
        self.set_header(folder.as_fd(), entry)?;
        if self.folders.len() == MOST_FOLDERS {
            self.set_times();
        }
        self.folders.push((folder, entry.mtime));
        Ok(())
    }

    fn set_header(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), Error> {
        let failed = || Error::file::<Errno>("set owner of", absolute(&entry.path));
        let FileOwner { uid, gid } = self.owner_of(entry);
        self.owned(fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
            .map_err(failed())?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| **name == *CAPABILITY) {
            fsetxattr(file, &**name, value, XattrFlags::empty()).map_err(failed())?;
        }
        // After the owner: chown clears setuid and setgid.
        fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed())
    }

    /// The result of a change of owner: a user namespace answers EINVAL for an owner that it does not have.
    fn owned(&self, changed: rustix::io::Result<()>) -> rustix::io::Result<()> {
        match changed {
            Err(Errno::INVAL) if self.ignores_owners => Ok(()),
            result => result,
        }
    }

    fn owner_of(&self, entry: &Entry) -> FileOwner {
        self.owner.unwrap_or(FileOwner { uid: entry.uid, gid: entry.gid })
    }

    /// Opens a folder, and makes what is missing of it.
    fn make_folders(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        let failed = || Error::file::<Errno>("make folder", absolute(path));
        match open_folder(self.root, path) {
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => return Err(Error::Overwrite(absolute(path))),
            opened => return opened.map_err(failed()),
        }
        let mut reached = Vec::new();
        let mut folder = open_folder(self.root, b"").map_err(failed())?;
        for name in components(path) {
            reached = join(&reached, name);
            folder = match open_folder(self.root, &reached) {
                Err(Errno::NOENT) => {
                    let mode = Mode::from_raw_mode(0o755);
                    mkdirat(&folder, name, mode).map_err(failed())?;
                    openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
                }
                opened => opened,
            }
            .map_err(failed())?;
        }
        Ok(folder)
    }

    fn set_times(&mut self) {
        // A folder that was unpacked before its content was changed by it.
        for (folder, time) in self.folders.drain(..).rev() {
            let _ = futimens(&folder, &times(time));
        }
    }
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a file, or a folder with its content.
fn remove(around: BorrowedFd<'_>, name: &[u8], depth: usize) -> rustix::io::Result<()> {
    match unlinkat(around, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth < DEEPEST => {}
        other => return other,
    }
    let folder = openat(around, name, LISTED, Mode::empty())?;
    for name in names(&folder)? {
        remove(folder.as_fd(), &name, depth + 1)?;
    }
    unlinkat(around, name, AtFlags::REMOVEDIR)
}
