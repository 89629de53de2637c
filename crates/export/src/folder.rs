//! Files in a user's folder, each complete when it gets its name.
//!
//! They are first written under a temporary name into a folder on the same file system, and then
//! renamed one by one: an interrupted export leaves whole files, and at most a `.kiln-…` folder. A
//! new file replaces one of its name, links are not followed, and other files stay unless their
//! deletion is asked for.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use layer::Time;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::Error;

/// Files on their way into a folder.
pub(crate) struct Placing {
    target: PathBuf,
    /// In the target, so that a rename is enough. Removed when this is dropped.
    temporary: tempfile::TempDir,
}

/// Puts the path before what went wrong with it.
fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Write { path: path.to_owned(), source }
}

impl Placing {
    /// Begins, making the folder where there is none.
    pub(crate) fn begin(target: &Path) -> Result<Self, Error> {
        fs::create_dir_all(target).map_err(failed(target))?;
        let temporary =
            tempfile::Builder::new().prefix(".kiln-").tempdir_in(target).map_err(failed(target))?;
        fs::create_dir(temporary.path().join("files")).map_err(failed(temporary.path()))?;
        Ok(Self { target: target.to_owned(), temporary })
    }

    fn root(&self) -> PathBuf {
        self.temporary.path().join("files")
    }

    /// A folder among the files; without a name, the one of all files.
    pub(crate) fn make_folder(&self, name: &str) -> Result<PathBuf, Error> {
        if name.is_empty() {
            // Each checkout begins with an empty folder: several platforms are put into one.
            let path = tempfile::Builder::new()
                .prefix("platform-")
                .tempdir_in(self.temporary.path())
                .map_err(failed(self.temporary.path()))?;
            return Ok(path.keep());
        }
        let path = self.root().join(name);
        fs::create_dir(&path).map_err(failed(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed(&path))?;
        Ok(path)
    }

    /// Writes a file that only its owner reads.
    pub(crate) fn write(&self, folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = folder.join(name);
        if name.contains('/') || path.symlink_metadata().is_ok() {
            let message = format!("`{name}` is already a file of the result, or no file name");
            return Err(Error::Format(message));
        }
        let options = &mut fs::OpenOptions::new();
        let options = std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
        let file = options.write(true).create_new(true).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(failed(&path))
    }

    /// Gives all files to the caller, and the time, where there is one.
    pub(crate) fn settle(&self, folder: &Path, time: Option<Time>) -> Result<(), Error> {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        settle(folder, own, time)?;
        // Those without a folder of their own go among the others now.
        match folder.parent() == Some(self.temporary.path()) {
            true => merge(folder, &self.root()),
            false => Ok(()),
        }
    }

    /// Gives each file its name.
    pub(crate) fn finish(self, delete: bool) -> Result<(), Error> {
        let root = self.root();
        let kept: BTreeSet<PathBuf> = match delete {
            true => paths(&root)?.into_iter().collect(),
            false => BTreeSet::new(),
        };
        merge(&root, &self.target)?;
        if delete {
            let temporary = self.temporary.path().file_name().map(OsString::from);
            remove_others(&self.target, Path::new(""), &kept, temporary.as_ref())?;
        }
        Ok(())
    }
}

/// A folder's entries in the order of names.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, Metadata)>, Error> {
    let read = || {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            entries.push((entry.path(), entry.metadata()?));
        }
        Ok(entries)
    };
    let mut entries: Vec<(PathBuf, Metadata)> = read().map_err(failed(folder))?;
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(entries)
}

/// Sets owners and times of what is in a folder, and of the folder, from the inside out.
fn settle(folder: &Path, own: (u32, u32), time: Option<Time>) -> Result<(), Error> {
    for (path, metadata) in entries(folder)? {
        if metadata.is_dir() {
            // A folder that its owner may not enter is the caller's to enter until it is placed.
            settle(&path, own, time)?;
            continue;
        }
        take(&path, &metadata, own)?;
        set_time(&path, time)?;
    }
    let metadata = folder.symlink_metadata().map_err(failed(folder))?;
    take(folder, &metadata, own)?;
    set_time(folder, time)
}

fn take(path: &Path, metadata: &Metadata, own: (u32, u32)) -> Result<(), Error> {
    if (metadata.uid(), metadata.gid()) == own {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(own.0), Some(own.1)).map_err(failed(path))?;
    // A new owner costs setuid and setgid.
    if metadata.mode() & 0o6000 != 0 && !metadata.is_symlink() {
        let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
        fs::set_permissions(path, mode).map_err(failed(path))?;
    }
    Ok(())
}

fn set_time(path: &Path, time: Option<Time>) -> Result<(), Error> {
    let Some(time) = time else { return Ok(()) };
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let set = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.map_err(io::Error::from).map_err(failed(path))
}

