//! The root folder: its layout, who uses it, and what may be trusted in it.
//!
//! Nothing is synced to the disk when it is written: an fsync for each of thousands of files costs
//! more than the whole build. A killed process leaves only whole things under final names, because
//! those are given by a rename. A lost machine may leave a final name without all its bytes; so
//! each item's row says in which boot it was written or last checked, and the first use in another
//! boot checks it: a blob against its digest, a layer's folder against its index.

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

/// What the process may do with files, and with which attributes overlay marks are made. A store
/// is made for one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Privileges {
    /// Root with `CAP_SYS_ADMIN`: marks are `trusted.overlay.*`.
    Root,
    /// Root of a user namespace: marks are `user.overlay.*`; devices are in the index only.
    UserNamespace,
    /// Root that may change owners and make devices but not mount, as containers have it. Deleted
    /// files and opaque folders are in the index only.
    Chroot,
    /// A plain user: folders hold the contents, readable; all else is in the index only.
    None,
}

/// What happens with files whose owner does not exist in the user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnmappedOwners {
    /// An error that names the file.
    #[default]
    Refuse,
    /// They belong to whoever unpacks; the index keeps the owner.
    Ignore,
}

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// What the process may do.
    pub privileged: Privileges,
    /// What happens with owners that do not exist here.
    pub unmapped_owners: UnmappedOwners,
    /// How much is accepted of an archive that somebody else made: a layer, an archive that ADD
    /// unpacks, a context.
    pub limits: Limits,
}

impl OpenOptions {
    /// Options with [`UnmappedOwners::Refuse`] and [`Limits::DEFAULT`].
    pub const fn new(privileged: Privileges) -> Self {
        Self { privileged, unmapped_owners: UnmappedOwners::Refuse, limits: Limits::DEFAULT }
    }
}

/// Where bytes live on this machine. Cheap to clone; several processes may use one root.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) loans: Arc<Loans>,
    /// Less than the limits of the root allow, in bytes of an archive.
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
    /// Chains that are unpacked into plain folders and in nobody's hands.
    pub(crate) idle_folders: Mutex<Vec<IdleFolder>>,
}

/// That this process uses the store: a locked file in `run/` with the time of its start, and a
/// folder of the same name in `tmp/`.
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

    /// Beginning of the names of overlay's attributes, where marks can be made.
    pub(crate) const fn overlay_prefix(self) -> Option<&'static str> {
        match self {
            Self::Root => Some("trusted.overlay."),
            Self::UserNamespace => Some("user.overlay."),
            Self::Chroot | Self::None => None,
        }
    }
}

impl Store {
    /// Opens a store and makes it where there is none. What killed processes left is removed in the
    /// background.
    ///
    /// # Errors
    /// Among others, where the store was made for a process with other privileges.
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

    /// What a root was made for, if there is one.
    pub fn made_for(root: &Path) -> Option<Privileges> {
        let name = fs::read_to_string(root.join("v1/kind")).ok()?;
        let all =
            [Privileges::Root, Privileges::UserNamespace, Privileges::Chroot, Privileges::None];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether overlay's marks can be made in a folder, which is made if it is missing: not on an
    /// overlay itself, as a container's own disk is one.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn can_mark(root: &Path, privileges: Privileges) -> Result<bool> {
        let Some(prefix) = privileges.overlay_prefix() else { return Ok(false) };
        fs::create_dir_all(root).map_err(Error::file("make folder", root))?;
        // One name for all, by turns: what a killed process has left is the next one's to remove.
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

    /// What this store was opened for.
    pub fn privileges(&self) -> Privileges {
        self.inner.options.privileged
    }

    /// Whether files whose owner does not exist here belong to whoever unpacks them.
    pub fn ignores_owners(&self) -> bool {
        self.inner.options.unmapped_owners == UnmappedOwners::Ignore
    }

    /// Where a layer's unpacked folder is, if it is unpacked.
    pub fn layer_folder(&self, diff_id: &Digest) -> PathBuf {
        self.layer_path(diff_id).join("fs")
    }

    /// Whether a layer's folder is here, whole.
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
        // Between the look and the note a prune may have taken it.
        Ok(self.layer_folder(diff_id).is_dir())
    }

