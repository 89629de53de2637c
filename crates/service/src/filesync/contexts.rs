//! Contexts of clients: the last one of each is kept, so that the next transfer brings only what
//! changed.
//!
//! A folder is known by a hash of the client's shared key, which is the client's secret, and of
//! what was selected. A client without a shared key gets a new folder each time: no other client
//! can make a guess at its files. A folder does not change while a build reads it: a second build
//! of the same context gets a folder of its own.

use std::fs::{DirBuilder, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oci::Digest;
use rustix::fs::FlockOperation;
use tempfile::TempDir;

use super::{FileSelection, FileSyncError, Received, TransferLimits};
use crate::session::ClientSession;

/// The most contexts that are kept; those used longest ago go first.
const MOST_KEPT: usize = 64;
/// The most bytes that kept contexts may have.
const MOST_BYTES: u64 = 16 << 30;

/// The beginning of the names of folders that are not kept.
const ONCE: &str = "once-";
/// The age at which those belong to no build any more.
const LEFT_BEHIND: Duration = Duration::from_secs(7 * 24 * 3600);

/// The folder of kept contexts. Clones share it.
#[derive(Clone, Debug)]
pub struct Contexts {
    folder: Arc<Path>,
    limits: TransferLimits,
}

/// A context that a build reads; it does not change meanwhile.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    /// The lock of a kept context, which ends with the file; or the folder, which goes with this.
    _hold: Hold,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for their drop")]
enum Hold {
    Kept(File),
    Temporary(TempDir),
}

/// A context that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptContext {
    /// Its name here.
    pub id: String,
    /// Bytes, as noted when it was brought.
    pub size: u64,
    /// Its last use.
    pub used: SystemTime,
}

impl Lease {
    /// The folder with the files.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Contexts {
    /// Contexts in a folder, which is made.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: &Path, limits: TransferLimits) -> io::Result<Self> {
        make(folder)?;
        Ok(Self { folder: folder.into(), limits })
    }

    /// Brings the selected files of a client here. Blocks: call it on a thread of its own, in a
    /// runtime.
    ///
    /// # Errors
    /// If the client breaks off or breaks a rule, or the disk refuses.
    pub fn receive(
        &self,
        session: &ClientSession,
        selection: &FileSelection,
    ) -> Result<(Lease, Received), FileSyncError> {
        let here = |error: io::Error| FileSyncError::io(&self.folder.display().to_string(), error);
        let kept = session.shared_key().map(|key| self.kept(key, selection));
        let (base, hold) = match kept.transpose().map_err(here)?.flatten() {
            Some((base, lock)) => (base, Hold::Kept(lock)),
            None => {
                let made = tempfile::Builder::new().prefix(ONCE).tempdir_in(&self.folder);
                let made = made.map_err(here)?;
                (made.path().to_owned(), Hold::Temporary(made))
            }
        };
        let (tree, staging) = (base.join("tree"), base.join("staging"));
        // An earlier transfer may have left unfinished files.
        match std::fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(here(error)),
            _ => {}
        }
        make(&tree).and_then(|()| make(&staging)).map_err(here)?;
        let received = session.receive(selection, &tree, &staging, self.limits)?;
        if let Hold::Kept(lock) = &hold {
            note_use(lock, received).map_err(here)?;
        }
        Ok((Lease { path: tree, _hold: hold }, received))
    }

    /// The kept folder of a context, if no build reads it.
    fn kept(
        &self,
        shared_key: &str,
        selection: &FileSelection,
    ) -> io::Result<Option<(PathBuf, File)>> {
        let FileSelection { name, follow_paths, include_patterns, exclude_patterns } = selection;
        let texts = (shared_key, name, follow_paths, include_patterns, exclude_patterns);
        let key = Digest::of(serde_json::to_vec(&texts)?);
        let base = self.folder.join(key.hex());
        make(&base)?;
        Ok(lock(&base)?.map(|lock| (base, lock)))
    }

    /// The contexts that are kept. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<KeptContext>> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let id = entry.file_name().to_string_lossy().into_owned();
            // One that goes meanwhile is none.
            if !id.starts_with(ONCE)
                && let Ok((size, used)) = noted(&entry.path())
            {
                kept.push(KeptContext { id, size, used });
            }
        }
        Ok(kept)
    }

    /// Removes a context; false if a build reads it. Blocks.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, kept: &KeptContext) -> io::Result<bool> {
        let base = self.folder.join(&kept.id);
        let Some(_lock) = lock(&base)? else { return Ok(false) };
        std::fs::remove_dir_all(&base)?;
        Ok(true)
    }

    /// Removes the contexts that were used longest ago, where there are too many, and what killed
    /// processes have left. What builds read stays. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn collect(&self) -> io::Result<()> {
        let mut kept = self.list()?;
        kept.sort_by_key(|context| std::cmp::Reverse(context.used));
        let mut bytes = 0_u64;
        for (place, context) in kept.iter().enumerate() {
            bytes = bytes.saturating_add(context.size);
            if place >= MOST_KEPT || bytes > MOST_BYTES {
                self.remove(context)?;
            }
        }
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let is_once = entry.file_name().to_string_lossy().starts_with(ONCE);
            // One that goes meanwhile needs no removal.
            let Ok(used) = entry.metadata().and_then(|metadata| metadata.modified()) else {
                continue;
            };
            if is_once && used.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Notes the use of a kept context, and its size.
fn note_use(mut lock: &File, received: Received) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    // An entry takes room, too.
    let size = received.announced.saturating_add(4096 * received.entries);
    lock.write_all(size.to_string().as_bytes())
}

/// The size and the last use of a context.
fn noted(base: &Path) -> io::Result<(u64, SystemTime)> {
    let lock = base.join("lock");
    match std::fs::read_to_string(&lock) {
        Ok(size) => Ok((size.parse().unwrap_or(0), lock.metadata()?.modified()?)),
        Err(_) => Ok((0, base.metadata()?.modified()?)),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The lock of a kept context; none if it is held.
fn lock(base: &Path) -> io::Result<Option<File>> {
    let path = base.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
