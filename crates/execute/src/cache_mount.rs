//! Folders that outlive builds: `RUN --mount=type=cache`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use graph::Sharing;
use oci::Digest;
use rustix::fs::{FlockOperation, flock};

/// More copies of one private cache mount than this are refused: something does not end.
const COPIES: usize = 256;

/// The cache mounts under one root.
#[derive(Clone, Debug)]
pub struct CacheMounts {
    root: PathBuf,
}

/// A cache mount that is held for a command.
#[derive(Debug)]
pub struct CacheMount {
    /// The folder.
    pub path: PathBuf,
    /// Whether nobody has used it before.
    pub fresh: bool,
    /// Released when dropped.
    _lock: File,
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
}

fn held(folder: &Path, copy: usize, operation: FlockOperation) -> io::Result<CacheMount> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(format!("{copy}.lock")))?;
    flock(&lock, operation)?;
    let path = folder.join(copy.to_string());
    let fresh = match fs::create_dir(&path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    Ok(CacheMount { path, fresh, _lock: lock })
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