    /// Whether a layer's index is here, be it a [lent](Self::lend_index) one. It is read, so that
    /// it stays here for this process whatever others prune.
    pub fn has_index(&self, diff_id: &Digest) -> bool {
        self.index(diff_id).is_ok()
    }

    /// Whether a layer's index is here that was made of the layer's own bytes.
    pub fn has_own_index(&self, diff_id: &Digest) -> bool {
        // One that another version of kiln wrote is none: the layer is read again.
        lock(&self.inner.indexes).contains_key(diff_id)
            || LayerIndex::is_in(&self.layer_path(diff_id).join("index"))
    }

    /// A layer's index; its own if that is here, else a lent one.
    pub fn index(&self, diff_id: &Digest) -> Result<Arc<LayerIndex>> {
        match self.own_index(diff_id) {
            Err(Error::NoIndex(_)) => self.lent_index(diff_id).ok_or(Error::NoIndex(*diff_id)),
            result => result,
        }
    }

    /// The index that was made of the layer's own bytes.
    pub fn own_index(&self, diff_id: &Digest) -> Result<Arc<LayerIndex>> {
        if let Some(index) = lock(&self.inner.indexes).get(diff_id) {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(self.read_index(diff_id)?);
        self.note_index(diff_id)?;
        lock(&self.inner.indexes).insert(*diff_id, Arc::clone(&index));
        Ok(index)
    }

    /// Keeps a layer's index, which must come from the layer's own bytes. One with seek
    /// tables takes the place of another; one without leaves it.
    pub fn put_index(&self, diff_id: &Digest, index: &LayerIndex) -> Result<()> {
        let folder = self.layer_path(diff_id);
        let path = folder.join("index");
        let is_known = !index.has_seek_tables() && path.exists();
        let known = if is_known { self.own_index(diff_id).ok() } else { None };
        if known.is_none() {
            let bytes = index.encode();
            let part = self.temporary("index");
            fs::write(&part, &bytes).map_err(Error::file("write", &part))?;
            // Somebody's prune may take the folder away between the two.
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

    /// The content of a regular file of an unpacked layer. No link is followed, neither at the end
    /// of the path nor on the way.
    pub fn open_file(&self, diff_id: &Digest, path: &[u8]) -> io::Result<File> {
        let root = self.layer_root(diff_id).map_err(io::Error::other)?;
        crate::folder::open_regular(&root, path)
    }

    /// How much of an archive is accepted; who reads one with a store to hand keeps to it.
    pub fn limits(&self) -> Limits {
        let limits = self.inner.options.limits;
        let most = self.most.unwrap_or(limits.max_total_bytes);
        Limits { max_total_bytes: limits.max_total_bytes.min(most), ..limits }
    }

    /// The same root for what is worth only so many bytes of an archive.
    #[must_use]
    pub fn within(&self, bytes: u64) -> Self {
        Self { most: Some(bytes), ..self.clone() }
    }

    /// The folder of an unpacked layer, open.
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

    /// Where cache mounts live. The store only names the place.
    pub fn cache_mounts_folder(&self) -> PathBuf {
        self.inner.base.join("mounts")
    }

    /// A name in this process's own temporary folder that nobody has had.
    pub(crate) fn temporary(&self, what: &str) -> PathBuf {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        self.inner.run.tmp.join(format!("{what}-{number}"))
    }

    /// A temporary folder that is removed when it is dropped.
    pub(crate) fn temporary_folder(&self, what: &str) -> Result<TemporaryFolder> {
        let path = self.temporary(what);
        make_folder(&path, 0o700)?;
        Ok(TemporaryFolder(path))
    }

    /// Takes something in the root away from where others see it, then removes it; nothing where
    /// there is nothing.
    ///
    /// # Errors
    /// Where it cannot be moved or removed.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let trash = self.temporary("trash");
        match fs::rename(path, &trash) {
            Ok(()) => remove_tree(&trash).map_err(Error::file("remove", path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::file("remove", path)(error)),
        }
    }

    /// Ends this process's work in the store, though threads of it may still be at it: what they
    /// are making is taken from under them and removed. None of it can get its final name later.
    pub fn end(&self) {
        let run = &self.inner.run;
        // Removing needs a name that nobody knows. A moment's files may come in between.
        let ended = run.tmp.with_extension("ended");
        if fs::rename(&run.tmp, &ended).is_ok() {
            let _ = (0..100).find(|_| remove_tree(&ended).is_ok());
        }
        let _ = fs::remove_file(&run.path);
    }

    /// Gives an unpacked folder its final name. Whether this one is it: another process may have
    /// been quicker, then this folder is left where it is.
    pub(crate) fn install(&self, folder: &Path, diff_id: &Digest, size: u64) -> Result<bool> {
        let target = self.layer_folder(diff_id);
        let mut installed = false;
        for attempt in 0.. {
            // Row before folder: prune goes by both, and its own folder comes and goes.
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

    /// Notes a use of an item, once in the life of this process: prune keeps what was used since
    /// the oldest process began. Whether it may be trusted: it was written or checked in this boot.
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

    /// After items were pruned.
    pub(crate) fn forget_seen(&self) {
        lock(&self.inner.seen).clear();
        lock(&self.inner.roots).clear();
        lock(&self.inner.indexes).clear();
    }

    /// Notes the use of an index. It has no row of its own unless its layer has one: a row says
    /// that the folder is whole.
    fn note_index(&self, diff_id: &Digest) -> Result<()> {
        if !self.layer_folder(diff_id).exists() {
            // The file's own time says when it was used last.
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

    /// Compares an unpacked folder with its index: kinds and sizes, which is what a lost machine
    /// would have spoiled. The size of all contents if all is well.
    fn check_layer(&self, diff_id: &Digest) -> Result<Option<u64>> {
        let Ok(index) = self.read_index(diff_id) else { return Ok(None) };
        let folder = self.layer_folder(diff_id);
        // It may be gone since it was seen.
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
        // Opening twice in a nanosecond is not possible under the gate.
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
                    // What cannot be removed now is found again by the next process.
                    let _ = remove_tree(&path);
                }
            });
        }
        Ok(run)
    }

    /// Moves what dead processes left into this one's temporary folder.
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

/// Processes that use the store, with the times of their starts. Files of dead ones are removed.
/// Under the gate, so that none is looked at between its making and its locking.
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
        // Without a readable time it is as old as can be: nothing is pruned from under it.
        live.push((name, text.parse().unwrap_or(0)));
    }
    Ok(live)
}

/// When the oldest process that uses the store began.
pub(crate) fn oldest_start(base: &Path) -> Result<i64> {
    let path = base.join("lock");
    let gate = open_lock(&path)?;
    flock(&gate, FlockOperation::LockExclusive).map_err(Error::file("lock", &path))?;
    let live = live_runs(base)?;
    Ok(live.into_iter().map(|(_, started)| started).min().unwrap_or_else(now))
}

/// Makes the folders and checks what the store was made for.
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
    // Layers have setuid programs of all kinds of images: not for other users of the machine.
    make_folder(base, 0o700)?;
    for folder in ["blobs", "blobs/sha256", "layers", "tmp", "run"] {
        make_folder(&base.join(folder), 0o700)?;
    }
    // A link is made whole or not at all, and by one process only. The part is not in `tmp`, which
    // another process that is a step further may be sweeping.
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

/// Makes a folder that may be there already.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("make folder", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a file, or a folder with all that is in it, also where modes forbid it (overlay's
/// `work/work` has none at all).
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

/// A lock whose holder never leaves the data half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removed when it is dropped.
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
