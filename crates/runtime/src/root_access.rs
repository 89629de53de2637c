//! The root of a running container, for who copies files in and out.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::init::walk::{LocatedFile, Missing, Root, fd_path, file_type, open_path};

/// The root of a running container. Paths are resolved inside it, links and `..` too, also while the container changes
/// it. What is mounted in the container is there.
///
/// It keeps the root's file system mounted: drop it before the snapshot under it is used otherwise. Its methods block
/// for some system calls.
pub struct RootAccess {
    top: OwnedFd,
}

impl RootAccess {
    pub(crate) fn new(top: OwnedFd) -> RootAccess {
        RootAccess { top }
    }

    /// Opens what a path leads to, as a path descriptor.
    pub fn find(&self, path: &str) -> io::Result<OwnedFd> {
        Ok(self.locate(path)?.file)
    }

    /// Opens what is at a path as a path descriptor: a link itself, unless the path ends with a slash.
    pub fn find_itself(&self, path: &str) -> io::Result<OwnedFd> {
        if matches!(path.rsplit('/').next(), None | Some("" | "." | "..")) {
            return self.find(path);
        }
        let (folder, name) = self.folder_of(path)?;
        Ok(open_path(folder, &name)?)
    }

    /// The folder around a path, as a path descriptor, and the path's last name, which need not exist. A file is made
    /// there by openat(2), without following a link.
    ///
    /// # Errors
    /// `EINVAL` for a path whose last part is no name.
    pub fn folder_of(&self, path: &str) -> io::Result<(OwnedFd, OsString)> {
        let trimmed = path.trim_end_matches('/');
        let (folder, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if matches!(name, "" | "." | "..") {
            return Err(Errno::INVAL.into());
        }
        let found = self.locate(folder)?;
        if !found.is_directory()? {
            return Err(Errno::NOTDIR.into());
        }
        Ok((found.file, name.into()))
    }

    /// Opens the regular file that a path leads to for reading.
    ///
    /// # Errors
    /// `EINVAL` for anything else: a device would be opened with this process's rights, and a pipe waited for.
    pub fn read(&self, path: &str) -> io::Result<File> {
        self.read_found(&self.find(path)?)
    }

    /// Opens the regular file of a path descriptor for reading. As [`RootAccess::read`].
    pub fn read_found(&self, file: &OwnedFd) -> io::Result<File> {
        if file_type(file)? != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        // The descriptor, and not a name, says which file it is: nothing can have taken its place.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(openat(CWD, fd_path(file), flags, Mode::empty())?.into())
    }

    fn locate(&self, path: &str) -> io::Result<LocatedFile> {
        let top = self.top.as_fd().try_clone_to_owned()?;
        Ok(Root::new(top)?.find(path, Missing::Fail)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::init::walk::open_folder;

    #[test]
    fn paths_stay_inside_and_only_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (top, outer) = (folder.path().join("top"), folder.path().join("outer"));
        fs::create_dir_all(top.join("inner")).unwrap();
        fs::write(&outer, "outer").unwrap();
        fs::write(top.join("inner/file"), "text").unwrap();
        symlink(&outer, top.join("out")).unwrap();
        symlink("../../../../inner", top.join("in")).unwrap();
        rustix::fs::mknodat(CWD, top.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let root = RootAccess::new(open_folder(&top).unwrap());

        let mut text = String::new();
        root.read("/in/file").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        for path in ["out", "/../outer", "in/../../outer", "/proc/self/exe"] {
            assert!(root.find(path).is_err(), "{path}");
        }
        for path in ["/pipe", "/inner", "/"] {
            let refused = root.read(path).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "{path}");
        }
        assert_eq!(file_type(root.find_itself("/in").unwrap()), Ok(FileType::Symlink));
        for path in ["/in", "/in/", "/in/."] {
            assert_eq!(file_type(root.find(path).unwrap()), Ok(FileType::Directory), "{path}");
        }
        assert_eq!(file_type(root.find_itself("/in/").unwrap()), Ok(FileType::Directory));
        let (around, name) = root.folder_of("/in/new").unwrap();
        let inner = fs::metadata(top.join("inner")).unwrap();
        assert_eq!(rustix::fs::fstat(around).unwrap().st_ino, inner.ino());
        assert_eq!(name, "new");
        for path in ["", "/", "/inner/..", "."] {
            assert!(root.folder_of(path).is_err(), "{path}");
        }
    }
}
