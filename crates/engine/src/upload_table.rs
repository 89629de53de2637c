//! Archives that come in a request of their own (`buildid=upload-request:ID`), for the build with that ID.
//!
//! Docker's clients before 23.0 send a context on standard input so, beside the request that asks for the build.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::{ApiError, Upload};

/// The time that one request waits for the other (dockerd's).
const PATIENCE: Duration = Duration::from_secs(5);
/// The most requests that wait.
const MOST: usize = 256;

/// The end of a channel that the first of two requests left for the second.
#[derive(Debug)]
enum OtherEnd {
    /// Of a build that waits for its archive.
    Build(oneshot::Sender<Upload>),
    /// Of an archive that waits for its build.
    Archive(oneshot::Receiver<Upload>),
}

/// Archives and builds that wait for each other, by the builds' IDs.
#[derive(Debug)]
pub(crate) struct UploadTable {
    waiting: Mutex<HashMap<String, OtherEnd>>,
    patience: Duration,
}

impl Default for UploadTable {
    fn default() -> Self {
        Self { waiting: Mutex::default(), patience: PATIENCE }
    }
}

impl UploadTable {
    /// Waits for the archive of a build.
    ///
    /// # Errors
    /// If it does not come, another build has the ID, or too many requests wait.
    pub(crate) async fn take(&self, id: &str) -> Result<Upload, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let receiver = match self.meet(id, OtherEnd::Build(sender))? {
            Some(OtherEnd::Archive(receiver)) => receiver,
            Some(OtherEnd::Build(_)) => return Err(exists(id)),
            None => receiver,
        };
        let _waiting = Waiting { table: self, id };
        let archive = tokio::time::timeout(self.patience, receiver).await;
        archive.ok().and_then(Result::ok).ok_or_else(|| {
            ApiError::BadRequest(format!("the archive of the build `{id}` did not come"))
        })
    }

    /// Gives an archive to its build; returns once that has read it.
    ///
    /// # Errors
    /// If there is no such build, it has an archive, or too many requests wait.
    pub(crate) async fn give(&self, id: &str, mut archive: Upload) -> Result<(), ApiError> {
        let mut ended = archive.watch();
        let (sender, receiver) = oneshot::channel();
        match self.meet(id, OtherEnd::Archive(receiver))? {
            // A build that has gone drops the archive.
            Some(OtherEnd::Build(build)) => drop(build.send(archive)),
            Some(OtherEnd::Archive(_)) => return Err(exists(id)),
            None => {
                drop(sender.send(archive));
                let _waiting = Waiting { table: self, id };
                tokio::select! {
                    _ = &mut ended => return Ok(()),
                    () = tokio::time::sleep(self.patience) => {}
                }
                if self.table().remove(id).is_some() {
                    return Err(ApiError::NotFound(format!(
                        "no build `{id}` waits for an archive"
                    )));
                }
            }
        }
        // An error says that the archive was dropped, which is what is waited for.
        let _ = ended.await;
        Ok(())
    }

    /// Takes what the other request left, or leaves an end for it.
    fn meet(&self, id: &str, end: OtherEnd) -> Result<Option<OtherEnd>, ApiError> {
        let mut table = self.table();
        let is_full = table.len() >= MOST;
        match table.entry(id.to_owned()) {
            Entry::Occupied(left) => Ok(Some(left.remove())),
            Entry::Vacant(_) if is_full => {
                Err(ApiError::Unavailable("too many builds wait for their archives".into()))
            }
            Entry::Vacant(place) => {
                place.insert(end);
                Ok(None)
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, OtherEnd>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exists(id: &str) -> ApiError {
    ApiError::Conflict(format!("the build `{id}` was asked for twice"))
}

/// A request that waits. What it left goes with it.
struct Waiting<'a> {
    table: &'a UploadTable,
    id: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.table.table().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    async fn read(mut archive: Upload) -> String {
        let read = move || {
            let mut text = String::new();
            archive.read_to_string(&mut text).map(|_| text)
        };
        tokio::task::spawn_blocking(read).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn an_archive_and_its_build_meet_whoever_comes_first() {
        let table = UploadTable::default();
        let build = async { read(table.take("a").await.unwrap()).await };
        let archive = async { table.give("a", Upload::of_bytes(b"files")).await.unwrap() };
        assert_eq!(tokio::join!(build, archive).0, "files");
        let build = async { read(table.take("b").await.unwrap()).await };
        let archive = async { table.give("b", Upload::of_bytes(b"more")).await.unwrap() };
        assert_eq!(tokio::join!(archive, build).1, "more");
        assert!(table.table().is_empty());
    }

    #[tokio::test]
    async fn who_waits_in_vain_leaves_nothing() {
        let table = UploadTable { patience: Duration::ZERO, ..UploadTable::default() };
        assert!(matches!(table.take("a").await, Err(ApiError::BadRequest(_))));
        let archive = Upload::of_bytes(b"files");
        assert!(matches!(table.give("a", archive).await, Err(ApiError::NotFound(_))));
        assert!(table.table().is_empty());
    }

    #[tokio::test]
    async fn an_id_is_one_builds() {
        let table = UploadTable::default();
        let (first, second) = tokio::join!(table.take("a"), table.take("a"));
        assert!(first.is_err() && matches!(second, Err(ApiError::Conflict(_))));
        assert!(table.table().is_empty());
    }
}
