//! Paths inside a root, resolved inside it: symbolic links, `..` and all, never leaving it.
//!
//! The walk opens one component at a time without following links and keeps the folders it came through, so that
//! `..` goes back to a folder that was inside. Unlike `openat2` it also works before kernel 5.6, and it knows the
//! final path, which the removal of made mount points needs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxFlags, Timestamps, mkdirat, open, openat,
    readlinkat, statx, utimensat,
};
use rustix::io::Errno;

use crate::wire::{FailureKind, SetupFailure};

/// Links followed before a path counts as a loop, as in the kernel.
const MOST_LINKS: usize = 40;

/// A file tree.
pub struct Root {
    fd: OwnedFd,
    mount: MountId,
    stubs: Vec<String>,
}

/// Tells whether two files are on one mount: its id, or the device before kernel 5.8.
type MountId = (u64, u32, u32);

/// The treatment of a path that does not exist.
#[derive(Clone, Copy)]
pub enum Missing {
    /// Say so.
    Fail,
    /// Make folders.
    Directory,
    /// Make folders that belong to this user and group, and stay.
    Owned(u32, u32),
    /// Make folders and an empty file.
    File,
}

/// A file found in a tree.
pub struct LocatedFile {
    /// The file itself, opened as a path.
    pub file: OwnedFd,
    /// The folder it is in and its name there; none for the root.
    pub within: Option<(OwnedFd, OsString)>,
}

impl LocatedFile {
    /// The file at the same name now: what has been mounted there since.
    pub fn again(&self) -> rustix::io::Result<OwnedFd> {
        match &self.within {
            Some((folder, name)) => open_path(folder, name),
            None => openat(&self.file, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
        }
    }

    /// True if it is a folder.
    pub fn is_directory(&self) -> rustix::io::Result<bool> {
        Ok(file_type(&self.file)? == FileType::Directory)
    }
}

/// A descriptor as a path for system calls that take nothing else.
pub fn fd_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The kind of an opened file.
pub fn file_type(fd: impl AsFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Opens what is to be mounted as a path: a file, folder or socket. A link in its place is refused,
/// because another user may have put it there.
pub fn open_source(path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let source = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    match file_type(&source)? {
        FileType::Symlink => Err(Errno::LOOP),
        _ => Ok(source),
    }
}

/// Opens a folder as a path.
pub fn open_folder(path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The path without superfluous components.
pub fn clean(target: &str) -> String {
    let mut names = Vec::new();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// A `/proc` elsewhere would show the image's files as the kernel's.
pub fn refuse_link(root: &Root, target: &str) -> Result<(), SetupFailure> {
    match readlinkat(root.top(), target.trim_start_matches('/'), Vec::new()) {
        Ok(_) => Err(SetupFailure::plain(
            FailureKind::Refused,
            format!("the image's `{target}` is a symbolic link: it must be a directory"),
        )),
        Err(_) => Ok(()),
    }
}

/// Opens a file without following it, and not for reading.
pub fn open_path(folder: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn mount_id(fd: impl AsFd) -> rustix::io::Result<MountId> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let known = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Ok((if known { stat.stx_mnt_id } else { 0 }, stat.stx_dev_major, stat.stx_dev_minor))
}

impl Root {
    /// A tree from its opened top folder.
    pub fn new(fd: OwnedFd) -> rustix::io::Result<Root> {
        Ok(Root { mount: mount_id(&fd)?, fd, stubs: Vec::new() })
    }

    /// The top folder.
    pub fn top(&self) -> &OwnedFd {
        &self.fd
    }

    /// The mount points that [`Missing::Directory`] and [`Missing::File`] have made in the tree's own mount, parents first.
    pub fn take_stubs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.stubs)
    }

    /// Finds `path`.
    pub fn find(&mut self, path: &str, missing: Missing) -> rustix::io::Result<LocatedFile> {
        let mut ahead: VecDeque<OsString> = components(path.as_bytes()).collect();
        let mut behind: Vec<(OwnedFd, OsString)> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                behind.pop();
                continue;
            }
            let folder = behind.last().map_or(&self.fd, |(fd, _)| fd);
            let file = match open_path(folder, &name) {
                Err(Errno::NOENT) if !matches!(missing, Missing::Fail) => {
                    // A `..` further on would make this folder a detour: none of the paths we get has one there.
                    let file = make(folder, &name, ahead.is_empty(), missing)?;
                    if !matches!(missing, Missing::Owned(..)) && mount_id(folder)? == self.mount {
                        let names = behind.iter().map(|(_, name)| name).chain([&name]);
                        let path: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
                        self.stubs.push(path.join("/"));
                    }
                    file
                }
                result => result?,
            };
            match file_type(&file)? {
                FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&file, "", Vec::new())?.into_bytes();
                    if target.first() == Some(&b'/') {
                        behind.clear();
                    }
                    for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        ahead.push_front(name);
                    }
                    continue;
                }
                FileType::Directory => {}
                _ if ahead.is_empty() => {}
                _ => return Err(Errno::NOTDIR),
            }
            behind.push((file, name));
        }
        let Some((file, name)) = behind.pop() else {
            let file = openat(&self.fd, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            return Ok(LocatedFile { file, within: None });
        };
        let folder = match behind.pop() {
            Some((fd, _)) => fd,
            None => self.fd.try_clone().map_err(|_| Errno::MFILE)?,
        };
        Ok(LocatedFile { file, within: Some((folder, name)) })
    }
}

