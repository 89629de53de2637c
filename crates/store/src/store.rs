//! The root folder: its layout, its users, and the rules for trusting its content.
//!
//! Nothing is synced to the disk when it is written: an fsync for each of thousands of files costs
//! more than the whole build. A killed process leaves only complete files under final names,
//! because those are given by a rename. A crash of the machine may leave a final name without all
//! its bytes. Each item's row therefore has the boot in which it was written or last checked, and
//! the first use in another boot checks the item: a blob against its digest, a layer's folder
//! against its index.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use layer::LayerIndex;
use layer::tar::Limits;
use oci::Digest;

use crate::db::{Db, Table};
use crate::disk::{TemporaryFolder, lock, make_folder, remove_tree};
use crate::folder::{matches_index, open_regular, open_root};
use crate::folder_snapshot::idle::IdleFolders;
use crate::hollow::{OpenWatch, PrivateLayers};
use crate::layer_roots::{LayerRoots, MergedFolders};
use crate::loans::Loans;
use crate::options::{OpenOptions, Privileges, UnmappedOwners};
use crate::parts::Parts;
use crate::root::prepare;
use crate::run::Run;
use crate::{Error, Result};

/// The storage for bytes on this machine. Cheap to clone; several processes may use one root.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) loans: Arc<Loans>,
    /// Files of layers that are not unpacked. As the loans, they are of one build.
    pub(crate) parts: Arc<Parts>,
    /// Folders of layers that this build alone uses.
    pub(crate) private: Arc<PrivateLayers>,
    /// True if seek tables are made of layers that are unpacked.
    pub(crate) notes_spans: Arc<AtomicBool>,
    /// A limit on the bytes of an archive below the root's own, if there is one.
    pub(crate) most: Option<u64>,
}

pub(crate) struct Inner {
    /// `<root>/v1`.
    pub(crate) base: PathBuf,
    pub(crate) options: OpenOptions,
    pub(crate) db: Db,
    pub(crate) run: Run,
    boot: String,
    counter: AtomicU64,
    /// Items that this process has checked and noted as used.
    seen: Mutex<HashSet<(Table, Digest)>>,
    roots: Mutex<HashMap<Digest, Arc<OwnedFd>>>,
    indexes: Mutex<HashMap<Digest, Arc<LayerIndex>>>,
    /// Held while a seek table is added to an index.
    seek_tables: Mutex<()>,
    pub(crate) layer_roots: LayerRoots,
    pub(crate) merged_folders: MergedFolders,
    /// Chains that are unpacked into plain folders which no step uses now.
    pub(crate) idle_folders: IdleFolders,
    /// The watch on opens of files of hollow layers, once it is needed, or the reason that there is none.
    pub(crate) watch: OnceLock<std::result::Result<Arc<OpenWatch>, Arc<io::Error>>>,
}

