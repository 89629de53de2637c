//! The processes that use a store, and the removal of files that killed ones left.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::db::now;
use crate::disk::{make_folder, remove_tree};
use crate::{Error, Result, strays, turn};

/// The record of this process's use of the store: a locked file in `run/` with the time of its
/// start, and a folder of the same name in `tmp/`.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) started: i64,
    pub(crate) tmp: PathBuf,
    path: PathBuf,
    _lock: File,
}

impl Run {
    /// Notes that this process uses the store, and has files of dead ones removed in the background.
    pub(crate) fn start(base: &Path) -> Result<Self> {
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
            let base = base.to_owned();
            let _ = std::thread::Builder::new().name("clean".into()).spawn(move || {
                turn::sweep(&base);
                for path in stale {
                    strays::end(&path);
                    // The next process finds again what cannot be removed now.
                    let _ = remove_tree(&path);
                }
            });
        }
        Ok(run)
    }

    /// Moves this process's unfinished files away and removes them, although threads of it may still
    /// be writing: none of them can get its final name later.
    pub(crate) fn end(&self) {
        // Removal needs a name that no thread knows. Files that are being made may still come in
        // between.
        let ended = self.tmp.with_extension("ended");
        if fs::rename(&self.tmp, &ended).is_ok() {
            let _ = (0..100).find(|_| remove_tree(&ended).is_ok());
        }
        let _ = fs::remove_file(&self.path);
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
