//! The differences of an overlay's upper directory from the layers below it.
//!
//! The rules are those of BuildKit's overlay differ: a directory that was only copied up is
//! unchanged, and so is a file with the same metadata, size and time as below. A directory that was
//! removed and made again is compared with the one below it, name by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::{Entry, EntryKind, Time, shown};
use rustix::fs::{
    FileType, OFlags, Stat, Timespec, Timestamps, fremovexattr, fstat, futimens, lstat, major,
    minor,
};
use rustix::io::Errno;
use tree::{same_bytes, split_last};

use crate::attributes::Attributes;
use crate::folder::{FolderWriter, is_whiteout, open_beneath, open_root};
use crate::found::{FoundFile, Settled, settle};
use crate::layer_roots::LayerRoot;
use crate::options::OpenOptions;
use crate::{Error, Result};

/// The changes in an upper directory.
pub(crate) struct Changes {
    /// The entries of a layer.
    pub(crate) entries: Vec<Entry>,
    /// Files of the directory that are no change, parents first.
    left_out: Vec<Box<[u8]>>,
    /// Directories that hide the content below them.
    opaque: Vec<Box<[u8]>>,
    /// Names that are gone because their directory was made again.
    hidden: Vec<Box<[u8]>>,
}

impl Changes {
    /// Finds the changes; `lowers` are the folders of the layers below, the uppermost first.
    ///
    /// # Errors
    /// If the upper directory has redirects or metadata-only copies.
    pub(crate) fn find(upper: &Path, lowers: &[Arc<LayerRoot>]) -> Result<Self> {
        let mut walk = UpperWalk {
            upper,
            roots: lowers,
            found: Vec::new(),
            dead: Vec::new(),
            opaque: Vec::new(),
            hidden: Vec::new(),
            path: Vec::new(),
        };
        // The root was not made again: its own names are all that is looked for.
        walk.directory(Below { folders: &[], is_remade: false })?;
        let Settled { entries, mut left_out } = settle(walk.found);
        left_out.extend(walk.dead);
        Ok(Self { entries, left_out, opaque: walk.opaque, hidden: walk.hidden })
    }

    /// Makes the directory match its entries exactly, because other chains may have the same layer.
    /// Times of directories stay.
    pub(crate) fn tidy(&self, upper: &Path, options: OpenOptions) -> Result<()> {
        if self.left_out.is_empty() && self.opaque.is_empty() && self.hidden.is_empty() {
            return Ok(());
        }
        let root = open_root(upper)?;
        let mut writer = FolderWriter::new(root.as_fd(), options);
        if let Some(prefix) = options.privileged.overlay_prefix() {
            for path in &self.opaque {
                let failed = Error::file("change attributes of", shown(path));
                open_beneath(root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
                    .and_then(|folder| fremovexattr(&folder, format!("{prefix}opaque")))
                    .map_err(failed)?;
            }
        }
        for path in self.left_out.iter().rev() {
            keeping_times(root.as_fd(), split_last(path).0, || writer.remove(path))?;
        }
        for path in &self.hidden {
            keeping_times(root.as_fd(), split_last(path).0, || writer.whiteout(path))?;
        }
        Ok(())
    }
}

fn keeping_times(
    root: BorrowedFd<'_>,
    folder: &[u8],
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let failed = || Error::file::<Errno>("set time of", shown(folder));
    let fd = open_beneath(root, folder, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed())?;
    let before = fstat(&fd).map_err(failed())?;
    work()?;
    let time = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos.cast_signed() };
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec),
        last_modification: time(before.st_mtime, before.st_mtime_nsec),
    };
    futimens(&fd, &times).map_err(failed())
}

struct UpperWalk<'a> {
    upper: &'a Path,
    /// The layers below, the uppermost first.
    roots: &'a [Arc<LayerRoot>],
    found: Vec<FoundFile>,
    /// Files that change nothing, and whiteouts of names that do not exist below.
    dead: Vec<Box<[u8]>>,
    opaque: Vec<Box<[u8]>>,
    hidden: Vec<Box<[u8]>>,
    /// Path of the current directory, relative to `upper`.
    path: Vec<u8>,
}

