//! Files in an unpacked layer's folder, always opened relative to an open folder and never through
//! a symbolic link: no path of an archive leads out of it.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use layer::tar::content_failed;
use layer::{Entry, EntryKind, LayerIndex, Time, shown};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec,
    Timestamps, Uid, XattrFlags, chmodat, chownat, fallocate, fchmod, fchown, fsetxattr, ftruncate,
    futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use tree::split_last;

use crate::options::{OpenOptions, Privileges, UnmappedOwners};
use crate::room::Room;
use crate::{Error, Result};

const FOLDER: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the folder of a layer.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, FOLDER, Mode::empty()).map_err(Error::file("open", path))
}

/// Opens a path below a folder, without following any link. The empty path is the folder itself.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        // Container runtimes from before 2021 refuse the call; the path is then opened step by
        // step.
        Err(Errno::NOSYS | Errno::PERM) => {}
        // EAGAIN: something was renamed meanwhile, which does not affect the single steps.
        Err(Errno::AGAIN) => {}
        result => return result,
    }
    let mut names = path.split(|byte| *byte == b'/').peekable();
    let mut folder: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if name == b".." || name.is_empty() {
            return Err(Errno::INVAL);
        }
        let at = folder.as_ref().map_or(root, AsFd::as_fd);
        if names.peek().is_none() {
            return openat(at, name, flags, Mode::empty());
        }
        folder = Some(openat(at, name, FOLDER, Mode::empty())?);
    }
    Err(Errno::INVAL)
}

/// Opens a regular file for reading.
pub(crate) fn open_regular(root: &OwnedFd, path: &[u8]) -> io::Result<File> {
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let fd = open_beneath(root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(File::from(fd))
}

/// Compares a folder with an index, by kinds and sizes. Returns the sum of the sizes if they match.
pub(crate) fn matches_index(
    root: &OwnedFd,
    index: &LayerIndex,
    privileges: Privileges,
) -> Option<u64> {
    let mut sum = 0;
    let mut folders = Folders::new(root.as_fd());
    for entry in index.entries() {
        if entry.path.is_empty() {
            continue;
        }
        let (parent, name) = split_last(&entry.path);
        let stat =
            folders.open(parent).and_then(|folder| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW));
        let kind = stat.as_ref().ok().map(|stat| FileType::from_raw_mode(stat.st_mode));
        let matches = match &entry.kind {
            EntryKind::File { size } => {
                sum += size;
                kind == Some(FileType::RegularFile)
                    && stat.is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(*size))
            }
            EntryKind::HardLink { .. } => kind.is_some(),
            EntryKind::Symlink { .. } => kind == Some(FileType::Symlink),
            EntryKind::Directory => kind == Some(FileType::Directory),
            EntryKind::Whiteout => {
                privileges.overlay_prefix().is_none() || kind == Some(FileType::CharacterDevice)
            }
            // Not checked: they have no content, and not every process can make them.
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => true,
            EntryKind::Opaque => true,
        };
        if !matches {
            return None;
        }
    }
    Some(sum)
}

/// A folder this many levels below an open one is opened in one call.
const FAR: usize = 8;
/// The number of folders that are open at a time: descriptors are scarce.
const MOST_OPEN: usize = 64;

/// The open folders on the way to the last path: most entries of an archive are near the one
/// before.
struct Folders<'a> {
    root: BorrowedFd<'a>,
    path: Vec<u8>,
    /// The folders, each with the end of its path in `path`.
    open: Vec<(usize, OwnedFd)>,
}

