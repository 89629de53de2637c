//! Folders that outlive builds: `RUN --mount=type=cache`.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use graph::Sharing;
use layer::Layer;
use oci::Digest;
use rustix::fs::{FlockOperation, flock};

/// More copies of one private cache mount than this are refused: something does not end.
const COPIES: usize = 256;

/// The cache mounts under one root.
#[derive(Clone, Debug)]
pub struct CacheMounts {
    root: PathBuf,
}

/// A copy of a cache mount, as it takes room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMount {
    /// SHA-256 of its name, and the number of the copy: `<hex>/0`.
    pub id: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When a command held it last, in milliseconds since 1970.
    pub last_use: i64,
    /// True while a command holds it.
    pub in_use: bool,
}

/// A cache mount that is held for a command.
#[derive(Debug)]
pub struct CacheMount {
    /// The folder.
    pub path: PathBuf,
    /// True if it is new.
    pub fresh: bool,
    /// Released when dropped.
    _lock: File,
}

/// The place of a cache mount that is not here yet.
#[derive(Debug)]
pub struct ReservedMount {
    path: PathBuf,
    /// Released when dropped.
    _lock: File,
}

impl ReservedMount {
    /// Makes a folder on the same disk, with everything in it, the cache mount.
    ///
    /// # Errors
    /// If it cannot be moved there.
    pub fn fill(self, folder: &Path) -> io::Result<()> {
        fs::rename(folder, &self.path)
    }
}

/// Knows cache mounts that are not on this machine.
pub trait MountSource: Send + Sync {
    /// A cache mount by its name; none if this source does not have it.
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<FoundMount>>;
}

/// A cache mount that the source has.
#[derive(Clone, Debug)]
pub struct FoundMount {
    /// The layers that make it, from the bottom up.
    pub layers: Vec<Layer>,
    /// Its files are worth so many bytes; with more it is left.
    pub most: u64,
}

/// A cache mount that a build has used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedMount {
    /// By which it is told from others, here and elsewhere.
    pub name: String,
    /// The mount's id in the Dockerfile.
    pub id: String,
}

