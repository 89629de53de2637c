//! Folders that make up a container's root: the layers to mount, and an upper directory to write
//! into; or one plain folder if nothing can be mounted.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::tar::TarWriter;
use layer::{Entry, EntryKind, Layer, LayerIndex, Time, shown};
use oci::{Digest, Hasher};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;
use tree::split_last;

use crate::disk::{TemporaryFolder, make_folder};
use crate::folder::{FolderWriter, open_regular, open_root};
use crate::hollow::PrivateLayer;
use crate::layer_roots::LayerRoot;
use crate::upper::Changes;
use crate::{Error, MountPoints, Result, ScratchFolder, Store};

/// The most lower directories of an overlay. overlayfs takes 500, but a mount, and each name that is not found, costs
/// time for all of them; images of registries have at most 127 layers.
pub const MOST_LOWERS: usize = 256;
/// Layers beyond that are merged by this number, so that the next steps have the same merged folder.
const MERGED_AT_ONCE: usize = 128;

/// The directories of an overlay mount, with one to write into. Dropped without
/// [`commit`](Self::commit), it leaves nothing; by then it must not be mounted any more.
pub struct WritableSnapshot {
    /// Lower directories, the uppermost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// The upper directory.
    pub upper: PathBuf,
    /// overlayfs's own working directory.
    pub work: PathBuf,
    layers: Vec<Digest>,
    /// The layers' folders, from the bottom up.
    roots: Vec<Arc<LayerRoot>>,
    _private: Vec<Arc<PrivateLayer>>,
    store: Store,
    _folder: TemporaryFolder,
    /// The folder of the lowest layers of a long chain.
    _merged: Option<Arc<TemporaryFolder>>,
}

impl WritableSnapshot {
    /// Makes a layer of the changes, and keeps it unpacked: the upper directory is moved into the
    /// store. Reads that directory and never the whole tree (see `Changes` for the rules for a
    /// change). Without a change the layer is empty. Nothing is compressed, and nothing is written
    /// but the index.
    ///
    /// No process may have the overlay mounted any more.
    ///
    /// # Errors
    /// If the upper directory has redirects or metadata-only copies, or a layer below is not
    /// unpacked.
    pub fn commit(self, points: &MountPoints, created: Option<String>) -> Result<Layer> {
        let Self { store, upper, .. } = &self;
        let lowers: Vec<_> = self.roots.iter().rev().cloned().collect();
        points.remove_passing(upper)?;
        points.make_lasting(upper, &lowers)?;
        let changes = Changes::find(upper, &lowers)?;

        let mut archive = TarWriter::new(Hasher::new());
        let mut size = 0;
        for entry in &changes.entries {
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
        if store.is_unpacked(&diff_id)? {
            store.discard(upper)?;
        } else {
            changes.tidy(upper, store.inner.options)?;
            store.note_plain_names(&diff_id, &changes.entries)?;
            store.put_index(&diff_id, &LayerIndex::from_entries(changes.entries))?;
            if !store.install(upper, &diff_id, size)? {
                store.discard(upper)?;
            }
        }
        Ok(Layer { diff_id, blob: None, created, places: Vec::new() })
    }

    /// The layers below, from the bottom up.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }
}

/// The way in which files of layers get into a merged folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Link,
    Copy,
}

impl Store {
    /// Returns the directories to mount for a chain of layers, from the bottom up, all of them
    /// unpacked. Layers beyond overlayfs's limit are merged at the bottom.
    pub fn snapshot(&self, layers: &[Digest]) -> Result<WritableSnapshot> {
        let folder = self.temporary_folder("snapshot")?;
        let make = |name: &str| -> Result<PathBuf> {
            let path = folder.path().join(name);
            make_folder(&path, 0o755)?;
            // The upper directory's mode is the root's, and must not depend on the umask.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                .map_err(Error::file("set mode of", &path))?;
            Ok(path)
        };
        let (upper, work) = (make("upper")?, make("work")?);
        let mut seen = Vec::with_capacity(layers.len());
        let mut places = HashSet::with_capacity(layers.len());
        let mut roots = Vec::with_capacity(layers.len());
        let mut private = Vec::new();
        for diff_id in layers {
            let root = self.look_at_root(diff_id)?;
            let hides_all = root.hides_all();
            roots.push(root);
            private.extend(self.private.get(diff_id));
            if hides_all {
                seen.clear();
                places.clear();
            }
            // overlayfs takes no folder twice (ELOOP). The layer's content at the higher place
            // covers all that it could show at the lower one.
            if !places.insert(diff_id) {
                seen.retain(|below| below != diff_id);
            }
            seen.push(*diff_id);
        }
        let by_layer: HashMap<&Digest, &Arc<LayerRoot>> = layers.iter().zip(&roots).collect();
        let mut lowers = Vec::with_capacity(seen.len().min(MOST_LOWERS));
        let mut merged = None;
        if seen.len() > MOST_LOWERS {
            let count = (seen.len() - MOST_LOWERS).next_multiple_of(MERGED_AT_ONCE);
            let bottom: Vec<_> = seen.drain(..count).collect();
            let folder = self.inner.merged_folders.get(&bottom, || self.merged(&bottom))?;
            lowers.push(folder.path().to_owned());
            merged = Some(folder);
        } else if seen.is_empty() {
            lowers.push(make("empty")?);
        }
        lowers.extend(
            seen.iter().filter_map(|layer| by_layer.get(layer)).map(|root| root.path().to_owned()),
        );
        lowers.reverse();
        let layers = layers.to_vec();
        let store = self.clone();
        Ok(WritableSnapshot {
            lowers,
            upper,
            work,
            layers,
            roots,
            _private: private,
            store,
            _folder: folder,
            _merged: merged,
        })
    }