/// Makes the folders of a path below `top`, as far as they are missing, for this process's user. No link leads out of
/// `top`, also while another process changes it.
///
/// # Errors
/// If `top` is no folder itself, or something on the way is none.
pub fn make_folders(top: &Path, path: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(CWD, top, flags, Mode::empty())?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let missing = Missing::Owned(uid.as_raw(), gid.as_raw());
    // It may be a file: a mount of one is none of ours.
    Root::new(top)?.find(path, missing).map(drop).map_err(io::Error::from)
}

/// The times of a file, to be set again.
pub fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: stat.st_atime as _,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: stat.st_mtime as _,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = OsString> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsString::from_vec(name.to_vec()))
}

/// Makes a folder or file. The folder around it keeps its times: a mount point is no change to the image.
fn make(
    folder: &OwnedFd,
    name: &OsString,
    last: bool,
    missing: Missing,
) -> rustix::io::Result<OwnedFd> {
    let before = rustix::fs::fstat(folder)?;
    if last && matches!(missing, Missing::File) {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(folder, name, flags, Mode::from_raw_mode(0o644))?;
    } else {
        mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
    }
    if let Missing::Owned(uid, gid) = missing {
        let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
        let made = open_path(folder, name)?;
        rustix::fs::chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        if file_type(&made)? == FileType::Directory {
            // The umask has taken bits away.
            let mode = Mode::from_raw_mode(0o755);
            rustix::fs::chmodat(CWD, fd_path(&made), mode, AtFlags::empty())?;
        }
        return Ok(made);
    }
    // Fails on mounts without times, where none are lost.
    let _ = utimensat(folder, ".", &times_of(&before), AtFlags::empty());
    open_path(folder, name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn folders_are_made_inside_whatever_links_say() {
        let folder = tempfile::tempdir().unwrap();
        let (top, outer) = (folder.path().join("top"), folder.path().join("outer"));
        fs::create_dir(&top).unwrap();
        fs::create_dir(&outer).unwrap();
        symlink(&outer, top.join("absolute")).unwrap();
        symlink("../outer", top.join("relative")).unwrap();
        symlink("/", top.join("top")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        fs::write(top.join("file"), "").unwrap();
        for path in ["a/b/c", "absolute/x", "relative/x", "../../x", "a/../../up", "top/../t", ""] {
            make_folders(&top, path).unwrap();
            assert!(fs::read_dir(&outer).unwrap().next().is_none(), "{path}");
        }
        // The links lead to paths inside.
        let inside = top.join(outer.strip_prefix("/").unwrap()).join("x");
        for made in [&top.join("a/b/c"), &inside, &top.join("outer/x"), &top.join("t")] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o755, "{made:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        for wrong in ["file/x", "loop/x"] {
            assert!(make_folders(&top, wrong).is_err(), "{wrong}");
        }
        make_folders(&top, "file").unwrap();
        assert!(make_folders(&top.join("absolute"), "y").is_err(), "a link is no folder");
    }

    #[test]
    fn targets_are_compared_clean() {
        assert_eq!(clean("/dev//shm/"), "/dev/shm");
        assert_eq!(clean("/a/../dev/./shm"), "/dev/shm");
        assert_eq!(clean("/.."), "/");
    }
}
