//! The `stat` results of all files of a tree.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use layer::{Time, shown};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;

use crate::folder::open_root;
use crate::{Error, Result};

/// The longest path that other system calls take.
const LONGEST_PATH: usize = 4095;

/// A directory's children, in the order of their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) children: Vec<Child>,
}

/// A file in a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) name: Box<[u8]>,
    pub(super) stat: FileStat,
    /// The content, if it is a directory.
    pub(super) folder: Option<Folder>,
}

/// The fields that show that a file is another one, or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStat {
    pub(super) inode: u64,
    /// The time when the inode was made, if the file system knows it: inode numbers are reused.
    pub(super) born: Time,
    /// Set by every change of content or header; programs cannot choose it.
    pub(super) changed: Time,
    pub(super) mtime: Time,
    pub(super) size: u64,
    /// Includes the file's type.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: (u32, u32),
    pub(super) links: u32,
}

impl FileStat {
    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The fields that a layer's entry has of any file, except the time.
    pub(super) fn header(&self) -> (u32, u32, u32, (u32, u32)) {
        (self.mode, self.uid, self.gid, self.device)
    }
}

impl Folder {
    /// Reads the `stat` results of a folder and all below it.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let fd = open_root(root)?;
        read(fd.as_fd(), &mut Vec::new())
    }
}

fn read(above: BorrowedFd<'_>, path: &mut Vec<u8>) -> Result<Folder> {
    let failed = |action, path: &[u8]| {
        let path = shown(path);
        move |errno: Errno| Error::file(action, &path)(errno)
    };
    if path.len() > LONGEST_PATH {
        return Err(failed("list", path)(Errno::NAMETOOLONG));
    }
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = if name.is_empty() { b"." } else { name };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(above, name, flags, Mode::empty()).map_err(failed("list", path))?;
    let mut children = Vec::new();
    for entry in Dir::read_from(&fd).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = statx(&fd, name, flags, wanted).map_err(failed("look at", path))?;
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let stat = FileStat {
            inode: stat.stx_ino,
            born: if has_birth { time(&stat.stx_btime) } else { Time::default() },
            changed: time(&stat.stx_ctime),
            mtime: time(&stat.stx_mtime),
            size: stat.stx_size,
            mode: stat.stx_mode.into(),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            links: stat.stx_nlink,
        };
        children.push(Child { name: name.to_bytes().into(), stat, folder: None });
    }
    children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let length = path.len();
    for child in &mut children {
        if child.stat.file_type() == FileType::Directory {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&child.name);
            child.folder = Some(read(fd.as_fd(), path)?);
            path.truncate(length);
        }
    }
    Ok(Folder { children })
}

fn time(stamp: &rustix::fs::StatxTimestamp) -> Time {
    Time { seconds: stamp.tv_sec, nanos: stamp.tv_nsec }
}

/// The current time, by the clock that files are stamped with.
pub(super) fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time { seconds: now.tv_sec, nanos: now.tv_nsec as u32 }
}