/// A directory in the layers below, as far as they are visible.
#[derive(Clone, Copy)]
struct Below<'a> {
    /// Its folders, the uppermost first.
    folders: &'a [PathBuf],
    /// True if it was removed and made again: names that the upper one does not have are gone.
    is_remade: bool,
}

/// The file of lower layers at a path, and their directories there, the uppermost first.
#[derive(Default)]
struct Lower {
    stat: Option<(PathBuf, Stat)>,
    folders: Vec<PathBuf>,
}

impl UpperWalk<'_> {
    /// Walks the directory `self.path`.
    fn directory(&mut self, below: Below<'_>) -> Result<()> {
        let folder = self.upper.join(OsStr::from_bytes(&self.path));
        let upper = names(&folder)?;
        let mut all: BTreeMap<Vec<u8>, bool> = upper.into_iter().map(|name| (name, true)).collect();
        if below.is_remade {
            for name in visible(below.folders)? {
                all.entry(name).or_insert(false);
            }
        }
        let length = self.path.len();
        for (name, is_upper) in all {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            if is_upper {
                self.visit(&name, below)?;
            } else {
                self.found.push(FoundFile::gone(&self.path));
                self.hidden.push(self.path.as_slice().into());
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn visit(&mut self, name: &[u8], below: Below<'_>) -> Result<()> {
        let path = self.upper.join(OsStr::from_bytes(&self.path));
        let stat = lstat(&path).map_err(Error::file("look at", &path))?;
        let is_in_root = self.path.len() == name.len();
        let lower = match is_in_root {
            true => Lower::in_roots(name, self.roots)?,
            false => Lower::find(name, below.folders)?,
        };
        if is_whiteout(&stat) {
            // There is nothing to delete below.
            match &lower.stat {
                Some(_) => self.found.push(FoundFile::gone(&self.path)),
                None => self.dead.push(self.path.as_slice().into()),
            }
            return Ok(());
        }
        let attributes = Attributes::read(&path)?;
        if let Some(attribute) = attributes.not_plain {
            return Err(Error::NotPlainUpper { path: shown(&self.path), attribute });
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return self.visit_directory(&stat, attributes, (&lower, below.is_remade));
        }
        let changed = match &lower.stat {
            Some(below) => !same_file((&path, &stat), below, &attributes)?,
            None => true,
        };
        let has_names = stat.st_nlink > 1;
        let may_be_entry = changed || has_names && below.is_remade;
        if !may_be_entry {
            self.dead.push(self.path.as_slice().into());
        } else if let Some(kind) = self.kind(&path, &stat)? {
            let inode = has_names.then_some(stat.st_ino);
            let entry = self.entry(&stat, kind, attributes);
            self.found.push(FoundFile { entry, inode, changed });
        }
        Ok(())
    }

    fn visit_directory(
        &mut self,
        stat: &Stat,
        attributes: Attributes,
        (lower, in_remade): (&Lower, bool),
    ) -> Result<()> {
        if attributes.opaque {
            self.opaque.push(self.path.as_slice().into());
        }
        let is_remade = in_remade || attributes.opaque;
        let changed = match &lower.stat {
            Some((below, below_stat)) => {
                !same_metadata(stat, below_stat) || !same_capability(&attributes, below)?
            }
            None => true,
        };
        let entry = self.entry(stat, EntryKind::Directory, attributes);
        self.found.push(FoundFile { entry, inode: None, changed });
        self.directory(Below { folders: &lower.folders, is_remade })
    }

    /// The kind of a file; `None` for a socket, which archives do not have.
    fn kind(&self, path: &Path, stat: &Stat) -> Result<Option<EntryKind>> {
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File { size: stat.st_size.cast_unsigned() },
            FileType::Symlink => {
                let target = fs::read_link(path).map_err(Error::file("read link", path))?;
                EntryKind::Symlink { target: target.into_os_string().into_vec().into() }
            }
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => return Ok(None),
            _ => return Err(Error::entry(&self.path, "a file of an unknown type")),
        }))
    }

    fn entry(&self, stat: &Stat, kind: EntryKind, attributes: Attributes) -> Entry {
        Entry {
            path: self.path.as_slice().into(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            // Whole seconds, as containerd's differ writes them.
            mtime: Time { seconds: stat.st_mtime, nanos: 0 },
            xattrs: attributes.of_layer(),
        }
    }
}

