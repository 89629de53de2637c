//! Mounts by renaming: files put into the root for the time of a command, and taken out again.
//!
//! The image's file is moved aside, the mount's source is moved in, and afterwards both go back. All of it is done by
//! renames on one file system. The folders around keep their times, so that the layer has no trace of it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Timestamps, fstat, linkat, mkdirat,
    openat, readlinkat, renameat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::init::walk::{
    LocatedFile, Missing, Root, fd_path, file_type, open_folder, open_path, times_of,
};
use crate::wire::{FailureKind, SetupFailure, StepContext};

/// Puts things into a root, and takes them out when it is dropped.
pub struct Placer {
    /// An empty folder on the root's file system.
    aside: OwnedFd,
    placed: Vec<Placed>,
    count: usize,
}

/// A thing on its way into the root.
struct Arrival {
    thing: OwnedFd,
    /// Its folder and name before.
    from: (OwnedFd, OsString),
    /// True if it goes back there.
    returns: bool,
}

/// A thing that stands somewhere for now.
struct Placed {
    folder: OwnedFd,
    name: OsString,
    /// The thing itself.
    thing: OwnedFd,
    /// Its folder and name before; without them it is removed.
    home: Option<(OwnedFd, OsString)>,
    /// The image's own, in `aside`.
    original: String,
}

impl Placer {
    pub fn new(aside: &Path) -> Result<Placer, SetupFailure> {
        let aside = open_folder(aside).step(|| format!("open the folder `{}`", aside.display()))?;
        Ok(Placer { aside, placed: Vec::new(), count: 0 })
    }

    /// A new empty folder, which is no longer where it was made once it has been placed.
    pub fn folder(&mut self, mode: u32) -> rustix::io::Result<(OwnedFd, String)> {
        let name = self.name("new");
        mkdirat(&self.aside, &*name, Mode::from_raw_mode(mode))?;
        // The umask has taken bits away.
        rustix::fs::chmodat(&self.aside, &*name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        Ok((open_path(&self.aside, &name)?, name))
    }

    /// A new empty file, open for writing.
    pub fn file(&mut self) -> rustix::io::Result<(OwnedFd, String)> {
        let name = self.name("new");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        Ok((openat(&self.aside, &*name, flags, Mode::from_raw_mode(0o600))?, name))
    }

    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}-{}", self.count)
    }

    /// Places what was made here.
    pub fn place_own(
        &mut self,
        root: &mut Root,
        target: &str,
        name: &str,
    ) -> Result<(), SetupFailure> {
        let aside = self.aside.try_clone().map_err(|_| too_many_files())?;
        let thing = open_path(&aside, name).step(|| format!("open what belongs at `{target}`"))?;
        self.place(root, target, Arrival { thing, from: (aside, name.into()), returns: false })
    }

    /// Places a file, folder or socket that lies elsewhere on the file system. It goes back there.
    pub fn place_other(
        &mut self,
        root: &mut Root,
        target: &str,
        source: LocatedFile,
    ) -> Result<(), SetupFailure> {
        let LocatedFile { file, within } = source;
        let (folder, name) = within.ok_or_else(|| {
            SetupFailure::plain(
                FailureKind::Refused,
                format!("the mount source of `{target}` is a root"),
            )
        })?;
        // Others use a socket at the same time, so it gets a second name.
        if file_type(&file) == Ok(FileType::Socket) {
            let second = self.name("new");
            linkat(&folder, &name, &self.aside, &*second, AtFlags::empty())
                .step(|| format!("link the socket for `{target}` (is it on another file system than kiln's root?)"))?;
            return self.place_own(root, target, &second);
        }
        self.place(root, target, Arrival { thing: file, from: (folder, name), returns: true })
    }

    fn place(
        &mut self,
        root: &mut Root,
        target: &str,
        arrival: Arrival,
    ) -> Result<(), SetupFailure> {
        let Arrival { thing, from: (from, from_name), returns } = arrival;
        let folder = file_type(&thing) == Ok(FileType::Directory);
        let missing = if folder { Missing::Directory } else { Missing::File };
        let place =
            root.find(target, missing).step(|| format!("make the mount point `{target}`"))?;
        if place.is_directory().step(|| format!("look at `{target}`"))? != folder {
            return Err(Errno::NOTDIR).step(|| format!("mount at `{target}`"));
        }
        let Some((around, name)) = place.within else {
            return Err(SetupFailure::plain(
                FailureKind::Refused,
                format!("the mount target `{target}` is the root"),
            ));
        };
        let original = self.name("old");
        let times = Times::of(&around);
        renameat(&around, &name, &self.aside, &*original)
            .step(|| format!("move what is at `{target}` aside"))?;
        if let Err(errno) = renameat(&from, &from_name, &around, &name) {
            let _ = renameat(&self.aside, &*original, &around, &name);
            times.restore(&around);
            return Err(errno).step(|| {
                format!("move into `{target}` (is it on another file system than kiln's root?)")
            });
        }
        times.restore(&around);
        let home = returns.then_some((from, from_name));
        self.placed.push(Placed { folder: around, name, thing, home, original });
        Ok(())
    }

    /// Takes everything out again, the last first. Nothing may run in the root any more.
    fn take_out(&mut self) {
        while let Some(placed) = self.placed.pop() {
            // A failure means that the command has removed it, together with its folder.
            let _ = self.take_one(&placed);
        }
    }

    fn take_one(&mut self, placed: &Placed) -> rustix::io::Result<()> {
        let times = Times::of(&placed.folder);
        let is_thing = |folder: &OwnedFd, name: &OsString| same_file(&placed.thing, folder, name);
        let there = is_thing(&placed.folder, &placed.name);
        match &placed.home {
            Some((folder, name)) if there => {
                renameat(&placed.folder, &placed.name, folder, name)?;
            }
            Some((folder, name)) => {
                // The command has moved it, which it could not have done with a mount.
                if let Ok(Some((around, now))) = find_again(&placed.thing) {
                    let _ = renameat(around, now, folder, name);
                }
            }
            None => {}
        }
        if statat(&placed.folder, &placed.name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
            && unlinkat(&placed.folder, &placed.name, AtFlags::empty()).is_err()
        {
            // A folder: the owner of `aside` empties it.
            let trash = self.name("trash");
            renameat(&placed.folder, &placed.name, &self.aside, &*trash)?;
        }
        renameat(&self.aside, &*placed.original, &placed.folder, &placed.name)?;
        times.restore(&placed.folder);
        Ok(())
    }
}