    /// Writes the tree of a chain of layers into a folder, as copies, for systems on which nothing
    /// can be mounted. The folder is empty, or has the tree of the layers below these.
    pub fn checkout(&self, layers: &[Digest], target: &Path) -> Result<()> {
        self.merge(layers, target, How::Copy, b"")
    }

    /// Does the same as [`checkout`](Self::checkout) for the files at or below one path alone, with
    /// the folders around it: into a folder that is removed when the returned [`ScratchFolder`] is
    /// dropped. The path has the form of [`Entry::path`], and its links are already resolved.
    pub fn checkout_path(
        &self,
        layers: &[Digest],
        path: &[u8],
    ) -> Result<(ScratchFolder, PathBuf)> {
        let folder = self.scratch_folder()?;
        let root = folder.path().join("root");
        make_folder(&root, 0o755)?;
        // The mode must not depend on the umask.
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::file("set mode of", &root))?;
        self.merge(layers, &root, How::Copy, path)?;
        Ok((folder, root))
    }

    /// The files of layers in one folder, which is empty before.
    fn merged(&self, layers: &[Digest]) -> Result<TemporaryFolder> {
        let folder = self.temporary_folder("merged")?;
        // The mode is that of a root, and must not depend on the umask.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .map_err(Error::file("set mode of", folder.path()))?;
        self.merge(layers, folder.path(), How::Link, b"")?;
        Ok(folder)
    }

    /// The root of a layer that is unpacked, or a folder of this build.
    ///
    /// # Errors
    /// [`Error::NoLayer`].
    fn look_at_root(&self, diff_id: &Digest) -> Result<Arc<LayerRoot>> {
        if let Some(root) = self.inner.layer_roots.get(diff_id) {
            return Ok(root);
        }
        let private = match self.is_unpacked(diff_id)? {
            true => self.private.whole(diff_id),
            false => Some(self.private.get(diff_id).ok_or(Error::NoLayer(*diff_id))?),
        };
        if let Some(private) = private {
            return Ok(private.root.clone());
        }
        let prefix = self.privileges().overlay_prefix();
        let root = LayerRoot::read(self.layer_folder(diff_id), prefix)?;
        Ok(self.inner.layer_roots.insert(*diff_id, root))
    }

    fn merge(&self, layers: &[Digest], target: &Path, how: How, only: &[u8]) -> Result<()> {
        let root = open_root(target)?;
        let mut writer = FolderWriter::new(root.as_fd(), self.inner.options);
        let mut directories = std::collections::BTreeMap::new();
        for diff_id in layers {
            // Links would be outside of the folders that are watched.
            let hollow = self.private.get(diff_id).filter(|_| how == How::Copy);
            let source = match self.layer_root(diff_id) {
                Err(Error::NoLayer(_)) if hollow.is_some() => {
                    hollow.map(|layer| layer.folder.clone()).ok_or(Error::NoLayer(*diff_id))?
                }
                found => found?,
            };
            let index = self.index(diff_id)?;
            let mut merge = Merge {
                source: source.as_fd(),
                target: root.as_fd(),
                index: &index,
                writer: &mut writer,
                directories: &mut directories,
                how,
                only,
            };
            for entry in index.entries() {
                if is_part_of(&entry.path, only) || is_part_of(only, &entry.path) {
                    merge.take(entry)?;
                }
            }
        }
        for entry in directories.values() {
            writer.finish_directory(entry)?;
        }
        Ok(())
    }
}