fn names(folder: &Path) -> Result<Vec<Vec<u8>>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name().into_vec())).collect())
        .map_err(Error::file("list", folder))
}

/// Returns the names that are visible in directories over one another.
fn visible(folders: &[PathBuf]) -> Result<BTreeSet<Vec<u8>>> {
    let mut seen: HashMap<Vec<u8>, bool> = HashMap::new();
    for folder in folders {
        for name in names(folder)? {
            if seen.contains_key(&name) {
                continue;
            }
            let path = folder.join(OsStr::from_bytes(&name));
            let stat = lstat(&path).map_err(Error::file("look at", &path))?;
            seen.insert(name, !is_whiteout(&stat));
        }
    }
    Ok(seen.into_iter().filter(|(_, visible)| *visible).map(|(name, _)| name).collect())
}

/// True if lower layers have a visible file of this name in their root.
pub(crate) fn is_below(name: &[u8], lowers: &[Arc<LayerRoot>]) -> Result<bool> {
    Ok(Lower::in_roots(name, lowers)?.stat.is_some())
}

impl Lower {
    fn in_roots(name: &[u8], roots: &[Arc<LayerRoot>]) -> Result<Self> {
        let roots = roots.iter().filter(|root| root.may_have(name));
        Self::among(name, roots.map(|root| root.path()))
    }

    fn find(name: &[u8], lowers: &[PathBuf]) -> Result<Self> {
        Self::among(name, lowers.iter().map(PathBuf::as_path))
    }

    fn among<'f>(name: &[u8], folders: impl Iterator<Item = &'f Path>) -> Result<Self> {
        let mut found = Self::default();
        for folder in folders {
            let path = folder.join(OsStr::from_bytes(name));
            let stat = match lstat(&path) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(Error::file("look at", &path)(error)),
            };
            if is_whiteout(&stat) {
                break;
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                // A file of a lower layer is not visible below a directory.
                if found.stat.is_none() {
                    found.stat = Some((path, stat));
                }
                break;
            }
            let opaque = Attributes::read(&path)?.opaque;
            found.folders.push(path.clone());
            if found.stat.is_none() {
                found.stat = Some((path, stat));
            }
            if opaque {
                break;
            }
        }
        Ok(found)
    }
}

fn same_metadata(left: &Stat, right: &Stat) -> bool {
    (left.st_mode, left.st_uid, left.st_gid, left.st_rdev)
        == (right.st_mode, right.st_uid, right.st_gid, right.st_rdev)
}

fn same_capability(attributes: &Attributes, below: &Path) -> Result<bool> {
    Ok(attributes.capability() == Attributes::read(below)?.capability())
}

/// True if a file was copied up or made again but is the same. Times in whole seconds, as after
/// unpacking, prove nothing: then the contents decide.
fn same_file(
    (path, stat): (&Path, &Stat),
    (below, below_stat): &(PathBuf, Stat),
    attributes: &Attributes,
) -> Result<bool> {
    if !same_metadata(stat, below_stat)
        || stat.st_size != below_stat.st_size
        || (stat.st_mtime, stat.st_mtime_nsec) != (below_stat.st_mtime, below_stat.st_mtime_nsec)
        || !same_capability(attributes, below)?
    {
        return Ok(false);
    }
    if stat.st_mtime_nsec != 0 {
        return Ok(true);
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = |path: &Path| fs::read_link(path).map_err(Error::file("read link", path));
            Ok(target(path)? == target(below)?)
        }
        FileType::RegularFile => same_content(path, below),
        _ => Ok(true),
    }
}

fn same_content(left: &Path, right: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).map_err(Error::file("open", path));
    let (left_file, right_file) = (open(left)?, open(right)?);
    let size = left_file.metadata().map_err(Error::file("look at", left))?.size();
    same_bytes(size, &mut &left_file, &mut &right_file).map_err(Error::file("read", left))
}
