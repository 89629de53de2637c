//! The decision if a supervised process may have a file, by its device and inode and never by its name.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, fstat, fstatfs, major, minor, openat, readlinkat,
};
use rustix::io::Errno;

use super::Supervisor;
use super::lead::MagicLink;
use crate::init::kernel_files::DEVICES;
use crate::init::walk::fd_path;

/// The owner of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The root's, or a file without a file system: a pipe, a socket, memory.
    Root,
    /// The kernel's, for all processes.
    Kernel,
}

/// File systems of which each file was made by who has it (kernel, `include/uapi/linux/magic.h`): pipes, sockets, what
/// epoll_create(2) and the like return, message queues, secret memory, namespaces, process descriptors.
const NOBODYS: [u32; 7] = [
    0x5049_5045, // PIPEFS
    0x534f_434b, // SOCKFS
    0x0904_1934, // ANON_INODE_FS
    0x1980_0202, // MQUEUE
    0x5345_434d, // SECRETMEM
    0x6e73_6673, // NSFS
    0x5049_4446, // PIDFS
];

/// `/proc`, `/sys`, and control groups.
const KERNELS: [u32; 4] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x0027_e0eb];

/// Terminals.
const DEVPTS: u32 = 0x1cd1;

/// No tree is so deep.
const DEEPEST: usize = 1 << 16;

impl Supervisor {
    /// Opens, as a path, what a link of a process leads to; none that is neither the root's nor the kernel's.
    pub(super) fn behind(&self, link: &MagicLink) -> rustix::io::Result<(OwnedFd, Owner)> {
        let file = openat(CWD, &link.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let owner = self.owner(&file, link)?;
        Ok((file, owner))
    }

    fn owner(&self, file: &OwnedFd, link: &MagicLink) -> rustix::io::Result<Owner> {
        let found = fstat(file)?;
        let system = fstatfs(file)?.f_type as u32;
        if NOBODYS.contains(&system) || found.st_dev == self.memory {
            return Ok(Owner::Root);
        }
        if KERNELS.contains(&system) || is_usual_device(&found) {
            return Ok(Owner::Kernel);
        }
        if system == DEVPTS {
            // Also the master of all of them.
            let is_ours = is_terminal_master(&found)
                || self.terminals.contains(&minor(found.st_rdev)) && major(found.st_rdev) >= 136;
            return if is_ours { Ok(Owner::Kernel) } else { Err(Errno::NOENT) };
        }
        let is_inside = if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            self.is_folder_inside(file)?
        } else {
            self.has_name_inside(file, &found) || was_opened(link)
        };
        if is_inside { Ok(Owner::Root) } else { Err(Errno::NOENT) }
    }

    /// True if the way up from a folder leads to the root.
    fn is_folder_inside(&self, folder: &OwnedFd) -> rustix::io::Result<bool> {
        let mut folder = openat(folder, ".", UP, Mode::empty())?;
        for _ in 0..DEEPEST {
            if is_same(&folder, &self.top)? {
                return Ok(true);
            }
            let above = openat(&folder, "..", UP, Mode::empty())?;
            if is_same(&folder, &above)? {
                break;
            }
            folder = above;
        }
        Ok(false)
    }

    /// True if a file can be found in the root. Its path is only a hint.
    fn has_name_inside(&self, file: &OwnedFd, found: &Stat) -> bool {
        let Ok(path) = readlinkat(CWD, fd_path(file), Vec::new()) else { return false };
        let Some(inside) = self.inside(path.as_bytes()) else { return false };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = self.open_inside(&inside, flags, 0).and_then(fstat);
        named.is_ok_and(|named| (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino))
    }

    /// True if a path is that of a terminal which no supervised process has made.
    pub(super) fn is_others_terminal(&self, path: &[u8]) -> bool {
        let Some(name) = path.strip_prefix(b"/dev/pts/") else { return false };
        let number = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        name != b"ptmx" && number.is_none_or(|number: u32| !self.terminals.contains(&number))
    }
}

const UP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// True if two descriptors are of one file.
pub(super) fn is_same(one: &OwnedFd, other: &OwnedFd) -> rustix::io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// True if a file without a name in the root was opened by its holder: no process here can open a file outside, and a
/// path descriptor is not an opened file.
fn was_opened(link: &MagicLink) -> bool {
    link.is_program || link.how.as_deref().is_some_and(|how| is_open(how) == Some(true))
}

fn is_open(how: &Path) -> Option<bool> {
    let text = std::fs::read_to_string(how).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
    Some(!OFlags::from_bits_retain(flags).contains(OFlags::PATH))
}

/// True for a device that every container has: the same by number, in any device file.
fn is_usual_device(found: &Stat) -> bool {
    let device = (major(found.st_rdev), minor(found.st_rdev));
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && DEVICES.iter().any(|(_, major, minor)| device == (*major, *minor))
}

fn is_terminal_master(found: &Stat) -> bool {
    (major(found.st_rdev), minor(found.st_rdev)) == (5, 2)
}