impl CacheMounts {
    /// Cache mounts in `root`, which is made when it is needed.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Holds the cache mount of a name as `sharing` says: shared with others, alone after
    /// waiting for others, or alone in a copy of its own. Blocks while it waits.
    ///
    /// # Errors
    /// If the folder cannot be made or locked.
    pub fn hold(&self, id: &str, sharing: Sharing) -> io::Result<CacheMount> {
        let folder = self.root.join(Digest::of(id).hex());
        fs::create_dir_all(&folder)?;
        match sharing {
            Sharing::Shared => held(&folder, 0, FlockOperation::LockShared),
            Sharing::Locked => held(&folder, 0, FlockOperation::LockExclusive),
            Sharing::Private => {
                for copy in 0..COPIES {
                    match held(&folder, copy, FlockOperation::NonBlockingLockExclusive) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                        result => return result,
                    }
                }
                Err(io::Error::other(format!("{COPIES} copies of it are in use")))
            }
        }
    }

    /// Reserves an unused name so that a cache mount can be imported before its first use; none if
    /// it is here already, or in use. Others that want it wait until this is dropped.
    ///
    /// # Errors
    /// If it cannot be locked.
    pub fn reserve(&self, id: &str) -> io::Result<Option<ReservedMount>> {
        let folder = self.root.join(Digest::of(id).hex());
        fs::create_dir_all(&folder)?;
        let lock = match lock_alone(&folder.join("0.lock")) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            result => result?,
        };
        let path = folder.join("0");
        Ok((!is_folder(&path)?).then_some(ReservedMount { path, _lock: lock }))
    }

    /// Locks a cache mount for reading, without writers. None if it is not here, or in use.
    ///
    /// # Errors
    /// If it cannot be locked.
    pub fn hold_still(&self, id: &str) -> io::Result<Option<CacheMount>> {
        let folder = self.root.join(Digest::of(id).hex());
        let path = folder.join("0");
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        match lock_alone(&folder.join("0.lock")) {
            Ok(lock) if is_folder(&path)? => {
                Ok(Some(CacheMount { path, fresh: false, _lock: lock }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Everything that is here, what was used longest ago first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<StoredMount>> {
        let mut found = Vec::new();
        for hash in names(&self.root)? {
            for copy in names(&self.root.join(&hash))? {
                if copy.parse::<usize>().is_err() {
                    continue;
                }
                let id = format!("{hash}/{copy}");
                let lock = self.root.join(format!("{id}.lock"));
                let bytes = size(&self.root.join(&id), &mut HashSet::new());
                let last_use =
                    fs::metadata(&lock).and_then(|lock| lock.modified()).map_or(0, millis);
                let in_use = match lock_alone(&lock) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                    result => result.map(|_| false)?,
                };
                found.push(StoredMount { id, bytes, last_use, in_use });
            }
        }
        found.sort_by(|a, b| (a.last_use, &a.id).cmp(&(b.last_use, &b.id)));
        Ok(found)
    }

    /// Removes one with `remove`, which gets its folder, unless a command holds it; whether it did.
    ///
    /// # Errors
    /// If its lock cannot be opened, and those of `remove`.
    pub fn discard<E: From<io::Error>>(
        &self,
        mount: &StoredMount,
        remove: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<bool, E> {
        // The lock's file stays: who waits for it must not get another one than who comes later.
        let _lock = match lock_alone(&self.root.join(format!("{}.lock", mount.id))) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            result => result?,
        };
        remove(&self.root.join(&mount.id)).map(|()| true)
    }
}

/// Takes a mount's lock, if it is free.
fn lock_alone(path: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// The names in a folder; none if the folder is missing.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Bytes of the files below a path, each counted once.
fn size(path: &Path, seen: &mut HashSet<u64>) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        let is_new = metadata.nlink() < 2 || seen.insert(metadata.ino());
        return if is_new { metadata.len() } else { 0 };
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path(), seen)).sum()
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn held(folder: &Path, copy: usize, operation: FlockOperation) -> io::Result<CacheMount> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(format!("{copy}.lock")))?;
    flock(&lock, operation)?;
    // The time of last use. An old one only means that the mount is removed earlier.
    drop(lock.set_modified(SystemTime::now()));
    let path = folder.join(copy.to_string());
    let fresh = match fs::create_dir(&path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !is_folder(&path)? => {
            match fs::create_dir(&path) {
                // Another holder was as quick.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                result => result.map(|()| true)?,
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    Ok(CacheMount { path, fresh, _lock: lock })
}

/// True if a mount's folder exists. A link or a file in its place was not put there by kiln: it is
/// removed and never followed. The caller must hold the lock.
fn is_folder(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(false),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> (tempfile::TempDir, CacheMounts) {
        let folder = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::new(folder.path().into());
        (folder, mounts)
    }

    #[test]
    fn shared_holders_get_the_same_folder() {
        let (_folder, mounts) = mounts();
        let first = mounts.hold("a", Sharing::Shared).unwrap();
        let second = mounts.hold("a", Sharing::Shared).unwrap();
        assert_eq!(first.path, second.path);
        assert!(first.fresh && !second.fresh);
        assert_ne!(first.path, mounts.hold("b", Sharing::Shared).unwrap().path);
    }

    #[test]
    fn private_holders_get_copies_that_are_used_again() {
        let (_folder, mounts) = mounts();
        let first = mounts.hold("a", Sharing::Private).unwrap();
        let second = mounts.hold("a", Sharing::Private).unwrap();
        assert_ne!(first.path, second.path);
        let path = first.path.clone();
        drop(first);
        let third = mounts.hold("a", Sharing::Private).unwrap();
        assert_eq!(third.path, path);
        assert!(!third.fresh);
    }

    #[test]
    fn a_mount_is_brought_before_anybody_uses_it() {
        let (folder, mounts) = mounts();
        assert!(mounts.hold_still("a").unwrap().is_none());
        let reserved = mounts.reserve("a").unwrap().unwrap();
        assert!(mounts.reserve("a").unwrap().is_none());
        let brought = folder.path().join("brought");
        fs::create_dir(&brought).unwrap();
        fs::write(brought.join("file"), "x").unwrap();
        reserved.fill(&brought).unwrap();
        let held = mounts.hold("a", Sharing::Locked).unwrap();
        assert!(!held.fresh && held.path.join("file").exists());
        assert!(mounts.reserve("a").unwrap().is_none());
        assert!(mounts.hold_still("a").unwrap().is_none());
        drop(held);
        assert!(mounts.reserve("a").unwrap().is_none());
        assert!(mounts.hold_still("a").unwrap().is_some());
    }

    #[test]
    fn what_is_no_folder_is_no_cache_mount() {
        let (folder, mounts) = mounts();
        let outer = folder.path().join("outer");
        fs::create_dir(&outer).unwrap();
        fs::write(outer.join("credentials"), "s3cret").unwrap();
        let path = mounts.hold("a", Sharing::Locked).unwrap().path;
        let replace = |with: &dyn Fn()| {
            drop(fs::remove_dir(&path));
            with();
        };
        let link = || std::os::unix::fs::symlink(&outer, &path).unwrap();
        let file = || fs::write(&path, "x").unwrap();
        for with in [&link as &dyn Fn(), &file] {
            replace(with);
            assert!(mounts.hold_still("a").unwrap().is_none());
            replace(with);
            assert!(mounts.reserve("a").unwrap().is_some());
            for sharing in [Sharing::Shared, Sharing::Locked, Sharing::Private] {
                replace(with);
                let held = mounts.hold("a", sharing).unwrap();
                assert!(held.fresh && fs::read_dir(&held.path).unwrap().next().is_none());
            }
        }
        assert_eq!(fs::read_to_string(outer.join("credentials")).unwrap(), "s3cret");
    }

    #[test]
    fn what_is_held_stays() {
        let (_folder, mounts) = mounts();
        assert_eq!(mounts.list().unwrap(), []);
        let remove = |path: &Path| fs::remove_dir_all(path);
        let held = mounts.hold("a", Sharing::Shared).unwrap();
        fs::write(held.path.join("file"), "four").unwrap();
        let listed = mounts.list().unwrap().remove(0);
        assert!(listed.in_use && listed.bytes == 4 && listed.last_use > 0);
        assert!(!mounts.discard(&listed, remove).unwrap());
        drop(held);
        assert!(!mounts.list().unwrap()[0].in_use);
        assert!(mounts.discard(&listed, remove).unwrap());
        assert_eq!(mounts.list().unwrap(), []);
        assert!(mounts.hold("a", Sharing::Shared).unwrap().fresh);
    }

    #[test]
    fn a_locked_holder_waits_for_the_other() {
        let (_folder, mounts) = mounts();
        let first = mounts.hold("a", Sharing::Locked).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sender.send(mounts.hold("a", Sharing::Locked).map(|held| held.fresh).unwrap())
            });
            assert!(receiver.try_recv().is_err());
            drop(first);
            assert!(!receiver.recv().unwrap());
        });
    }
}