/// Renames what is in one folder to the same names in another, whose own metadata stays.
fn merge(from: &Path, to: &Path) -> Result<(), Error> {
    for (path, metadata) in entries(from)? {
        let Some(name) = path.file_name() else { continue };
        let place = to.join(name);
        let there = place.symlink_metadata().ok();
        match (metadata.is_dir(), there) {
            // A folder that is there keeps what else is in it, and gets the new one's metadata.
            (true, Some(there)) if there.is_dir() => {
                let times = times_of(&metadata);
                merge(&path, &place)?;
                fs::set_permissions(&place, fs::Permissions::from_mode(metadata.mode() & 0o7777))
                    .map_err(failed(&place))?;
                let set = utimensat(CWD, &place, &times, AtFlags::SYMLINK_NOFOLLOW);
                set.map_err(io::Error::from).map_err(failed(&place))?;
            }
            (is_folder, there) => {
                if let Some(there) = there.filter(|there| there.is_dir() || is_folder) {
                    let removed = match there.is_dir() {
                        true => fs::remove_dir_all(&place),
                        false => fs::remove_file(&place),
                    };
                    removed.map_err(failed(&place))?;
                }
                fs::rename(&path, &place).map_err(failed(&place))?;
            }
        }
    }
    Ok(())
}

fn times_of(metadata: &Metadata) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: metadata.atime(), tv_nsec: metadata.atime_nsec() },
        last_modification: Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() },
    }
}

/// The paths of all that is in a folder, relative to it.
fn paths(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for (path, metadata) in entries(&folder)? {
            paths.extend(path.strip_prefix(root).ok().map(Path::to_owned));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    Ok(paths)
}

/// Removes what is in a folder and not to be kept.
fn remove_others(
    root: &Path,
    folder: &Path,
    kept: &BTreeSet<PathBuf>,
    temporary: Option<&OsString>,
) -> Result<(), Error> {
    for (path, metadata) in entries(&root.join(folder))? {
        let Some(name) = path.file_name() else { continue };
        let relative = folder.join(name);
        if folder.as_os_str().is_empty() && Some(name) == temporary.map(OsString::as_os_str) {
            continue;
        }
        match (kept.contains(&relative), metadata.is_dir()) {
            (true, true) => remove_others(root, &relative, kept, temporary)?,
            (true, false) => {}
            (false, true) => fs::remove_dir_all(&path).map_err(failed(&path))?,
            (false, false) => fs::remove_file(&path).map_err(failed(&path))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(folder: &Path) -> Vec<String> {
        let mut listed: Vec<String> =
            paths(folder).unwrap().iter().map(|path| path.display().to_string()).collect();
        listed.sort();
        listed
    }

    fn place(target: &Path, files: &[(&str, &str)], delete: bool) {
        let placing = Placing::begin(target).unwrap();
        let inside = placing.make_folder("").unwrap();
        for (name, text) in files {
            let path = inside.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        placing.settle(&inside, Some(Time { seconds: 7, nanos: 0 })).unwrap();
        placing.finish(delete).unwrap();
    }

    #[test]
    fn what_is_there_stays_or_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        fs::create_dir_all(target.join("sub")).unwrap();
        fs::create_dir_all(target.join("a-folder/inside")).unwrap();
        fs::write(target.join("sub/old"), "old").unwrap();
        fs::write(target.join("sub/same"), "old").unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("linked")).unwrap();
        place(&target, &[("sub/same", "new"), ("a-folder", "file"), ("linked/x", "x")], false);
        assert_eq!(
            listed(&target),
            ["a-folder", "linked", "linked/x", "sub", "sub/old", "sub/same"]
        );
        assert_eq!(fs::read_to_string(target.join("sub/same")).unwrap(), "new");
        assert_eq!(target.join("sub/same").metadata().unwrap().mtime(), 7);
        assert_eq!(target.join("sub").metadata().unwrap().mtime(), 7);
        // Nothing was written through the link that was there.
        assert_eq!(listed(&outside), [""; 0]);
    }

    #[test]
    fn others_go_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        place(&target, &[("a/b", "1"), ("c", "1"), ("d/e", "1")], true);
        place(&target, &[("a/f", "2"), ("c", "2")], true);
        assert_eq!(listed(&target), ["a", "a/f", "c"]);
    }

    #[test]
    fn an_interrupted_export_leaves_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let placing = Placing::begin(folder.path()).unwrap();
        let inside = placing.make_folder("linux_amd64").unwrap();
        fs::write(inside.join("half"), "ha").unwrap();
        // A kill leaves the temporary folder behind, and no name of the result.
        let names = entries(folder.path()).unwrap();
        assert!(names.iter().all(|(path, _)| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".kiln-"))
        }));
        drop(placing);
        assert_eq!(listed(folder.path()), [""; 0]);
    }
}
