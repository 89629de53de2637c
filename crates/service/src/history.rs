//! Records of builds, kept in a folder: the newest ones, and those that are pinned.
//!
//! A record is a file of one `BuildHistoryRecord`; the progress is a blob beside it, by its
//! digest, in BuildKit's form (each message after its length in four bytes, little endian).

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use oci::Digest;
use prost::Message as _;
use tokio::sync::broadcast;
use tonic::Status;

use crate::grpc::Messages;
use crate::proto::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, Descriptor,
    StatusResponse, UpdateBuildHistoryRequest,
};

/// The most records that are kept without being pinned (BuildKit's default).
const MOST_RECORDS: usize = 50;
/// The media type of a progress (BuildKit's).
const STATUS_TYPE: &str = "application/vnd.buildkit.status.v0";
/// A larger record or message of a progress is none of kiln's.
const LARGEST: usize = 16 << 20;

/// Why records cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("records of builds in `{}`: {source}", folder.display())]
pub struct HistoryError {
    folder: PathBuf,
    source: io::Error,
}

/// The records of builds.
pub(crate) struct History {
    folder: PathBuf,
    state: Mutex<HistoryState>,
    events: broadcast::Sender<BuildHistoryEvent>,
}

#[derive(Default)]
struct HistoryState {
    /// Builds that run.
    active: HashMap<String, BuildHistoryRecord>,
    ended: HashMap<String, BuildHistoryRecord>,
}