impl<'a> Folders<'a> {
    fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, path: Vec::new(), open: Vec::new() }
    }

    fn open(&mut self, path: &[u8]) -> rustix::io::Result<BorrowedFd<'_>> {
        while let Some((end, _)) = self.open.last() {
            let same = path.len() >= *end
                && path[..*end] == self.path[..*end]
                && path.get(*end).is_none_or(|byte| *byte == b'/');
            if same {
                break;
            }
            self.open.pop();
        }
        let mut end = self.open.last().map_or(0, |(end, _)| *end);
        self.path.truncate(end);
        while end < path.len() {
            let start = if end == 0 { 0 } else { end + 1 };
            let length = path[start..].iter().position(|byte| *byte == b'/');
            end = length.map_or(path.len(), |length| start + length);
            let at = self.open.last().map_or(self.root, |(_, fd)| fd.as_fd());
            let is_far = path[end..].iter().filter(|byte| **byte == b'/').count() >= FAR;
            let fd = if is_far {
                // The folders in between are seldom needed on their own.
                end = path.len();
                open_beneath(at, &path[start..], FOLDER)?
            } else {
                openat(at, &path[start..end], FOLDER, Mode::empty())?
            };
            self.path.extend_from_slice(&path[self.path.len()..end]);
            self.open.push((end, fd));
            if self.open.len() > MOST_OPEN {
                self.open.remove(0);
            }
        }
        Ok(self.open.last().map_or(self.root, |(_, fd)| fd.as_fd()))
    }

    /// Closes the folders, after some were removed or replaced.
    fn forget(&mut self) {
        self.open.clear();
        self.path.clear();
    }
}

/// Writes entries into a folder. Modes, owners and times of directories are set at the end, by
/// [`finish_directory`](Self::finish_directory).
pub(crate) struct FolderWriter<'a> {
    root: BorrowedFd<'a>,
    options: OpenOptions,
    folders: Folders<'a>,
    buffer: Box<[u8]>,
    room: Room,
    /// The owner and group of new files.
    own: (u32, u32),
}

impl<'a> FolderWriter<'a> {
    /// Starts writing into a folder. It must have no setgid bit, or new files would not have this
    /// process's group.
    pub(crate) fn new(root: BorrowedFd<'a>, options: OpenOptions) -> Self {
        Self {
            root,
            options,
            folders: Folders::new(root),
            buffer: vec![0; 128 << 10].into(),
            room: Room::default(),
            own: (geteuid().as_raw(), getegid().as_raw()),
        }
    }

    /// True if owners, modes, times and attributes are set.
    fn has_metadata(&self) -> bool {
        self.options.privileged != Privileges::None
    }

    /// Writes a regular file; `content` must have the entry's size. With `sparse`, zeros in the
    /// content become holes.
    pub(crate) fn file(
        &mut self,
        entry: &Entry,
        content: &mut dyn Read,
        sparse: bool,
    ) -> Result<()> {
        let mut file = self.new_file(entry)?;
        self.write_content(&mut file, entry, content, sparse)?;
        self.file_metadata(&file, entry)
    }

    /// Makes a regular file of a size without its content; returns its inode. Its space is allocated,
    /// because programs take a file without any for one that has nothing but zeros (`tar --sparse`).
    pub(crate) fn hollow_file(&mut self, entry: &Entry, size: u64) -> Result<u64> {
        let file = self.new_file(entry)?;
        if size > 0 {
            self.room.take(&file, size)?;
            fallocate(&file, FallocateFlags::empty(), 0, size)
                .map_err(failed("allocate", &entry.path))?;
        }
        self.file_metadata(&file, entry)?;
        Ok(rustix::fs::fstat(&file).map_err(failed("look at", &entry.path))?.st_ino)
    }

    /// Writes a regular file with another one's content: shared with it where the file system can
    /// do that, else copied with its holes.
    pub(crate) fn copy_of(&mut self, entry: &Entry, source: &mut File) -> Result<()> {
        let mut file = self.new_file(entry)?;
        if rustix::fs::ioctl_ficlone(&file, &*source).is_err() {
            let stat = rustix::fs::fstat(&*source).map_err(failed("read", &entry.path))?;
            if stat.st_blocks * 512 < stat.st_size {
                self.write_content(&mut file, entry, source, true)?;
            } else {
                io::copy(source, &mut file).map_err(io_failed("write", &entry.path))?;
            }
        }
        self.file_metadata(&file, entry)
    }

