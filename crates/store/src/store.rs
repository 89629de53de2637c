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
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::Digest;
use rustix::fs::{FlockOperation, flock};

use crate::db::{Db, Table, now};
use crate::folder::open_root;
use crate::folder_snapshot::IdleFolder;
use crate::loans::Loans;
use crate::tar::Limits;
use crate::{Error, LayerIndex, Result};

/// The rights of the process over files, and the attributes with which overlay marks are made. A
/// store is made for one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Privileges {
    /// Root with `CAP_SYS_ADMIN`: marks are `trusted.overlay.*`.
    Root,
    /// Root of a user namespace: marks are `user.overlay.*`; devices are in the index only.
    UserNamespace,
    /// Root that may change owners and make devices but not mount, as in containers. Deleted files
    /// and opaque folders are in the index only.
    Chroot,
    /// A plain user: folders hold the contents, readable; everything else is in the index only.
    None,
}

/// The treatment of files whose owner does not exist in the user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnmappedOwners {
    /// An error that names the file.
    #[default]
    Refuse,
    /// They belong to the user that unpacks them; the index keeps the owner.
    Ignore,
}

/// The options for opening a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// The rights of the process.
    pub privileged: Privileges,
    /// The treatment of owners that do not exist here.
    pub unmapped_owners: UnmappedOwners,
    /// The limits for archives from elsewhere: a layer, an archive that ADD unpacks, a context.
    pub limits: Limits,
}

impl OpenOptions {
    /// Options with [`UnmappedOwners::Refuse`] and [`Limits::DEFAULT`].
    pub const fn new(privileged: Privileges) -> Self {
        Self { privileged, unmapped_owners: UnmappedOwners::Refuse, limits: Limits::DEFAULT }
    }
}

/// The storage for bytes on this machine. Cheap to clone; several processes may use one root.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) loans: Arc<Loans>,
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
    /// Chains that are unpacked into plain folders which no step uses now.
    pub(crate) idle_folders: Mutex<Vec<IdleFolder>>,
}

/// The record of this process's use of the store: a locked file in `run/` with the time of its
/// start, and a folder of the same name in `tmp/`.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) started: i64,
    pub(crate) tmp: PathBuf,
    path: PathBuf,
    _lock: File,
}

