//! A chain of layers as one plain folder that a command writes to directly, for systems on which no
//! overlay can be mounted.
//!
//! Changes are found by reading the metadata of the whole tree before and after, without the
//! contents: see [`changes`]. The changed files are then copied (or shared, where the disk can do
//! that) into a layer of their own, and the folder is used again for the next step above it.

mod changes;
pub(crate) mod idle;
mod stats;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};

use self::changes::Changes;
use self::idle::IdleFolder;
use self::stats::Folder;
use layer::tar::TarWriter;
use layer::{Entry, EntryKind, Layer, LayerIndex, Time};

use crate::disk::{TemporaryFolder, make_folder, remove_tree};
use crate::folder::{FolderWriter, open_root};
use crate::{Error, MountPoints, Result, Store};

/// A chain of layers in a plain folder. Dropped without [`commit`](Self::commit), it leaves
/// nothing.
pub struct FolderSnapshot {
    /// The folder that shows the chain, to be written to.
    pub root: PathBuf,
    /// An empty folder on the same disk, for files that are put aside while a command runs.
    pub aside: PathBuf,
    layers: Vec<Digest>,
    before: Folder,
    /// The earliest time when the command could begin.
    handed_out: Time,
    store: Store,
    folder: TemporaryFolder,
}

impl Store {
    /// Shows a chain of layers, from the bottom up, all of them unpacked, in a plain folder. Reuses
    /// the folder of an earlier step if one shows the chain or its lower part.
    ///
    /// # Errors
    /// If a layer is not unpacked, or the disk refuses.
    pub fn folder_snapshot(&self, layers: &[Digest]) -> Result<FolderSnapshot> {
        let (done, stats, folder) = match self.inner.idle_folders.take(layers) {
            Some(idle) => (idle.layers.len(), Some(idle.stats), idle.folder),
            None => (0, None, self.temporary_folder("folder")?),
        };
        let (root, aside) = (folder.path().join("root"), folder.path().join("aside"));
        if stats.is_none() {
            for path in [&root, &aside] {
                make_folder(path, 0o755)?;
            }
            // The mode must not depend on the umask.
            std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))
                .map_err(Error::file("set mode of", &root))?;
        }
        let before = match stats {
            Some(stats) if done == layers.len() => stats,
            _ => {
                self.checkout(&layers[done..], &root)?;
                Folder::read(&root)?
            }
        };
        let (layers, store) = (layers.to_vec(), self.clone());
        Ok(FolderSnapshot { root, aside, layers, before, handed_out: stats::now(), store, folder })
    }

    /// Copies changed files of `root` into a layer of their own.
    fn keep_changes(&self, root: &Path, entries: Vec<Entry>) -> Result<Digest> {
        let open = |entry: &Entry| {
            let path = root.join(OsStr::from_bytes(&entry.path));
            File::open(&path).map_err(Error::file("open", &path))
        };
        let mut archive = TarWriter::new(Hasher::new());
        let mut size = 0;
        for entry in &entries {
            if let EntryKind::File { size: file } = entry.kind {
                size += file;
                archive.append(entry, &mut open(entry)?)?;
            } else {
                archive.append(entry, &mut io::empty())?;
            }
        }
        let diff_id = archive.finish()?.finish();
        if self.is_unpacked(&diff_id)? {
            return Ok(diff_id);
        }
        let folder = self.temporary_folder("layer")?;
        let target = folder.path().join("fs");
        make_folder(&target, 0o755)?;
        let target_root = open_root(&target)?;
        let mut writer = FolderWriter::new(target_root.as_fd(), self.inner.options);
        for entry in &entries {
            match &entry.kind {
                EntryKind::File { .. } => writer.copy_of(entry, &mut open(entry)?)?,
                EntryKind::HardLink { target } => match writer.hard_link(&entry.path, target) {
                    // A device that could not be made.
                    Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    }
                    result => result?,
                },
                EntryKind::Symlink { target } => writer.symlink(entry, target)?,
                EntryKind::Directory => writer.directory(&entry.path)?,
                EntryKind::Whiteout => writer.whiteout(&entry.path)?,
                EntryKind::Opaque => writer.opaque(&entry.path)?,
                _ => writer.special(entry)?,
            }
        }
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Directory) {
            writer.finish_directory(entry)?;
        }
        self.note_plain_names(&diff_id, &entries)?;
        self.put_index(&diff_id, &LayerIndex::from_entries(entries))?;
        self.install(&target, &diff_id, size)?;
        Ok(diff_id)
    }
}

impl FolderSnapshot {
    /// Makes a layer of the changes, the same as a commit of an overlay's upper directory makes
    /// ([`WritableSnapshot::commit`](crate::WritableSnapshot::commit)), and keeps the folder for
    /// the steps above. No process may write to it any more.
    ///
    /// # Errors
    /// If a file cannot be read, or the store refuses.
    pub fn commit(self, points: &MountPoints, created: Option<String>) -> Result<Layer> {
        points.remove_passing(&self.root)?;
        points.make_lasting(&self.root, &[])?;
        // The files that were put aside have no user any more.
        remove_tree(&self.aside).map_err(Error::file("remove", &self.aside))?;
        make_folder(&self.aside, 0o755)?;
        let after = Folder::read(&self.root)?;
        let entries = Changes {
            root: &self.root,
            before: &self.before,
            handed_out: self.handed_out,
            store: &self.store,
            layers: &self.layers,
        }
        .between(&after)?;
        let diff_id = self.store.keep_changes(&self.root, entries)?;
        let mut layers = self.layers;
        layers.push(diff_id);
        self.store.inner.idle_folders.put(IdleFolder { layers, stats: after, folder: self.folder });
        Ok(Layer { diff_id, blob: None, created, places: Vec::new() })
    }
}