    fn new_file(&mut self, entry: &Entry) -> Result<File> {
        let (parent, name) = split_last(&entry.path);
        let failed = failed("write", &entry.path);
        let create = if self.has_metadata() { 0o600 } else { entry.mode & 0o777 | 0o600 };
        let folder = self.folders.open(parent).map_err(&failed)?;
        self.room.take_file(folder)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::from_raw_mode(create)).map_err(&failed)?;
        Ok(File::from(file))
    }

    fn write_content(
        &mut self,
        file: &mut File,
        entry: &Entry,
        content: &mut dyn Read,
        sparse: bool,
    ) -> Result<()> {
        let mut size = 0;
        loop {
            let count = content
                .read(&mut self.buffer)
                .map_err(|error| content_failed(&entry.path, error))?;
            if count == 0 {
                break;
            }
            let piece = &self.buffer[..count];
            self.room.take(&*file, count as u64)?;
            size += count as u64;
            if sparse && piece.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(count as i64))
                    .map_err(io_failed("write", &entry.path))?;
            } else {
                file.write_all(piece).map_err(io_failed("write", &entry.path))?;
            }
        }
        if sparse {
            ftruncate(&*file, size).map_err(failed("write", &entry.path))?;
        }
        Ok(())
    }

    fn file_metadata(&self, file: &File, entry: &Entry) -> Result<()> {
        if !self.has_metadata() {
            return Ok(());
        }
        let failed = failed("write", &entry.path);
        if self.own != (entry.uid, entry.gid) {
            let result = fchown(file, Some(uid(entry)), Some(gid(entry)));
            self.owner_result(result, entry)?;
        }
        for (name, value) in applied_attributes(entry) {
            let result = fsetxattr(file, name, value, XattrFlags::empty());
            attribute_result(result, name, entry)?;
        }
        // After the owner: chown clears setuid and setgid.
        fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(&failed)?;
        futimens(file, &times(entry.mtime)).map_err(&failed)
    }

    /// Sets the metadata of the file at an entry's path again.
    pub(crate) fn set_metadata(&mut self, entry: &Entry) -> Result<()> {
        // The file is not new: it can belong to any user.
        let own = std::mem::replace(&mut self.own, (u32::MAX, u32::MAX));
        let result = match entry.kind {
            EntryKind::File { .. } => self.reopened(entry),
            _ => self.special_metadata(entry),
        };
        self.own = own;
        match result {
            // A device that could not be made.
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn reopened(&mut self, entry: &Entry) -> Result<()> {
        let (parent, name) = split_last(&entry.path);
        let failed = failed("write", &entry.path);
        let folder = self.folders.open(parent).map_err(&failed)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).map_err(&failed)?;
        self.file_metadata(&File::from(file), entry)
    }

    /// Makes a directory with a temporary mode, if there is none.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split_last(path);
        let failed = failed("make folder", path);
        let folder = self.folders.open(parent).map_err(&failed)?;
        self.room.take_file(folder)?;
        match mkdirat(folder, name, Mode::RWXU) {
            Err(Errno::EXIST) => Ok(()),
            other => other.map_err(failed),
        }
    }

    /// Sets a directory's metadata, after the last write into it.
    pub(crate) fn finish_directory(&mut self, entry: &Entry) -> Result<()> {
        let failed = failed("set mode of", &entry.path);
        let (parent, name) = split_last(&entry.path);
        let has_metadata = self.has_metadata();
        let folder = self.folders.open(parent).map_err(&failed)?;
        if !has_metadata {
            let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o700);
            return chmodat(folder, name, mode, AtFlags::empty()).map_err(failed);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(folder, name, flags, Mode::empty()).map_err(&failed)?;
        if self.own != (entry.uid, entry.gid) {
            let result = fchown(&fd, Some(uid(entry)), Some(gid(entry)));
            self.owner_result(result, entry)?;
        }
        for (name, value) in applied_attributes(entry) {
            attribute_result(fsetxattr(&fd, name, value, XattrFlags::empty()), name, entry)?;
        }
        fchmod(&fd, Mode::from_raw_mode(entry.mode)).map_err(&failed)?;
        futimens(&fd, &times(entry.mtime)).map_err(&failed)
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&mut self, entry: &Entry, target: &[u8]) -> Result<()> {
        let (parent, name) = split_last(&entry.path);
        let folder = self.folders.open(parent).map_err(failed("make link", &entry.path))?;
        symlinkat(target, folder, name).map_err(failed("make link", &entry.path))?;
        self.special_metadata(entry)
    }

    /// Gives a file of this folder another name. The target's path must be resolved: a link on the
    /// way is an error.
    pub(crate) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let failed = failed("link", path);
        let (target_parent, target_name) = split_last(target);
        let from = open_beneath(self.root, target_parent, FOLDER).map_err(&failed)?;
        let (parent, name) = split_last(path);
        let folder = self.folders.open(parent).map_err(&failed)?;
        linkat(&from, target_name, folder, name, AtFlags::empty()).map_err(&failed)
    }

    /// Makes a device or a pipe, if the privileges allow it.
    pub(crate) fn special(&mut self, entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            EntryKind::CharDevice { major, minor } => {
                (FileType::CharacterDevice, makedev(major, minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                (FileType::BlockDevice, makedev(major, minor))
            }
            _ => (FileType::Fifo, 0),
        };
        let makes_devices =
            matches!(self.options.privileged, Privileges::Root | Privileges::Chroot);
        // A user namespace has no devices (user_namespaces(7)), and 0/0 would be a whiteout.
        if !self.has_metadata() || (kind != FileType::Fifo && (!makes_devices || device == 0)) {
            return Ok(());
        }
        let (parent, name) = split_last(&entry.path);
        let folder = self.folders.open(parent).map_err(failed("make", &entry.path))?;
        match mknodat(folder, name, kind, Mode::RUSR, device) {
            // Some containers may not make devices; the index keeps it.
            Err(Errno::PERM)
                if kind != FileType::Fifo && self.options.privileged == Privileges::Chroot =>
            {
                return Ok(());
            }
            result => result.map_err(failed("make", &entry.path))?,
        }
        self.special_metadata(entry)
    }

    /// Makes overlay's whiteout, if the privileges allow marks.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        if self.options.privileged.overlay_prefix().is_none() {
            return Ok(());
        }
        let (parent, name) = split_last(path);
        let folder = self.folders.open(parent).map_err(failed("make whiteout of", path))?;
        mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(failed("make whiteout of", path))
    }

    /// Marks a directory as opaque, if the privileges allow marks.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<()> {
        let Some(prefix) = self.options.privileged.overlay_prefix() else { return Ok(()) };
        let failed = failed("mark as opaque", path);
        let fd =
            open_beneath(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(&failed)?;
        fsetxattr(&fd, format!("{prefix}opaque"), b"y", XattrFlags::empty()).map_err(&failed)
    }

    /// Removes a file, or a directory with its content.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<()> {
        let failed = failed("replace", path);
        let (parent, name) = split_last(path);
        let result = self.folders.open(parent).and_then(|folder| {
            match unlinkat(folder, name, AtFlags::empty()) {
                // Linux returns EISDIR, POSIX has EPERM.
                Err(Errno::ISDIR | Errno::PERM) => remove_folder(folder, name),
                other => other,
            }
        });
        self.folders.forget();
        match result {
            // Whiteouts and devices do not always exist on the disk.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes the content of a directory, if it exists; the empty path is the root.
    pub(crate) fn clear(&mut self, path: &[u8]) -> Result<()> {
        let failed = failed("empty", path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let result = match open_beneath(self.root, path, flags) {
            Ok(folder) => clear_folder(folder.as_fd()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error),
        };
        self.folders.forget();
        result.map_err(failed)
    }

    /// Links a file of another folder to the same path here. The inner result is the kernel's: the
    /// number of a file's names is limited, and the path may be taken.
    pub(crate) fn link_from(
        &mut self,
        other: BorrowedFd<'_>,
        path: &[u8],
    ) -> Result<rustix::io::Result<()>> {
        let failed = failed("link", path);
        let (parent, name) = split_last(path);
        let from = open_beneath(other, parent, FOLDER).map_err(&failed)?;
        let folder = self.folders.open(parent).map_err(&failed)?;
        Ok(linkat(&from, name, folder, name, AtFlags::empty()))
    }

    /// Sets the metadata of a file that has no descriptor of its own.
    fn special_metadata(&mut self, entry: &Entry) -> Result<()> {
        if !self.has_metadata() {
            return Ok(());
        }
        let failed = failed("set owner of", &entry.path);
        let (parent, name) = split_last(&entry.path);
        let own = self.own;
        let folder = self.folders.open(parent).map_err(&failed)?;
        let mut owner = Ok(());
        if own != (entry.uid, entry.gid) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            owner = chownat(folder, name, Some(uid(entry)), Some(gid(entry)), flags);
        }
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            let mode = Mode::from_raw_mode(entry.mode);
            chmodat(folder, name, mode, AtFlags::empty()).map_err(&failed)?;
        }
        if !entry.xattrs.is_empty() {
            // The folder is fixed by its descriptor, and the last name is not followed.
            let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            for (name, value) in applied_attributes(entry) {
                let result = lsetxattr(&*path, name, value, XattrFlags::empty());
                attribute_result(result, name, entry)?;
            }
        }
        utimensat(folder, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)?;
        self.owner_result(owner, entry)
    }

    fn owner_result(&self, result: rustix::io::Result<()>, entry: &Entry) -> Result<()> {
        match result {
            Err(Errno::INVAL) if self.options.unmapped_owners == UnmappedOwners::Ignore => Ok(()),
            other => other.map_err(failed("set owner of", &entry.path)),
        }
    }
}

