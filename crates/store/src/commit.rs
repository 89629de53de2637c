//! Makes a layer of what a command has changed: reads the overlay's upper directory, never the
//! whole tree.
//!
//! What counts as changed is what BuildKit's overlay differ takes for changed: a directory that
//! was only copied up is not, nor is a file with the same metadata, size and time as below.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};
use rustix::fs::{FileType, Stat, lgetxattr, llistxattr, lstat, major, minor};
use rustix::io::Errno;

use crate::error::shown;
use crate::folder::{is_overlay_attribute, is_whiteout};
use crate::tar::TarWriter;
use crate::{Entry, EntryKind, Error, Layer, LayerIndex, Result, Store, Time, Xattr};

impl Store {
    /// Makes a layer of an overlay's upper directory and keeps it unpacked: the directory is moved
    /// into the store. An upper directory without a change makes an empty layer. Nothing is
    /// compressed or written but the index.
    ///
    /// `parents` are the layers that were below, from the bottom up. `ignore` names what the
    /// container's mounts needed to stand on (as [`Entry::path`]): empty files and empty
    /// directories there are removed. Nobody may have the overlay mounted any more.
    ///
    /// # Errors
    /// Where the upper directory has redirects or metadata-only copies, or a parent is not
    /// unpacked.
    pub fn commit_upper(
        &self,
        upper: &Path,
        parents: &[Digest],
        ignore: &[Box<[u8]>],
        created: Option<String>,
    ) -> Result<Layer> {
        remove_stubs(upper, ignore)?;
        let mut lowers = Vec::with_capacity(parents.len());
        for parent in parents.iter().rev() {
            if !self.is_unpacked(parent)? {
                return Err(Error::NoLayer(*parent));
            }
            lowers.push(self.layer_folder(parent));
        }
        let mut walk = Walk { upper, entries: Vec::new(), links: HashMap::new(), path: Vec::new() };
        walk.directory(&lowers)?;
        let entries = walk.entries;

        let mut archive = TarWriter::new(Hasher::new());
        let mut size = 0;
        for entry in &entries {
            if let EntryKind::File { size: file } = entry.kind {
                size += file;
                let path = upper.join(OsStr::from_bytes(&entry.path));
                let mut content = File::open(&path).map_err(Error::file("open", &path))?;
                archive.append(entry, &mut content)?;
            } else {
                archive.append(entry, &mut io::empty())?;
            }
        }
        let diff_id = archive.finish()?.finish();
        if self.is_unpacked(&diff_id)? {
            self.discard(upper)?;
        } else {
            self.put_index(&diff_id, &LayerIndex::from_entries(entries))?;
            if !self.install(upper, &diff_id, size)? {
                self.discard(upper)?;
            }
        }
        Ok(Layer { diff_id, blob: None, created, places: Vec::new() })
    }
}

/// Removes mount points that the container's start made, so that the folder is what its index says.
/// The times of their parents stay.
pub(crate) fn remove_stubs(upper: &Path, ignore: &[Box<[u8]>]) -> Result<()> {
    let mut paths: Vec<&[u8]> = ignore.iter().map(|path| &**path).collect();
    // What is deeper comes first.
    paths.sort_by_key(|path| std::cmp::Reverse(path.iter().filter(|byte| **byte == b'/').count()));
    for path in paths {
        if !crate::is_entry_path(path) || path.is_empty() || has_link_before(upper, path) {
            continue;
        }
        let path = upper.join(OsStr::from_bytes(path));
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let parent = path.parent().unwrap_or(upper);
        let times = fs::metadata(parent).ok();
        let removed = if metadata.is_dir() {
            fs::remove_dir(&path).is_ok()
        } else {
            metadata.is_file() && metadata.len() == 0 && fs::remove_file(&path).is_ok()
        };
        if let (true, Some(times)) = (removed, times) {
            let times = fs::FileTimes::new()
                .set_accessed(times.accessed().map_err(Error::file("look at", parent))?)
                .set_modified(times.modified().map_err(Error::file("look at", parent))?);
            File::open(parent)
                .and_then(|folder| folder.set_times(times))
                .map_err(Error::file("set time of", parent))?;
        }
    }
    Ok(())
}