fn event(r#type: BuildHistoryEventType, record: BuildHistoryRecord) -> BuildHistoryEvent {
    BuildHistoryEvent { r#type: r#type.into(), record: Some(record) }
}

impl History {
    /// The records in a folder, which is made.
    ///
    /// # Errors
    /// If it cannot be made or read.
    pub(crate) fn open(folder: &Path) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError { folder: folder.to_owned(), source };
        let blobs = folder.join("blobs");
        DirBuilder::new().recursive(true).mode(0o700).create(&blobs).map_err(failed)?;
        let mut ended = HashMap::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "record") {
                continue;
            }
            // A record that another version wrote, or half of one, is left alone.
            let bytes = std::fs::read(&path).map_err(failed)?;
            if let Ok(record) = BuildHistoryRecord::decode(bytes.as_slice()) {
                ended.insert(record.r#ref.clone(), record);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            state: Mutex::new(HistoryState { active: HashMap::new(), ended }),
            events: broadcast::Sender::new(256),
        })
    }

    fn state(&self) -> MutexGuard<'_, HistoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, r#type: BuildHistoryEventType, record: BuildHistoryRecord) {
        // It fails where there is no listener.
        let _ = self.events.send(event(r#type, record));
    }

    /// Notes a build that begins.
    pub(crate) fn begin(&self, record: BuildHistoryRecord) {
        self.state().active.insert(record.r#ref.clone(), record.clone());
        self.say(BuildHistoryEventType::Started, record);
    }

    /// Keeps the record of a build that has ended. Blocks.
    pub(crate) fn finish(&self, mut record: BuildHistoryRecord, progress: &[StatusResponse]) {
        match self.write_progress(progress) {
            Ok(logs) => record.logs = Some(logs),
            Err(error) => tracing::warn!(%error, "the progress of a build was not kept"),
        }
        if let Err(error) = self.write(&record) {
            tracing::warn!(%error, "the record of a build was not kept");
        }
        {
            let mut state = self.state();
            state.active.remove(&record.r#ref);
            state.ended.insert(record.r#ref.clone(), record.clone());
        }
        self.say(BuildHistoryEventType::Complete, record);
        self.limit();
    }

    /// Forgets a build that ended without a record.
    pub(crate) fn give_up(&self, reference: &str) {
        self.state().active.remove(reference);
    }

    fn path(&self, reference: &str) -> PathBuf {
        self.folder.join(format!("{reference}.record"))
    }

    fn write(&self, record: &BuildHistoryRecord) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&record.encode_to_vec())?;
        file.persist(self.path(&record.r#ref))?;
        Ok(())
    }

    fn write_progress(&self, progress: &[StatusResponse]) -> io::Result<Descriptor> {
        let mut bytes = Vec::new();
        for message in progress {
            let length = u32::try_from(message.encoded_len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&length.to_le_bytes());
            message.encode(&mut bytes).map_err(io::Error::other)?;
        }
        let digest = Digest::of(&bytes);
        let blobs = self.folder.join("blobs");
        let mut file = tempfile::NamedTempFile::new_in(&blobs)?;
        file.write_all(&bytes)?;
        file.persist(blobs.join(digest.hex()))?;
        Ok(Descriptor {
            media_type: STATUS_TYPE.into(),
            digest: digest.to_string(),
            size: bytes.len() as i64,
            ..Descriptor::default()
        })
    }

    /// Removes the oldest records where there are too many.
    fn limit(&self) {
        let mut by_age: Vec<(i64, String)> = {
            let state = self.state();
            let loose = state.ended.values().filter(|record| !record.pinned);
            let aged = loose.map(|record| {
                (record.completed_at.unwrap_or_default().seconds, record.r#ref.clone())
            });
            aged.collect()
        };
        by_age.sort_by(|one, other| other.cmp(one));
        for (_, reference) in by_age.into_iter().skip(MOST_RECORDS) {
            self.delete(&reference);
        }
    }

    fn delete(&self, reference: &str) -> bool {
        let (record, is_shared) = {
            let mut state = self.state();
            let Some(record) = state.ended.remove(reference) else { return false };
            let is_shared = state.ended.values().any(|other| other.logs == record.logs);
            (record, is_shared)
        };
        let blob = record.logs.as_ref().and_then(|logs| self.blob_path(&logs.digest));
        let files = [Some(self.path(reference)), blob.filter(|_| !is_shared)];
        for file in files.into_iter().flatten() {
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::debug!(%error, file = %file.display(), "a record was not removed");
            }
        }
        self.say(BuildHistoryEventType::Deleted, record);
        true
    }

    fn blob_path(&self, digest: &str) -> Option<PathBuf> {
        let digest: Digest = digest.parse().ok()?;
        Some(self.folder.join("blobs").join(digest.hex()))
    }

    /// A blob of a record.
    pub(crate) fn blob(&self, digest: &Digest) -> Option<File> {
        File::open(self.folder.join("blobs").join(digest.hex())).ok()
    }

    /// Changes or removes a record (`Control.UpdateBuildHistory`).
    ///
    /// # Errors
    /// If there is no such record, or it cannot be written.
    pub(crate) fn update(&self, request: &UpdateBuildHistoryRequest) -> Result<(), Status> {
        let reference = &request.r#ref;
        let missing = || Status::not_found(format!("no record of `{}`", reference.escape_debug()));
        if request.delete {
            return if self.delete(reference) { Ok(()) } else { Err(missing()) };
        }
        // Records are complete when they are written.
        if request.finalize {
            return Ok(());
        }
        let record = {
            let mut state = self.state();
            let record = state.ended.get_mut(reference).ok_or_else(missing)?;
            if record.pinned == request.pinned {
                return Ok(());
            }
            record.pinned = request.pinned;
            record.generation += 1;
            record.clone()
        };
        self.write(&record).map_err(|error| Status::internal(error.to_string()))?;
        self.say(BuildHistoryEventType::Complete, record);
        Ok(())
    }

    /// The records, and then what happens to them (`Control.ListenBuildHistory`).
    pub(crate) fn listen(&self, request: &BuildHistoryRequest) -> Messages<BuildHistoryEvent> {
        let news = self.events.subscribe();
        let wanted = request.r#ref.clone();
        let fits = move |record: &BuildHistoryRecord| wanted.is_empty() || record.r#ref == wanted;
        let mut known: BTreeMap<(i64, String), BuildHistoryEvent> = BTreeMap::new();
        {
            let state = self.state();
            let key = |record: &BuildHistoryRecord| {
                (record.created_at.unwrap_or_default().seconds, record.r#ref.clone())
            };
            for record in state.active.values().filter(|record| fits(record)) {
                let started = event(BuildHistoryEventType::Started, record.clone());
                known.insert(key(record), started);
            }
            let ended = state.ended.values().filter(|record| !request.active_only && fits(record));
            for record in ended {
                let complete = event(BuildHistoryEventType::Complete, record.clone());
                known.insert(key(record), complete);
            }
        }
        let mut known: Vec<_> = known.into_values().collect();
        if let Ok(limit @ 1..) = usize::try_from(request.limit) {
            // The newest ones.
            known.drain(..known.len().saturating_sub(limit));
        }
        let known = futures_util::stream::iter(known.into_iter().map(Ok));
        if request.early_exit {
            return Box::pin(known);
        }
        let news = futures_util::stream::unfold(news, async |mut news| {
            loop {
                match news.recv().await {
                    Ok(event) => return Some((event, news)),
                    // A slow listener misses what happened meanwhile.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let news = news.filter(move |event| {
            let is_wanted = event.record.as_ref().is_some_and(&fits);
            futures_util::future::ready(is_wanted)
        });
        Box::pin(known.chain(news.map(Ok)))
    }

    /// The progress of a build that has ended; none if there is no record.
    ///
    /// # Errors
    /// If it cannot be read. Blocks.
    pub(crate) fn progress(&self, reference: &str) -> io::Result<Option<Vec<StatusResponse>>> {
        let logs = self.state().ended.get(reference).and_then(|record| record.logs.clone());
        let Some(path) = logs.and_then(|logs| self.blob_path(&logs.digest)) else {
            return Ok(None);
        };
        let bytes = std::fs::read(path)?;
        let mut rest = bytes.as_slice();
        let mut messages = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let message = behind.get(..length).filter(|_| length <= LARGEST);
            let message = message.ok_or(io::ErrorKind::InvalidData)?;
            messages.push(StatusResponse::decode(message).map_err(io::Error::other)?);
            rest = &behind[length..];
        }
        Ok(Some(messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Timestamp;
    use crate::proto::control::VertexLog;

    fn record(reference: &str, seconds: i64) -> BuildHistoryRecord {
        BuildHistoryRecord {
            r#ref: reference.into(),
            created_at: Some(Timestamp { seconds, nanos: 0 }),
            completed_at: Some(Timestamp { seconds, nanos: 0 }),
            ..BuildHistoryRecord::default()
        }
    }

    async fn references(history: &History, request: BuildHistoryRequest) -> Vec<String> {
        let request = BuildHistoryRequest { early_exit: true, ..request };
        let events: Vec<_> = history.listen(&request).collect().await;
        events.into_iter().map(|event| event.unwrap().record.unwrap().r#ref).collect()
    }

    #[tokio::test]
    async fn records_outlive_the_process_and_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let said = StatusResponse {
            logs: vec![VertexLog { msg: "hi".into(), ..VertexLog::default() }],
            ..StatusResponse::default()
        };
        let pin = |reference: &str| UpdateBuildHistoryRequest {
            r#ref: reference.into(),
            pinned: true,
            ..UpdateBuildHistoryRequest::default()
        };
        for number in 0..60 {
            let reference = format!("b{number}");
            history.begin(record(&reference, number));
            history.finish(record(&reference, number), std::slice::from_ref(&said));
            if number == 3 {
                history.update(&pin("b3")).unwrap();
            }
        }
        assert_eq!(history.update(&pin("x")).unwrap_err().code(), tonic::Code::NotFound);
        let history = History::open(folder.path()).unwrap();
        let all = references(&history, BuildHistoryRequest::default()).await;
        assert_eq!((all.len(), all[0].as_str(), all[1].as_str()), (51, "b3", "b10"));
        let one = BuildHistoryRequest { r#ref: "b59".into(), ..BuildHistoryRequest::default() };
        assert_eq!(references(&history, one).await, ["b59"]);
        assert_eq!(history.progress("b59").unwrap().unwrap(), [said]);
        let delete = UpdateBuildHistoryRequest { delete: true, ..pin("b59") };
        history.update(&delete).unwrap();
        assert!(history.progress("b59").unwrap().is_none());
        // Others have the same progress.
        assert!(history.progress("b58").unwrap().is_some());
    }
}