impl Privileges {
    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "user-namespace",
            Self::Chroot => "chroot",
            Self::None => "plain-user",
        }
    }

    /// The prefix of overlay's attributes, if marks can be made.
    pub(crate) const fn overlay_prefix(self) -> Option<&'static str> {
        match self {
            Self::Root => Some("trusted.overlay."),
            Self::UserNamespace => Some("user.overlay."),
            Self::Chroot | Self::None => None,
        }
    }
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
            idle_folders: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner), loans: Arc::default(), most: None })
    }

    /// The privileges that a root was made for, if it exists.
    pub fn made_for(root: &Path) -> Option<Privileges> {
        let name = fs::read_to_string(root.join("v1/kind")).ok()?;
        let all =
            [Privileges::Root, Privileges::UserNamespace, Privileges::Chroot, Privileges::None];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// True if overlay's marks can be made in a folder, which is made if it is missing. They cannot
    /// be made on an overlay itself, such as a container's own disk.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn can_mark(root: &Path, privileges: Privileges) -> Result<bool> {
        let Some(prefix) = privileges.overlay_prefix() else { return Ok(false) };
        fs::create_dir_all(root).map_err(Error::file("make folder", root))?;
        // One name for all processes, used in turn: the next one removes the files of a killed one.
        let turn = File::open(root).map_err(Error::file("open", root))?;
        flock(&turn, FlockOperation::LockExclusive).map_err(Error::file("lock", root))?;
        let folder = root.join(".marks");
        if folder.symlink_metadata().is_ok() {
            remove_tree(&folder).map_err(Error::file("remove", &folder))?;
        }
        make_folder(&folder, 0o700)?;
        let whiteout = folder.join("whiteout");
        let kind = rustix::fs::FileType::CharacterDevice;
        let made =
            rustix::fs::mknodat(rustix::fs::CWD, &whiteout, kind, rustix::fs::Mode::empty(), 0)
                .and_then(|()| {
                    let name = format!("{prefix}opaque");
                    rustix::fs::setxattr(&folder, name, b"y", rustix::fs::XattrFlags::empty())
                });
        remove_tree(&folder).map_err(Error::file("remove", &folder))?;
        Ok(made.is_ok())
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
            Err(Error::NoIndex(_)) => self.lent_index(diff_id).ok_or(Error::NoIndex(*diff_id)),
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
    /// tables replaces an earlier one; one without does not.
    pub fn put_index(&self, diff_id: &Digest, index: &LayerIndex) -> Result<()> {
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
        let index = known.unwrap_or_else(|| Arc::new(index.clone()));
        lock(&self.inner.indexes).insert(*diff_id, index);
        Ok(())
    }

    /// Opens a regular file of an unpacked layer. No link is followed, neither at the end of the
    /// path nor on the way.
    pub fn open_file(&self, diff_id: &Digest, path: &[u8]) -> io::Result<File> {
        let root = self.layer_root(diff_id).map_err(io::Error::other)?;
        crate::folder::open_regular(&root, path)
    }

    /// The limits for archives, which every reader of one with this store keeps to.
    pub fn limits(&self) -> Limits {
        let limits = self.inner.options.limits;
        let most = self.most.unwrap_or(limits.max_total_bytes);
        Limits { max_total_bytes: limits.max_total_bytes.min(most), ..limits }
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

    /// Returns an unused name in this process's own temporary folder.
    pub(crate) fn temporary(&self, what: &str) -> PathBuf {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        self.inner.run.tmp.join(format!("{what}-{number}"))
    }

    /// Makes a temporary folder that is removed on drop.
    pub(crate) fn temporary_folder(&self, what: &str) -> Result<TemporaryFolder> {
        let path = self.temporary(what);
        make_folder(&path, 0o700)?;
        Ok(TemporaryFolder(path))
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
        let run = &self.inner.run;
        // Removal needs a name that no thread knows. Files that are being made may still come in
        // between.
        let ended = run.tmp.with_extension("ended");
        if fs::rename(&run.tmp, &ended).is_ok() {
            let _ = (0..100).find(|_| remove_tree(&ended).is_ok());
        }
        let _ = fs::remove_file(&run.path);
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
        Ok(crate::folder::matches_index(&root, &index, self.privileges()))
    }
}

impl Run {
    fn start(base: &Path) -> Result<Self> {
        let gate_path = base.join("lock");
        let gate = open_lock(&gate_path)?;
        flock(&gate, FlockOperation::LockExclusive).map_err(Error::file("lock", &gate_path))?;
        let started = now();
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        // Two openings in one nanosecond are not possible under the lock.
        let id = format!("{}-{nanos:x}", std::process::id());
        let path = base.join("run").join(&id);
        let mut file = open_lock(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(Error::file("lock", &path))?;
        file.write_all(started.to_string().as_bytes()).map_err(Error::file("write", &path))?;
        let tmp = base.join("tmp").join(&id);
        make_folder(&tmp, 0o700)?;
        let run = Self { id, started, tmp, path, _lock: file };
        let stale = run.claim_stale(base)?;
        drop(gate);
        if !stale.is_empty() {
            let _ = std::thread::Builder::new().name("clean".into()).spawn(move || {
                for path in stale {
                    crate::strays::end(&path);
                    // The next process finds again what cannot be removed now.
                    let _ = remove_tree(&path);
                }
            });
        }
        Ok(run)
    }

    /// Moves files of dead processes into this one's temporary folder.
    fn claim_stale(&self, base: &Path) -> Result<Vec<PathBuf>> {
        let live = live_runs(base)?;
        let mut stale = Vec::new();
        for name in names(&base.join("tmp"))? {
            if name != self.id && !live.iter().any(|(id, _)| *id == name) {
                let target = self.tmp.join(format!("stale-{name}"));
                if fs::rename(base.join("tmp").join(&name), &target).is_ok() {
                    stale.push(target);
                }
            }
        }
        Ok(stale)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = remove_tree(&self.tmp);
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns the processes that use the store, with the times of their starts. Files of dead ones are
/// removed. The caller holds the lock, so that no file is seen between its creation and its
/// locking.
fn live_runs(base: &Path) -> Result<Vec<(String, i64)>> {
    let mut live = Vec::new();
    for name in names(&base.join("run"))? {
        let path = base.join("run").join(&name);
        let Ok(mut file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            let _ = fs::remove_file(&path);
            continue;
        }
        let mut text = String::new();
        let _ = file.read_to_string(&mut text);
        // Without a readable time it counts as the oldest: nothing is pruned while it runs.
        live.push((name, text.parse().unwrap_or(0)));
    }
    Ok(live)
}

/// The time when the oldest process that uses the store began.
pub(crate) fn oldest_start(base: &Path) -> Result<i64> {
    let path = base.join("lock");
    let gate = open_lock(&path)?;
    flock(&gate, FlockOperation::LockExclusive).map_err(Error::file("lock", &path))?;
    let live = live_runs(base)?;
    Ok(live.into_iter().map(|(_, started)| started).min().unwrap_or_else(now))
}

/// Makes the folders, and checks the privileges that the store was made for.
fn prepare(root: &Path, base: &Path, privileges: Privileges) -> Result<()> {
    let marker = base.join("kind");
    let asked = privileges.name();
    let check = |made_for: String| {
        if made_for == asked {
            return Ok(());
        }
        Err(Error::RootKind { root: root.into(), made_for, asked })
    };
    if let Ok(made_for) = fs::read_to_string(&marker) {
        return check(made_for);
    }
    fs::create_dir_all(root).map_err(Error::file("make folder", root))?;
    // Layers have setuid programs of all kinds of images, which other users of the machine must not
    // reach.
    make_folder(base, 0o700)?;
    for folder in ["blobs", "blobs/sha256", "layers", "tmp", "run"] {
        make_folder(&base.join(folder), 0o700)?;
    }
    // A link is made whole or not at all, and by one process only. The part is not in `tmp`, which
    // another process that is a step ahead may be sweeping.
    let thread = std::thread::current().id();
    let part = base.join(format!(".kind-{}-{thread:?}", std::process::id()));
    fs::write(&part, asked).map_err(Error::file("write", &part))?;
    let linked = fs::hard_link(&part, &marker);
    let _ = fs::remove_file(&part);
    match linked {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check(fs::read_to_string(&marker).map_err(Error::file("read", &marker))?)
        }
        Err(error) => Err(Error::file("write", &marker)(error)),
    }
}

fn open_lock(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::file("open", path))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// Makes a folder unless it exists.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("make folder", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a file, or a folder with its content, even if modes forbid it (overlay's `work/work` has
/// none at all).
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        other => other,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Locks a mutex, poisoned or not: its holders never leave the data half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that is removed on drop.
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}