/// The attributes of an entry that its file gets. Overlay's own are left out: an archive must not
/// tell the kernel where files of other layers are.
fn applied_attributes(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .xattrs
        .iter()
        .filter(|(name, _)| !is_overlay_attribute(name))
        .map(|(name, value)| (&**name, &**value))
}

/// True if an attribute belongs to overlayfs.
pub(crate) fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Ignores attributes that the file system does not support or the privileges do not allow: they
/// stay in the index. A program's capabilities must not get lost: if they may not be set, that is
/// an error.
fn attribute_result(result: rustix::io::Result<()>, name: &[u8], entry: &Entry) -> Result<()> {
    match result {
        Err(Errno::NOTSUP) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS) if name != b"security.capability" => Ok(()),
        other => other.map_err(failed("set attribute of", &entry.path)),
    }
}

fn remove_folder(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(at, name, flags, Mode::empty())?;
    clear_folder(folder.as_fd())?;
    unlinkat(at, name, AtFlags::REMOVEDIR)
}

fn clear_folder(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => remove_folder(folder, name)?,
            other => other?,
        }
    }
    Ok(())
}

/// True if this is overlay's mark for a deleted file.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn failed(action: &'static str, path: &[u8]) -> impl Fn(Errno) -> Error {
    let path = shown(path);
    move |errno| Error::file(action, &path)(errno)
}

fn io_failed(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    Error::file(action, shown(path))
}

fn uid(entry: &Entry) -> Uid {
    Uid::from_raw(entry.uid)
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(entry.gid)
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
