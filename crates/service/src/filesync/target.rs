//! A folder that a transfer changes: every change is made relative to an open folder, with a name
//! that is a single component, and follows no link.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, openat, statat, unlinkat,
};
use rustix::io::Errno;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that is held open, with the names that belong in it.
pub(super) struct OpenFolder {
    pub(super) fd: OwnedFd,
    pub(super) names: HashSet<String>,
}

impl OpenFolder {
    /// The root of a transfer.
    pub(super) fn root(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self { fd: openat(CWD, path, FOLDER, Mode::empty())?, names: HashSet::new() })
    }

    /// The header of an entry; none if there is none.
    pub(super) fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a folder in it, and makes it first where something else is there.
    pub(super) fn folder(&self, name: &str) -> io::Result<Self> {
        match self.stat(name)? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            found => {
                if found.is_some() {
                    remove(self.fd.as_fd(), OsStr::new(name))?;
                }
                rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)?;
            }
        }
        let fd = openat(&self.fd, name, FOLDER, Mode::empty())?;
        // Entries are made in it even if it may not be written to when it is complete.
        if rustix::fs::fstat(&fd)?.st_mode & 0o700 != 0o700 {
            rustix::fs::fchmod(&fd, Mode::RWXU)?;
        }
        Ok(Self { fd, names: HashSet::new() })
    }

    /// Removes an entry, if there is one.
    pub(super) fn clear(&self, name: &str) -> io::Result<()> {
        remove(self.fd.as_fd(), OsStr::new(name))
    }

    /// Removes what does not belong in it.
    pub(super) fn remove_others(&self) -> io::Result<()> {
        for name in names(self.fd.as_fd())? {
            let is_known = std::str::from_utf8(&name).is_ok_and(|name| self.names.contains(name));
            if !is_known {
                remove(self.fd.as_fd(), OsStr::from_bytes(&name))?;
            }
        }
        Ok(())
    }
}

/// The folder of a path below the root, and the path's last name. No link is followed.
pub(super) fn parent<'p>(root: BorrowedFd<'_>, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut fd = openat(root, ".", FOLDER, Mode::empty())?;
    for name in folder.split('/').filter(|name| !name.is_empty()) {
        fd = openat(&fd, name, FOLDER, Mode::empty())?;
    }
    Ok((fd, name))
}

/// Sets an entry's modification time, in nanoseconds since 1970.
pub(super) fn set_time(fd: BorrowedFd<'_>, name: &str, nanos: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: nanos.div_euclid(1_000_000_000),
        tv_nsec: nanos.rem_euclid(1_000_000_000),
    };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The modification time in a header, in nanoseconds since 1970.
pub(super) fn time_of(stat: &Stat) -> i64 {
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add_unsigned(stat.st_mtime_nsec)
}

/// A new file in a folder.
pub(super) fn create(folder: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn names(fd: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes an entry with everything in it.
fn remove(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Depth is bounded by the longest path that a sender can name.
    let inner = openat(folder, name, FOLDER, Mode::empty())?;
    if rustix::fs::fstat(&inner)?.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&inner, Mode::RWXU)?;
    }
    for name in self::names(inner.as_fd())? {
        remove(inner.as_fd(), OsStr::from_bytes(&name))?;
    }
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}