fn has_link_before(upper: &Path, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.into_iter().any(|end| upper.join(OsStr::from_bytes(&path[..end])).is_symlink())
}

struct Walk<'a> {
    upper: &'a Path,
    entries: Vec<Entry>,
    /// First names of files with several, by inode.
    links: HashMap<u64, Box<[u8]>>,
    /// Of the directory that is walked, relative to `upper`.
    path: Vec<u8>,
}

/// What lower layers have at a path, and their directories there, the uppermost first.
#[derive(Default)]
struct Lower {
    stat: Option<(PathBuf, Stat)>,
    folders: Vec<PathBuf>,
}

impl Walk<'_> {
    /// Walks the directory `self.path`; `lowers` are the same directory in the layers below, as
    /// far as they are seen through.
    fn directory(&mut self, lowers: &[PathBuf]) -> Result<()> {
        let folder = self.upper.join(OsStr::from_bytes(&self.path));
        let mut names = fs::read_dir(&folder)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name().into_vec()))
                    .collect::<io::Result<Vec<_>>>()
            })
            .map_err(Error::file("list", &folder))?;
        names.sort_unstable();
        let length = self.path.len();
        for name in names {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.visit(&name, lowers)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn visit(&mut self, name: &[u8], lowers: &[PathBuf]) -> Result<()> {
        let path = self.upper.join(OsStr::from_bytes(&self.path));
        let stat = lstat(&path).map_err(Error::file("look at", &path))?;
        let lower = Lower::find(name, lowers)?;
        if is_whiteout(&stat) {
            // Of what is not below there is nothing to delete.
            if lower.stat.is_some() {
                self.entries.push(Entry {
                    path: self.path.as_slice().into(),
                    kind: EntryKind::Whiteout,
                    mode: 0,
                    uid: 0,
                    gid: 0,
                    mtime: Time::default(),
                    xattrs: Vec::new(),
                });
            }
            return Ok(());
        }
        let attributes = Attributes::read(&path)?;
        if let Some(attribute) = attributes.not_plain {
            return Err(Error::NotPlainUpper { path: shown(&self.path), attribute });
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return self.visit_directory(&stat, attributes, &lower);
        }
        let changed = match &lower.stat {
            Some((below, below_stat)) => {
                stat.st_nlink > 1 || !same_file((&path, &stat), (below, below_stat), &attributes)?
            }
            None => true,
        };
        if changed && let Some(kind) = self.kind(&path, &stat)? {
            self.push(&stat, kind, attributes.kept);
        }
        Ok(())
    }

    fn visit_directory(
        &mut self,
        stat: &Stat,
        attributes: Attributes,
        lower: &Lower,
    ) -> Result<()> {
        let is_opaque = attributes.opaque && lower.stat.is_some();
        let changed = match &lower.stat {
            Some((below, below_stat)) => {
                is_opaque
                    || !same_metadata(stat, below_stat)
                    || !same_capability(&attributes, below)?
            }
            None => true,
        };
        let place = self.entries.len();
        self.push(stat, EntryKind::Directory, attributes.kept);
        if is_opaque {
            self.entries.push(Entry {
                path: self.path.as_slice().into(),
                kind: EntryKind::Opaque,
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: Time::default(),
                xattrs: Vec::new(),
            });
        }
        let first = self.entries.len();
        self.directory(if is_opaque { &[] } else { &lower.folders })?;
        // Parents of what has changed are in the layer too.
        if !changed && self.entries.len() == first {
            self.entries.truncate(place);
        }
        Ok(())
    }

    /// What a file is; `None` for a socket, which archives do not have.
    fn kind(&mut self, path: &Path, stat: &Stat) -> Result<Option<EntryKind>> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Socket && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return Ok(Some(EntryKind::HardLink { target: first.clone() }));
            }
            self.links.insert(stat.st_ino, self.path.as_slice().into());
        }
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        Ok(Some(match kind {
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

    fn push(&mut self, stat: &Stat, kind: EntryKind, xattrs: Vec<Xattr>) {
        self.entries.push(Entry {
            path: self.path.as_slice().into(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            // Whole seconds, as containerd's differ writes them.
            mtime: Time { seconds: stat.st_mtime, nanos: 0 },
            xattrs,
        });
    }
}

impl Lower {
    fn find(name: &[u8], lowers: &[PathBuf]) -> Result<Self> {
        let mut found = Self::default();
        for folder in lowers {
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
                // Below a directory a file of a lower layer is not seen.
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

/// Extended attributes of a file in an upper directory.
#[derive(Default)]
pub(crate) struct Attributes {
    /// What goes into the layer: capabilities, and `user.` ones. Others are this machine's
    /// (SELinux labels, hashes) or nothing that every unpacker can set.
    pub(crate) kept: Vec<Xattr>,
    opaque: bool,
    /// Overlay's attribute that makes the file no plain one.
    not_plain: Option<String>,
}

impl Attributes {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut attributes = Self::default();
        let failed = || Error::file::<Errno>("list attributes of", path);
        let mut list = vec![0; 1024];
        let length = match llistxattr(path, &mut list[..]) {
            Ok(length) => length,
            Err(Errno::NOTSUP) => return Ok(attributes),
            Err(Errno::RANGE) => {
                // The kernel's own limit.
                list.resize(64 << 10, 0);
                llistxattr(path, &mut list[..]).map_err(failed())?
            }
            Err(error) => return Err(failed()(error)),
        };
        for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if is_overlay_attribute(name) {
                let own = name.splitn(3, |byte| *byte == b'.').nth(2).unwrap_or_default();
                match own {
                    b"opaque" => attributes.opaque = value(path, name)? == b"y",
                    b"redirect" | b"metacopy" => attributes.not_plain = Some(shown(name)),
                    // Where it came from, what it has in it: nothing that changes what is seen.
                    _ => {}
                }
            } else if name == b"security.capability" || name.starts_with(b"user.") {
                attributes.kept.push((name.into(), value(path, name)?.into()));
            }
        }
        attributes.kept.sort();
        Ok(attributes)
    }

    pub(crate) fn capability(&self) -> Option<&[u8]> {
        let found = self.kept.iter().find(|(name, _)| &**name == b"security.capability");
        found.map(|(_, value)| &**value)
    }
}

fn value(path: &Path, name: &[u8]) -> Result<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = match lgetxattr(path, name, &mut value[..]) {
        Err(Errno::RANGE) => {
            value.resize(64 << 10, 0);
            lgetxattr(path, name, &mut value[..])
        }
        other => other,
    };
    value.truncate(length.map_err(Error::file("read attribute of", path))?);
    Ok(value)
}

fn same_metadata(left: &Stat, right: &Stat) -> bool {
    (left.st_mode, left.st_uid, left.st_gid, left.st_rdev)
        == (right.st_mode, right.st_uid, right.st_gid, right.st_rdev)
}

fn same_capability(attributes: &Attributes, below: &Path) -> Result<bool> {
    Ok(attributes.capability() == Attributes::read(below)?.capability())
}

/// Whether a file was copied up but not changed. Where both times are whole seconds, as after
/// unpacking, they prove nothing and the contents decide.
fn same_file(
    (path, stat): (&Path, &Stat),
    (below, below_stat): (&Path, &Stat),
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
    let mut left_bytes = vec![0; 64 << 10];
    let mut right_bytes = vec![0; 64 << 10];
    let size = left_file.metadata().map_err(Error::file("look at", left))?.size();
    let mut position = 0;
    while position < size {
        let most = usize::try_from(size - position).unwrap_or(usize::MAX).min(left_bytes.len());
        (&left_file).read_exact(&mut left_bytes[..most]).map_err(Error::file("read", left))?;
        (&right_file).read_exact(&mut right_bytes[..most]).map_err(Error::file("read", right))?;
        if left_bytes[..most] != right_bytes[..most] {
            return Ok(false);
        }
        position += most as u64;
    }
    Ok(true)
}