impl Drop for Placer {
    fn drop(&mut self) {
        self.take_out();
    }
}

/// The folder that a thing is in now, and its name there; none for what has been removed. Found by device and
/// inode, because any process can make a file of that name.
fn find_again(thing: &OwnedFd) -> rustix::io::Result<Option<(OwnedFd, OsString)>> {
    let around = if file_type(thing)? == FileType::Directory {
        openat(thing, "..", FOLDER, Mode::empty())?
    } else {
        // A file does not know its folder. Its path is where to look, and no link is followed on the way.
        let path = PathBuf::from(OsString::from_vec(
            readlinkat(CWD, fd_path(thing), Vec::new())?.into_bytes(),
        ));
        let Some(folder) = path.parent() else { return Ok(None) };
        match rustix::fs::openat2(CWD, folder, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            around => around?,
        }
    };
    let listed = openat(&around, ".", LISTED, Mode::empty())?;
    for entry in Dir::read_from(&listed)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        if name != "." && name != ".." && same_file(thing, &around, &name) {
            return Ok(Some((around, name)));
        }
    }
    Ok(None)
}

/// A folder, to work in.
const FOLDER: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A folder, to read its names.
const LISTED: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn same_file(thing: &OwnedFd, folder: &OwnedFd, name: &OsString) -> bool {
    let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    match (fstat(thing), found) {
        (Ok(thing), Ok(found)) => (thing.st_dev, thing.st_ino) == (found.st_dev, found.st_ino),
        _ => false,
    }
}

fn too_many_files() -> SetupFailure {
    SetupFailure::new(FailureKind::Step, "keep a folder open", Errno::MFILE)
}

/// The times of a folder.
struct Times(Option<Timestamps>);

impl Times {
    fn of(folder: &OwnedFd) -> Times {
        Times(fstat(folder).ok().map(|found| times_of(&found)))
    }

    fn restore(&self, folder: &OwnedFd) {
        if let Some(times) = &self.0 {
            let _ = utimensat(folder, ".", times, AtFlags::empty());
        }
    }
}