/// One layer that is copied into a merged folder.
struct Merge<'a, 'w> {
    source: BorrowedFd<'a>,
    target: BorrowedFd<'a>,
    index: &'a LayerIndex,
    writer: &'a mut FolderWriter<'w>,
    /// The directories of the merged folder, with the metadata that they get at the end.
    directories: &'a mut std::collections::BTreeMap<Box<[u8]>, Entry>,
    how: How,
    /// The path whose files are taken.
    only: &'a [u8],
}

/// True if a path is `folder` or below it.
fn is_part_of(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

impl Merge<'_, '_> {
    fn take(&mut self, entry: &Entry) -> Result<()> {
        match &entry.kind {
            EntryKind::Whiteout => return self.remove(&entry.path),
            EntryKind::Opaque => {
                self.writer.clear(&entry.path)?;
                let start = [&entry.path, &b"/"[..]].concat();
                let all = entry.path.is_empty();
                self.directories.retain(|path, _| !all && !path.starts_with(&start));
                return Ok(());
            }
            _ if entry.path.is_empty() => return Ok(()),
            _ => {}
        }
        let parents = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (end, _) in parents {
            let parent = &entry.path[..end];
            if !self.directories.contains_key(parent) {
                let passed = self.passed_directory(parent)?;
                self.directory(&passed)?;
            }
        }
        if entry.kind == EntryKind::Directory {
            return self.directory(entry);
        }
        if self.exists(&entry.path) {
            self.remove(&entry.path)?;
        }
        if self.how == How::Link && self.link(entry)? {
            return Ok(());
        }
        self.copy(entry)
    }

    /// Makes a second name of the layer's file. Returns false if it cannot have another one.
    fn link(&mut self, entry: &Entry) -> Result<bool> {
        match self.writer.link_from(self.source, &entry.path)? {
            Ok(()) => Ok(true),
            // The file has the maximum number of names.
            Err(Errno::MLINK) => Ok(false),
            // A device that could not be made.
            Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(Error::file("link", shown(&entry.path))(error)),
        }
    }

    fn copy(&mut self, entry: &Entry) -> Result<()> {
        match &entry.kind {
            EntryKind::File { .. } => {
                let mut content = self.open(&entry.path)?;
                self.writer.copy_of(entry, &mut content)
            }
            EntryKind::Symlink { target } => self.writer.symlink(entry, target),
            EntryKind::HardLink { target }
                if self.index.get(target).is_some() && is_part_of(target, self.only) =>
            {
                match self.writer.hard_link(&entry.path, target) {
                    Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        Ok(())
                    }
                    other => other,
                }
            }
            EntryKind::HardLink { .. } => {
                let mut content = self.open(&entry.path)?;
                self.writer.copy_of(entry, &mut content)
            }
            _ => self.writer.special(entry),
        }
    }

    fn open(&self, path: &[u8]) -> Result<std::fs::File> {
        let fd = self.source.try_clone_to_owned().map_err(Error::file("open", shown(path)))?;
        open_regular(&fd, path).map_err(Error::file("open", shown(path)))
    }

    fn directory(&mut self, entry: &Entry) -> Result<()> {
        if !self.directories.contains_key(&entry.path) {
            // A layer that was put there before may have it.
            match stat(self.target, &entry.path) {
                Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {}
                Ok(_) => {
                    self.writer.remove(&entry.path)?;
                    self.writer.directory(&entry.path)?;
                }
                Err(_) => self.writer.directory(&entry.path)?,
            }
        }
        self.directories.insert(entry.path.clone(), entry.clone());
        Ok(())
    }

    /// A directory that the layer has no entry for: its folder has a copy of the metadata.
    fn passed_directory(&self, path: &[u8]) -> Result<Entry> {
        let stat = stat(self.source, path).map_err(Error::file("look at", shown(path)))?;
        Ok(Entry {
            path: path.into(),
            kind: EntryKind::Directory,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            xattrs: Vec::new(),
        })
    }

    fn exists(&self, path: &[u8]) -> bool {
        stat(self.target, path).is_ok()
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.writer.remove(path)?;
        if self.directories.remove(path).is_some() {
            let start = [path, b"/"].concat();
            self.directories.retain(|path, _| !path.starts_with(&start));
        }
        Ok(())
    }
}

fn stat(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Stat> {
    let (parent, name) = split_last(path);
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    let folder = crate::folder::open_beneath(root, parent, flags)?;
    statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
}
