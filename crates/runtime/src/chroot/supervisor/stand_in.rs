//! Folders of the root that stand for the kernel's.
//!
//! A descriptor of a folder of the kernel's is a way out: its `..` lead to the machine's root. A process that opens
//! one gets a folder of the root with the same names in it; the files behind the names are served as always.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::lead::is_hidden;
use super::{Kernels, Supervisor};
use crate::init::walk::fd_path;

/// Limit of names that are shown of a folder.
const MOST_NAMES: usize = 1 << 16;

const LISTED: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Supervisor {
    /// Looks at a folder of the kernel's with a caller's rights.
    pub(super) fn look_into(&self, folder: &OwnedFd, flags: OFlags) -> rustix::io::Result<Seen> {
        let path = path_of(folder)?;
        let names = match flags.contains(OFlags::PATH) {
            true => None,
            false => Some(self.names(folder, &path)?),
        };
        Ok(Seen { path, names })
    }

    /// A folder of the root with the names of one of the kernel's, opened with a caller's flags.
    pub(super) fn stand_in(&self, seen: &Seen, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let place = self.place_for(&seen.path)?;
        if let Some(names) = &seen.names {
            show_names(names, &place)?;
        }
        let kept = OFlags::PATH | OFlags::NOATIME | OFlags::NONBLOCK;
        let flags = (flags & kept) | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&place, ".", flags, Mode::empty())
    }

    /// The metadata of the folder that stands for one of the kernel's.
    pub(super) fn stat_of_stand_in(&self, folder: &OwnedFd) -> rustix::io::Result<Stat> {
        fstat(self.place_for(&path_of(folder)?)?)
    }

    /// Makes a folder of the kernel's in the root, so that a program can be in it. What it asks for from there is a path
    /// like others. `path` is how the program names it, where a link may be on the way.
    pub(super) fn make_enterable(&self, path: &[u8], folder: &OwnedFd) -> rustix::io::Result<()> {
        // By its own name, should the program's lead there.
        let _ = path_of(folder).and_then(|own| self.place_for(&own));
        match self.place_for(Path::new(std::ffi::OsStr::from_bytes(path))) {
            // A link that is there already leads to the first.
            Ok(_) | Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The folder at a path of the kernel's, made where it is not there.
    fn place_for(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let Kernels { proc, sys, pts } = &self.kernels;
        for (prefix, top) in [("/proc", proc), ("/sys", sys), ("/dev/pts", pts)] {
            if let (Ok(inside), Some(top)) = (path.strip_prefix(prefix), top) {
                return make_folders(top, inside);
            }
        }
        Err(Errno::NOENT)
    }

    fn names(&self, folder: &OwnedFd, path: &Path) -> rustix::io::Result<BTreeMap<OsString, Name>> {
        let mut found = BTreeMap::new();
        for entry in Dir::read_from(folder)?.take(MOST_NAMES) {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let whole = [path.as_os_str().as_bytes(), b"/", name].concat();
            if matches!(name, b"." | b"..") || is_hidden(&whole) || self.is_others_terminal(&whole)
            {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Directory => Name::Folder,
                FileType::Symlink => Name::Link(self.text_of(folder, entry.file_name())),
                _ => Name::File,
            };
            found.insert(OsString::from_vec(name.to_vec()), kind);
        }
        Ok(found)
    }

    /// The text of a link of the kernel's, as it looks from inside the root; a dangling one for a link that cannot be read.
    fn text_of(&self, folder: &OwnedFd, name: &CStr) -> Vec<u8> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = openat(folder, name, flags, Mode::empty());
        let text = link.and_then(|link| self.link_text(&link)).unwrap_or_default();
        if text.is_empty() { b"?".to_vec() } else { text }
    }
}

/// A folder of the kernel's as a caller may see it.
pub(super) struct Seen {
    path: PathBuf,
    /// Its entries, if they were asked for.
    names: Option<BTreeMap<OsString, Name>>,
}

enum Name {
    Folder,
    File,
    Link(Vec<u8>),
}

/// Makes the names in a folder of the root these.
fn show_names(wanted: &BTreeMap<OsString, Name>, folder: &OwnedFd) -> rustix::io::Result<()> {
    let folder = openat(folder, ".", LISTED, Mode::empty())?;
    let mut there = BTreeSet::new();
    for name in listed(&folder)? {
        if !wanted.contains_key(&name) {
            remove(&folder, &name);
        } else {
            there.insert(name);
        }
    }
    for (name, kind) in wanted.iter().filter(|(name, _)| !there.contains(*name)) {
        let made = match kind {
            Name::Folder => mkdirat(&folder, name, Mode::from_raw_mode(0o555)),
            Name::Link(text) => symlinkat(&text[..], &folder, name),
            Name::File => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&folder, name, flags, Mode::from_raw_mode(0o444)).map(drop)
            }
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The path of a folder of the kernel's.
fn path_of(folder: &OwnedFd) -> rustix::io::Result<PathBuf> {
    let path = readlinkat(CWD, fd_path(folder), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// A folder below another one, made where it is not there. No link is followed.
pub(super) fn make_folders(top: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(top, ".", flags, Mode::empty())?;
    for name in path {
        if statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            mkdirat(&folder, name, Mode::from_raw_mode(0o555))?;
        }
        folder = openat(&folder, name, flags, Mode::empty())?;
    }
    Ok(folder)
}

fn listed(folder: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Makes the processes in a `/proc` of ours those that there are.
pub fn list_processes(proc: &OwnedFd, processes: &[i32]) {
    let Ok(folder) =
        openat(proc, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return;
    };
    let Ok(entries) = Dir::read_from(&folder) else { return };
    let listed: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
        .collect();
    for pid in listed.iter().filter(|pid| !processes.contains(pid)) {
        remove(&folder, &pid.to_string().into());
    }
    for pid in processes.iter().filter(|pid| !listed.contains(pid)) {
        let _ = mkdirat(&folder, pid.to_string(), Mode::from_raw_mode(0o555));
    }
}

/// Removes a name with all that is below it. No link is followed, and what cannot be removed stays.
fn remove(folder: &OwnedFd, name: &OsString) {
    remove_to_depth(folder, name, DEEPEST);
}

/// The kernel's folders are not so deep; what a command has made there may be.
const DEEPEST: u32 = 64;

fn remove_to_depth(folder: &OwnedFd, name: &OsString, depth: u32) {
    let Ok(below) = openat(folder, name, LISTED, Mode::empty()) else {
        let _ = unlinkat(folder, name, AtFlags::empty());
        return;
    };
    if depth > 0 {
        for inner in listed(&below).unwrap_or_default() {
            remove_to_depth(&below, &inner, depth - 1);
        }
    }
    let _ = unlinkat(folder, name, AtFlags::REMOVEDIR);
}
