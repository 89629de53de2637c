//! The folder with the records of containers, one folder for each.
//!
//! A container's folder has its record, its log and a lock. Who starts, changes or removes a container holds the lock,
//! which the kernel takes away from a process that dies.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use store::Store;

use crate::record::ContainerRecord;
use crate::{ContainerId, Error};

/// The largest record that is read.
const LARGEST: u64 = 8 << 20;
const RECORD: &str = "record.json";
const LOCK: &str = "lock";
/// The time for which a lock is waited for, and that between two looks at it.
const MOMENT: Duration = Duration::from_millis(500);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// The folder with all containers.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
}

/// A container that no other process starts, changes or removes meanwhile.
#[derive(Debug)]
pub(crate) struct ContainerLock {
    _file: File,
}

impl StateFolder {
    /// Opens the folder, and makes it if there is none.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Error> {
        make(&path)?;
        Ok(Self { path })
    }

    /// Keeps other processes from making and renaming containers, for a moment. Blocks.
    pub(crate) fn gate(&self) -> Result<File, Error> {
        let folder = File::open(&self.path).map_err(Error::file("open", &self.path))?;
        flock(&folder, FlockOperation::LockExclusive).map_err(Error::file("lock", &self.path))?;
        Ok(folder)
    }

    /// A container's folder.
    pub(crate) fn of(&self, id: &ContainerId) -> PathBuf {
        self.path.join(id.as_str())
    }

    /// Keeps a new container. It is seen by others once it is whole.
    pub(crate) fn add(&self, record: &ContainerRecord) -> Result<(), Error> {
        let part = self.path.join(format!(".{}", record.id));
        make(&part)?;
        let made = write_record(&part, record).and_then(|()| {
            let target = self.of(&record.id);
            fs::rename(&part, &target).map_err(Error::file("make", target))
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&part);
        }
        made
    }

    /// Writes a container's record again.
    pub(crate) fn write(&self, record: &ContainerRecord) -> Result<(), Error> {
        write_record(&self.of(&record.id), record)
    }

    /// Reads a container's record. One that says `running` is put right if the process is gone.
    pub(crate) fn read(&self, id: &ContainerId) -> Result<ContainerRecord, Error> {
        let mut record = self.read_as_is(id)?;
        if record.is_running()
            && let Some(_lock) = self.lock(id)?
        {
            // Its process may have ended it between the look and the lock.
            record = self.read_as_is(id)?;
            if record.is_running() {
                record.end_with_its_process(SystemTime::now());
                self.write(&record)?;
            }
        }
        Ok(record)
    }

    fn read_as_is(&self, id: &ContainerId) -> Result<ContainerRecord, Error> {
        let path = self.of(id).join(RECORD);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(LARGEST).read_to_end(&mut bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_string()));
            }
            Err(error) => Err(error),
        }
        .map_err(Error::file("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Record { path, source })
    }

    /// The IDs of all containers.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>, Error> {
        let entries = fs::read_dir(&self.path).map_err(Error::file("list", &self.path))?;
        let id =
            |entry: io::Result<fs::DirEntry>| ContainerId::parse(entry.ok()?.file_name().to_str()?);
        Ok(entries.filter_map(id).collect())
    }

    /// All containers. One that is removed meanwhile is left out, and so is one whose record is damaged.
    pub(crate) fn list(&self) -> Result<Vec<ContainerRecord>, Error> {
        let mut records = Vec::new();
        for id in self.ids()? {
            match self.read(&id) {
                Ok(record) => records.push(record),
                Err(Error::NotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(%id, error = oci::chain_text(&error), "a container is left out");
                }
            }
        }
        Ok(records)
    }

    /// Takes a container's lock; none if another holds it, in this process or another.
    pub(crate) fn lock(&self, id: &ContainerId) -> Result<Option<ContainerLock>, Error> {
        let path = self.of(id).join(LOCK);
        let opened =
            File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(id.to_string()));
            }
            Err(error) => return Err(Error::file("open", path)(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // It may have been removed by the one who held the lock.
            Ok(()) if path.exists() => Ok(Some(ContainerLock { _file: file })),
            Ok(()) => Err(Error::NotFound(id.to_string())),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::file("lock", path)(error)),
        }
    }

    /// Takes a container's lock, for which it waits a moment: [`StateFolder::read`] holds it while it looks at the record
    /// of one that has just ended.
    pub(crate) async fn lock_soon(&self, id: &ContainerId) -> Result<Option<ContainerLock>, Error> {
        let deadline = tokio::time::Instant::now() + MOMENT;
        loop {
            match self.lock(id)? {
                None if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
                found => return Ok(found),
            }
        }
    }

    /// Removes a container with its log. Its lock is held by the caller.
    pub(crate) fn remove(&self, id: &ContainerId, store: &Store) -> Result<(), Error> {
        Ok(store.discard(&self.of(id))?)
    }
}

fn make(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(Error::file("make folder", path))
}

fn write_record(folder: &Path, record: &ContainerRecord) -> Result<(), Error> {
    let path = folder.join(RECORD);
    let part = folder.join(format!("{RECORD}.part"));
    let bytes = serde_json::to_vec(record)
        .map_err(|source| Error::Record { path: path.clone(), source })?;
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, &path))
        .map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LifeState;
    use crate::record::tests::record;

    #[test]
    fn records_are_kept_listed_and_locked() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path().join("containers")).unwrap();
        let web = record("web");
        state.add(&web).unwrap();
        assert_eq!(state.read(&web.id).unwrap(), web);
        assert_eq!(state.list().unwrap(), std::slice::from_ref(&web));
        let held = state.lock(&web.id).unwrap();
        assert!(held.is_some() && state.lock(&web.id).unwrap().is_none());
        drop(held);
        assert!(state.lock(&web.id).unwrap().is_some());
        let other = ContainerId::draw().unwrap();
        assert!(matches!(state.read(&other), Err(Error::NotFound(_))));
        assert!(matches!(state.lock(&other), Err(Error::NotFound(_))));
        fs::write(state.of(&web.id).join(RECORD), "{").unwrap();
        assert!(matches!(state.read(&web.id), Err(Error::Record { .. })));
        assert_eq!(state.list().unwrap(), []);
    }

    #[tokio::test]
    async fn a_lock_is_waited_for_while_others_look() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path().to_owned()).unwrap();
        let web = record("web");
        state.add(&web).unwrap();
        let held = state.lock(&web.id).unwrap().unwrap();
        assert!(state.lock_soon(&web.id).await.unwrap().is_none(), "it is not given up");
        let waiting = state.lock_soon(&web.id);
        let letting_go = async {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            drop(held);
        };
        assert!(tokio::join!(waiting, letting_go).0.unwrap().is_some());
    }

    #[test]
    fn what_ran_in_a_dead_process_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path().to_owned()).unwrap();
        let mut web = record("web");
        web.state = LifeState::Running { started: SystemTime::UNIX_EPOCH };
        state.add(&web).unwrap();
        let lock = state.lock(&web.id).unwrap().unwrap();
        assert!(state.read(&web.id).unwrap().is_running(), "somebody holds it");
        drop(lock);
        let read = state.read(&web.id).unwrap();
        assert_eq!((read.is_running(), read.exit_code()), (false, 137));
        assert_eq!(state.read_as_is(&web.id).unwrap(), read, "it is kept so");
    }
}
