//! Moving files and folders with what is known of them, so that it can be stopped and gone on with.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};
use serde::{Deserialize, Serialize};

pub fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// The rank of a path below the top by how soon a shell needs it: the lowest first.
pub fn need(path: &Path) -> usize {
    const ORDER: [&str; 5] = ["lib", "lib64", "bin", "sbin", "etc"];
    let mut names = path.iter().map(|name| name.to_string_lossy());
    let first = names.next().unwrap_or_default();
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    match (&*first, names.next()) {
        // Links at the top lead into a merged `/usr`.
        ("usr", Some(second)) => place(&second).unwrap_or(ORDER.len()),
        ("usr", None) => 0,
        (name, _) if name.starts_with("lib") => 0,
        (name, _) => place(name).unwrap_or(ORDER.len() + 1),
    }
}

/// Asked before each file: whether to leave it.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// For what is to be done to its end.
pub const NEVER: Stop<'static> = &|| false;

/// A way to move files and folders that a kill at any moment leaves true.
pub struct Mover<'a> {
    /// A folder on the same mount, in which folders are made.
    pub state: &'a Path,
    pub stop: Stop<'a>,
}

impl Mover<'_> {
    /// Moves a file or folder. A folder of a lower layer of the container's own overlay can be moved file by file only,
    /// and one that a killed process has moved half is there already: then what is in it is moved. Both halves have the
    /// folder's owner and mode at every moment.
    pub fn move_entry(&self, from: &Path, to: &Path) -> io::Result<()> {
        use io::ErrorKind::{AlreadyExists, CrossesDevices, DirectoryNotEmpty};
        if (self.stop)() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match fs::rename(from, to) {
            Err(error)
                if matches!(error.kind(), CrossesDevices | DirectoryNotEmpty | AlreadyExists)
                    && is_folder(from) => {}
            result => return result,
        }
        let header = FolderMetadata::of(from)?;
        self.make_half(&header, to)?;
        let moved = || -> io::Result<()> {
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                self.move_entry(&from.join(&name), &to.join(&name))?;
            }
            Ok(())
        };
        let moved = moved();
        // Both halves, where it ends half-way: moving has changed their times.
        header.give(to)?;
        match moved {
            Ok(()) => fs::remove_dir(from),
            Err(error) => header.give(from).and(Err(error)),
        }
    }

    /// Makes the other half of a folder, unless it is there. It is made aside: a kill before it has its owner and mode
    /// would leave two halves of which nobody knows which is true.
    fn make_half(&self, header: &FolderMetadata, path: &Path) -> io::Result<()> {
        if is_folder(path) {
            return Ok(());
        }
        let aside = self.state.join("half");
        // Empty, if a killed process has left it.
        match fs::remove_dir(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        make_folder(&aside)?;
        header.give(&aside)?;
        fs::rename(&aside, path)
    }
}

/// Makes a folder that may be there, with those around it: closed to other users until it is given a header.
pub fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match is_folder(path) {
        true => Ok(()),
        false => fs::DirBuilder::new().recursive(true).mode(0o700).create(path),
    }
}

/// A folder's owner, mode and times, which change while it is emptied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FolderMetadata {
    owner: (u32, u32),
    pub mode: u32,
    accessed: SystemTime,
    pub modified: SystemTime,
}

impl FolderMetadata {
    pub fn of(folder: &Path) -> io::Result<FolderMetadata> {
        let found = folder.symlink_metadata()?;
        if !found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(FolderMetadata {
            owner: (found.uid(), found.gid()),
            mode: found.mode() & 0o7777,
            accessed: found.accessed()?,
            modified: found.modified()?,
        })
    }

    pub fn give(&self, folder: &Path) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        chownat(CWD, folder, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(self.mode))?;
        let times = fs::FileTimes::new().set_accessed(self.accessed).set_modified(self.modified);
        File::open(folder)?.set_times(times)
    }
}