impl Store {
    /// Opens a store, and makes it if there is none. Files of killed processes are removed in the
    /// background.
    ///
    /// # Errors
    /// If the root cannot be written, or was made for a process with other privileges.
    pub fn open(root: &Path, options: OpenOptions) -> Result<Self> {
        let base = root.join("v1");
        prepare(root, &base, options.privileged)?;
        let run = Run::start(&base)?;
        let db = Db::open(&base)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| format!("unknown-{}", run.id), |text| text.trim().to_owned());
        let inner = Inner {
            base,
            options,
            db,
            run,
            boot,
            counter: AtomicU64::new(0),
            seen: Mutex::default(),
            roots: Mutex::default(),
            indexes: Mutex::default(),
            seek_tables: Mutex::default(),
            layer_roots: LayerRoots::default(),
            merged_folders: MergedFolders::default(),
            idle_folders: IdleFolders::default(),
            watch: OnceLock::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            loans: Arc::default(),
            parts: Arc::default(),
            private: Arc::default(),
            notes_spans: Arc::default(),
            most: None,
        })
    }

    /// The database. Other crates may keep tables of their own in it.
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    /// The privileges that this store was opened with.
    pub fn privileges(&self) -> Privileges {
        self.inner.options.privileged
    }

    /// True if files whose owner does not exist here belong to the user that unpacks them.
    pub fn ignores_owners(&self) -> bool {
        self.inner.options.unmapped_owners == UnmappedOwners::Ignore
    }

    /// The path of a layer's unpacked folder, at which it is if the layer is unpacked.
    pub fn layer_folder(&self, diff_id: &Digest) -> PathBuf {
        self.layer_path(diff_id).join("fs")
    }

    /// True if a layer's folder is in the store and complete.
    pub fn is_unpacked(&self, diff_id: &Digest) -> Result<bool> {
        // A layer that this process has used stays.
        if self.inner.layer_roots.get(diff_id).is_some() {
            return Ok(true);
        }
        if self.private.whole(diff_id).is_some() {
            return Ok(true);
        }
        if !self.layer_folder(diff_id).is_dir() {
            return Ok(false);
        }
        if self.has_own_index(diff_id) && self.use_item(Table::Layers, diff_id)? {
            return Ok(true);
        }
        let Some(size) = self.check_layer(diff_id)? else {
            self.discard(&self.layer_path(diff_id))?;
            return Ok(false);
        };
        self.note_item(Table::Layers, diff_id, size)?;
        // A prune may have taken it between the look and the note.
        Ok(self.layer_folder(diff_id).is_dir())
    }

    /// True if a layer's index is here, its own or a [lent](Self::lend_index) one. It is read, so
    /// that it stays available to this process when others prune.
    pub fn has_index(&self, diff_id: &Digest) -> bool {
        self.index(diff_id).is_ok()
    }

    /// True if the store has a layer's index that was made of the layer's own bytes.
    pub fn has_own_index(&self, diff_id: &Digest) -> bool {
        // An index of another version of kiln does not count: the layer is read again.
        lock(&self.inner.indexes).contains_key(diff_id)
            || LayerIndex::is_in(&self.layer_path(diff_id).join("index"))
    }

    /// Returns a layer's index: its own if the store has it, else a lent one.
    pub fn index(&self, diff_id: &Digest) -> Result<Arc<LayerIndex>> {
        match self.own_index(diff_id) {
            Err(Error::NoIndex(_)) => self.loans.index(diff_id).ok_or(Error::NoIndex(*diff_id)),
            result => result,
        }
    }

    /// Returns the index that was made of the layer's own bytes.
    pub fn own_index(&self, diff_id: &Digest) -> Result<Arc<LayerIndex>> {
        if let Some(index) = lock(&self.inner.indexes).get(diff_id) {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(self.read_index(diff_id)?);
        self.note_index(diff_id)?;
        lock(&self.inner.indexes).insert(*diff_id, Arc::clone(&index));
        Ok(index)
    }

    /// Stores a layer's index, which must be made of the layer's own bytes. An index with seek
    /// tables replaces an earlier one, whose other tables it keeps; one without does not.
    pub fn put_index(&self, diff_id: &Digest, index: &LayerIndex) -> Result<()> {
        // A layer may be compressed in two ways at once, and each adds its table to what it has read before.
        let _adding = index.has_seek_tables().then(|| lock(&self.inner.seek_tables));
        let known = index.has_seek_tables().then(|| self.own_index(diff_id));
        let merged = match known {
            Some(Ok(known)) => index.clone().with_seek_tables_of(&known),
            _ => index.clone(),
        };
        let index = &merged;
        let folder = self.layer_path(diff_id);
        let path = folder.join("index");
        let is_known = !index.has_seek_tables() && path.exists();
        let known = if is_known { self.own_index(diff_id).ok() } else { None };
        if known.is_none() {
            let bytes = index.encode();
            let part = self.temporary("index");
            fs::write(&part, &bytes).map_err(Error::file("write", &part))?;
            // Another process's prune may remove the folder between the two calls.
            let mut result = Ok(());
            for _ in 0..3 {
                make_folder(&folder, 0o700)?;
                result = fs::rename(&part, &path);
                if result.is_ok() {
                    break;
                }
            }
            result.map_err(Error::file("write", &path))?;
        }
        self.note_index(diff_id)?;
        let index = known.unwrap_or_else(|| Arc::new(merged));
        lock(&self.inner.indexes).insert(*diff_id, index);
        Ok(())
    }

    /// Opens a regular file of an unpacked layer. No link is followed, neither at the end of the
    /// path nor on the way.
    pub fn open_file(&self, diff_id: &Digest, path: &[u8]) -> io::Result<File> {
        let root = self.layer_root(diff_id).map_err(io::Error::other)?;
        open_regular(&root, path)
    }

    /// The limits for archives, which every reader of one with this store keeps to.
    pub fn limits(&self) -> Limits {
        let limits = self.inner.options.limits;
        let most = self.most.unwrap_or(limits.max_total_bytes);
        Limits { max_total_bytes: limits.max_total_bytes.min(most), ..limits }
    }

    /// Returns the same root for a build of its own, to which nothing was lent.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self {
            loans: Arc::default(),
            parts: Arc::default(),
            private: Arc::default(),
            notes_spans: Arc::default(),
            ..self.clone()
        }
    }

    /// Returns the same root for archives of at most this many bytes.
    #[must_use]
    pub fn within(&self, bytes: u64) -> Self {
        Self { most: Some(bytes), ..self.clone() }
    }

    /// Returns the folder of an unpacked layer, open.
    pub(crate) fn layer_root(&self, diff_id: &Digest) -> Result<Arc<OwnedFd>> {
        if let Some(root) = lock(&self.inner.roots).get(diff_id) {
            return Ok(Arc::clone(root));
        }
        if !self.is_unpacked(diff_id)? {
            return Err(Error::NoLayer(*diff_id));
        }
        if let Some(private) = self.private.whole(diff_id) {
            return Ok(private.folder.clone());
        }
        let root = Arc::new(open_root(&self.layer_folder(diff_id))?);
        lock(&self.inner.roots).insert(*diff_id, Arc::clone(&root));
        Ok(root)
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.inner.base.join("layers").join(diff_id.hex())
    }

    /// The folder of cache mounts. The store only names it.
    pub fn cache_mounts_folder(&self) -> PathBuf {
        self.inner.base.join("mounts")
    }

    /// The folder of containers. The store only names it.
    pub fn containers_folder(&self) -> PathBuf {
        self.inner.base.join("containers")
    }

    /// Returns an unused name in this process's own temporary folder.
    pub(crate) fn temporary(&self, what: &str) -> PathBuf {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        self.inner.run.tmp.join(format!("{what}-{number}"))
    }

    /// Makes a temporary folder that is removed on drop.
    pub(crate) fn temporary_folder(&self, what: &str) -> Result<TemporaryFolder> {
        TemporaryFolder::new(self.temporary(what))
    }

    /// Moves something in the root out of the sight of others, then removes it. Does nothing if it
    /// does not exist.
    ///
    /// # Errors
    /// If it cannot be moved or removed.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let trash = self.temporary("trash");
        match fs::rename(path, &trash) {
            Ok(()) => remove_tree(&trash).map_err(Error::file("remove", path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::file("remove", path)(error)),
        }
    }

    /// Ends this process's work in the store, although threads of it may still be writing: their
    /// unfinished files are moved away and removed. None of them can get its final name later.
    pub fn end(&self) {
        self.inner.run.end();
    }

    /// Gives an unpacked folder its final name. Returns false if another process was quicker; then
    /// this folder is left where it is.
    pub(crate) fn install(&self, folder: &Path, diff_id: &Digest, size: u64) -> Result<bool> {
        let target = self.layer_folder(diff_id);
        let mut installed = false;
        for attempt in 0.. {
            // Row before folder: prune depends on both, and the layer's folder may come and go.
            self.note_item(Table::Layers, diff_id, size)?;
            match fs::rename(folder, &target) {
                Ok(()) => {
                    installed = true;
                    break;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) =>
                {
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < 3 => {
                    let index = lock(&self.inner.indexes).get(diff_id).cloned();
                    if let Some(index) = index {
                        self.put_index(diff_id, &index)?;
                    }
                }
                Err(error) => return Err(Error::file("move into place", &target)(error)),
            }
        }
        Ok(installed)
    }

    /// Notes a use of an item, once in the life of this process: prune keeps items that were used
    /// since the oldest process began. Returns true if the item can be trusted because it was
    /// written or checked in this boot.
    pub(crate) fn use_item(&self, table: Table, digest: &Digest) -> Result<bool> {
        if lock(&self.inner.seen).contains(&(table, *digest)) {
            return Ok(true);
        }
        let known = self.inner.db.touch(table, digest, &self.inner.boot)?;
        if known {
            lock(&self.inner.seen).insert((table, *digest));
        }
        Ok(known)
    }

    /// Notes an item that was just written or checked.
    pub(crate) fn note_item(&self, table: Table, digest: &Digest, size: u64) -> Result<()> {
        self.inner.db.put(table, digest, size, &self.inner.boot)?;
        lock(&self.inner.seen).insert((table, *digest));
        Ok(())
    }

    /// Forgets items, after some were pruned.
    pub(crate) fn forget_seen(&self) {
        lock(&self.inner.seen).clear();
        lock(&self.inner.roots).clear();
        lock(&self.inner.indexes).clear();
        self.inner.layer_roots.clear();
    }

    /// Notes a use of an index. It has no row of its own unless its layer has one: a row means that
    /// the folder is complete.
    fn note_index(&self, diff_id: &Digest) -> Result<()> {
        if !self.layer_folder(diff_id).exists() {
            // The file's own time is that of the last use.
            let path = self.layer_path(diff_id).join("index");
            if let Ok(file) = File::options().append(true).open(path) {
                let _ = file.set_modified(std::time::SystemTime::now());
            }
            return Ok(());
        }
        self.use_item(Table::Layers, diff_id).map(drop)
    }

    fn read_index(&self, diff_id: &Digest) -> Result<LayerIndex> {
        let path = self.layer_path(diff_id).join("index");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoIndex(*diff_id));
            }
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        LayerIndex::decode(&bytes).map_err(|source| Error::Index { diff_id: *diff_id, source })
    }

    /// Compares an unpacked folder with its index: kinds and sizes, which a crash of the machine
    /// would have spoiled. Returns the size of all contents if they match.
    fn check_layer(&self, diff_id: &Digest) -> Result<Option<u64>> {
        let Ok(index) = self.read_index(diff_id) else { return Ok(None) };
        let folder = self.layer_folder(diff_id);
        // The folder may be gone since it was seen.
        let Ok(root) = open_root(&folder) else { return Ok(None) };
        Ok(matches_index(&root, &index, self.privileges()))
    }
}
