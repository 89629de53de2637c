//! The folder of a hollow layer, made of its index.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, OnceLock};

use layer::{Entry, EntryKind, LayerIndex};
use oci::{Descriptor, Digest};
use rustix::fs::fstat;

use super::{HollowFile, HollowLayer, OpenShare, OpenWatch, PrivateLayer, State};
use crate::disk::make_folder;
use crate::folder::{FolderWriter, open_root};
use crate::options::Privileges;
use crate::unpack::{lower_entry, prefixes};
use crate::{Error, Result, Store};

impl Store {
    /// Starts to watch opens of files, unless it has begun.
    ///
    /// # Errors
    /// If this process may not, or the kernel cannot.
    pub fn watch_opens(&self) -> std::result::Result<OpenShare, Arc<io::Error>> {
        self.watch()?.share().map_err(Arc::new)
    }

    fn watch(&self) -> std::result::Result<Arc<OpenWatch>, Arc<io::Error>> {
        let start = || OpenWatch::start().map(Arc::new).map_err(Arc::new);
        self.inner.watch.get_or_init(start).clone()
    }

    /// True if [`hollow`](Self::hollow) can make the layer by its index.
    pub fn can_be_hollow(&self, diff_id: &Digest, blob: &Descriptor) -> bool {
        let Ok(index) = self.index(diff_id) else { return false };
        let has_its_files = index.entries().iter().all(|entry| match &entry.kind {
            EntryKind::HardLink { target } => index.get(target).is_some(),
            _ => true,
        });
        self.privileges() == Privileges::Root && index.seek_table(blob).is_some() && has_its_files
    }

    /// Makes the folder of a layer for this build, whose files are empty until they are opened;
    /// `None` if that is not possible. `parents` are the layers below, from the bottom up, all of
    /// which have an index.
    ///
    /// # Errors
    /// If the disk refuses, or a file system cannot allocate files.
    pub fn hollow(
        &self,
        diff_id: &Digest,
        blob: &Descriptor,
        parents: &[Digest],
    ) -> Result<Option<Arc<HollowLayer>>> {
        let Ok(watch) = self.watch() else { return Ok(None) };
        if !self.can_be_hollow(diff_id, blob) {
            return Ok(None);
        }
        let index = self.index(diff_id)?;
        let files = self.temporary_folder("hollow")?;
        let path = files.path().join("fs");
        make_folder(&path, 0o755)?;
        // The umask and a setgid bit of a parent may have changed the mode.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::file("set mode of", &path))?;
        let root = Arc::new(open_root(&path)?);
        let writer = FolderWriter::new(root.as_fd(), self.inner.options);
        let mut maker = Maker { writer, folders: BTreeMap::new(), files: Vec::new() };
        let by_inode = maker.take_all(&index)?;
        let lower = |path: &[u8]| -> Result<Option<Entry>> {
            let found = lower_entry(parents, path, |parent| self.index(parent))?;
            Ok(found.map(|(_, entry)| entry).filter(|entry| entry.kind == EntryKind::Directory))
        };
        let Maker { files: hollow_files, folders, mut writer } = maker;
        for (path, entry) in folders.iter().filter(|(path, _)| !path.is_empty()) {
            let found = entry.clone().map_or_else(|| lower(path), |entry| Ok(Some(entry)))?;
            let passed = || Entry::new(path.clone(), EntryKind::Directory, 0o755);
            writer.finish_directory(&found.unwrap_or_else(passed))?;
        }
        for path in folders.keys() {
            watch.mark(root.as_fd(), path).map_err(Error::file("watch", layer::shown(path)))?;
        }
        let blocks = index.seek_table(blob).map_or(0, layer::SeekTable::block_count);
        let state = State {
            blocks: vec![false; blocks],
            filled: vec![false; hollow_files.len()],
            waiting: HashMap::new(),
            opened: HashSet::new(),
            is_lost: false,
            read: 0,
        };
        let is_lent = self.is_lent(diff_id);
        let device = fstat(&*root).map_err(Error::file("look at", &path))?.st_dev;
        let hollow = Arc::new(HollowLayer {
            diff_id: *diff_id,
            blob: blob.clone(),
            index,
            loans: is_lent.then(|| self.loans.clone()),
            watch: watch.clone(),
            root,
            device,
            files: hollow_files,
            by_inode,
            archive: self.spool_file().map_err(Error::read_archive)?,
            state: Mutex::new(state),
            writing: Mutex::default(),
            filler: OnceLock::new(),
        });
        watch.add(&hollow);
        let prefix = self.privileges().overlay_prefix();
        let private = PrivateLayer::new(files, path, Some(hollow.clone()), prefix)?;
        self.private.insert(*diff_id, private);
        Ok(Some(hollow))
    }
}

/// Makes the files of an index.
struct Maker<'a> {
    writer: FolderWriter<'a>,
    /// The folders; one that the layer only passes through has no entry.
    folders: BTreeMap<Box<[u8]>, Option<Entry>>,
    files: Vec<HollowFile>,
}

impl Maker<'_> {
    /// Makes all files, and returns the numbers of those with contents by inode.
    fn take_all(&mut self, index: &LayerIndex) -> Result<HashMap<u64, u32>> {
        self.folders.insert(Box::default(), None);
        let mut by_inode = HashMap::new();
        let mut places = index.file_places()?.into_iter();
        for entry in index.entries() {
            let EntryKind::File { size } = entry.kind else {
                self.take(entry)?;
                continue;
            };
            self.parents(&entry.path)?;
            let inode = self.writer.hollow_file(entry, size)?;
            if let Some(place) = places.next().filter(|_| size > 0) {
                by_inode.insert(inode, self.files.len() as u32);
                self.files.push(HollowFile {
                    entry: place.entry as u32,
                    header: place.header as u32,
                    content: place.content,
                });
            }
        }
        // Their files can come after them.
        for entry in index.entries() {
            if let EntryKind::HardLink { target } = &entry.kind {
                self.parents(&entry.path)?;
                self.writer.hard_link(&entry.path, target)?;
            }
        }
        Ok(by_inode)
    }

    fn take(&mut self, entry: &Entry) -> Result<()> {
        if entry.path.is_empty() {
            return if entry.kind == EntryKind::Opaque { self.writer.opaque(b"") } else { Ok(()) };
        }
        self.parents(&entry.path)?;
        match &entry.kind {
            EntryKind::Directory => {
                self.writer.directory(&entry.path)?;
                self.folders.insert(entry.path.clone(), Some(entry.clone()));
                Ok(())
            }
            EntryKind::Opaque => {
                self.writer.directory(&entry.path)?;
                self.folders.entry(entry.path.clone()).or_default();
                self.writer.opaque(&entry.path)
            }
            EntryKind::Symlink { target } => self.writer.symlink(entry, target),
            EntryKind::Whiteout => self.writer.whiteout(&entry.path),
            EntryKind::HardLink { .. } | EntryKind::File { .. } => Ok(()),
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => {
                self.writer.special(entry)
            }
        }
    }

    fn parents(&mut self, path: &[u8]) -> Result<()> {
        for prefix in prefixes(path) {
            if !self.folders.contains_key(prefix) {
                self.writer.directory(prefix)?;
                self.folders.insert(prefix.into(), None);
            }
        }
        Ok(())
    }
}
