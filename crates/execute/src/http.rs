//! `ADD https://…`: a file of a web server as a tree of one file.
//!
//! A download is kept as a blob. What its server said of it is remembered, so that an unchanged
//! file costs one request, and a pinned one none.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use graph::{HttpSource, StepId, TaskEvent, TransferProgress, chain_text};
use jiff::fmt::strtime;
use layer::{LayerIndex, Time};
use oci::{Digest, WebAddress, shown_text};
use registry::{Secret, WebRequest, WebResponse};
use serde::{Deserialize, Serialize};
use solve::Tasks;
use store::{BlobWriter, Store, Turn, TurnEnd};
use transfer::{SharedWork, Waited, blocking};
use tree::Tree;
use tree::{Content, Node, NodeKind};

use crate::Error;
use crate::source_fetcher::SourceFetcher;

/// Kind of the store's memo.
const MEMO: &str = "http";
/// Chunks on the way from the network to the disk.
const CHUNKS: usize = 16;
/// Attempts at a download that breaks off or does not match.
const MOST_ATTEMPTS: u32 = 3;
/// The interval of progress events.
const TELL: Duration = Duration::from_millis(200);
/// `http.TimeFormat` of Go.
const TIME_FORMAT: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// A file that is here.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) file: Arc<File>,
    /// Seconds since 1970.
    pub(crate) modified: Option<i64>,
}

/// A server's headers for a downloaded file.
#[derive(Serialize, Deserialize)]
struct KnownResponse {
    digest: Digest,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    modified: Option<i64>,
}

impl Download {
    /// The digest of its record.
    pub(crate) fn record(&self, source: &HttpSource) -> Digest {
        let modified = self.modified.and_then(|seconds| {
            let time = jiff::Timestamp::from_second(seconds).ok()?;
            Some(time.strftime(TIME_FORMAT).to_string())
        });
        solve::http_record(source, self.digest, modified.as_deref())
    }

    /// The file as a tree, as BuildKit makes it: of root, for root only.
    pub(crate) fn into_tree(self, source: &HttpSource) -> Result<Tree, Error> {
        let mtime = Time { seconds: self.modified.unwrap_or_default(), nanos: 0 };
        let mut node = Node::directory(0o600, mtime);
        let content = Content::Slice { file: self.file, offset: 0 };
        node.kind = NodeKind::File { size: self.size, content, linked: false };
        let mut tree = tree_of_own()?;
        tree.insert(solve::safe_file_name(&source.filename).as_bytes(), node)?;
        Ok(tree)
    }

    fn of(known: &KnownResponse, file: Arc<File>) -> Result<Self, Error> {
        let metadata = file.metadata().map_err(|error| Error::Download {
            url: known.digest.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self { digest: known.digest, size: metadata.len(), file, modified: known.modified })
    }
}

impl SourceFetcher<'_> {
    /// Downloads a file, or finds it unchanged in the store.
    pub(crate) async fn download(
        &self,
        id: StepId,
        source: &HttpSource,
    ) -> Result<Download, Error> {
        if let Some(known) = self.pinned_download(source).await? {
            return Ok(known);
        }
        let authorization = self.authorization(&source.url).await?;
        // A caller's secret can give another file than the address alone.
        let turn = match &authorization {
            Some(_) => None,
            None => self.download_turn(id, source).await,
        };
        let downloaded = self.download_as(id, source, authorization.as_ref()).await;
        if let Some(turn) = turn {
            turn.end(if downloaded.is_ok() { TurnEnd::Made } else { TurnEnd::Failed });
        }
        downloaded
    }

    /// A file that is known by its digest, if it is here.
    async fn pinned_download(&self, source: &HttpSource) -> Result<Option<Download>, Error> {
        let Some(wanted) = source.checksum else { return Ok(None) };
        let known = self.known_download(Digest::of(&source.url)).await?;
        let known = known.filter(|(known, _)| known.digest == wanted);
        known.map(|(known, file)| Download::of(&known, file)).transpose()
    }

    /// Waits while another build downloads the file. Afterwards the server is asked whether it has
    /// changed.
    async fn download_turn(&self, id: StepId, source: &HttpSource) -> Option<Turn> {
        let work = SharedWork {
            name: format!("download {}", source.url),
            shown: "that downloads this file".into(),
            task: self.tasks.task(id),
        };
        match self.transfer.turn(&work, || ()).await {
            Waited::Own(turn) => Some(turn),
            Waited::Over(_) | Waited::Alone => None,
        }
    }

    async fn download_as(
        &self,
        id: StepId,
        source: &HttpSource,
        authorization: Option<&Secret>,
    ) -> Result<Download, Error> {
        let mut attempt = 1;
        loop {
            match self.download_once(id, source, authorization).await {
                Err(Attempt::Again(_)) if attempt < MOST_ATTEMPTS => attempt += 1,
                Err(Attempt::Again(error) | Attempt::Failed(error)) => return Err(error),
                Ok(download) => return Ok(download),
            }
        }
    }

    async fn download_once(
        &self,
        id: StepId,
        source: &HttpSource,
        authorization: Option<&Secret>,
    ) -> Result<Download, Attempt> {
        if let Some(known) = self.pinned_download(source).await? {
            return Ok(known);
        }
        let key = Digest::of(&source.url);
        // Of a file that is pinned to another digest, the server is not asked whether it changed.
        let known = match source.checksum {
            Some(_) => None,
            None => self.known_download(key).await?,
        };
        let failed = |reason: String| failed(source, reason);
        let etag = known.as_ref().and_then(|(known, _)| known.etag.as_deref());
        let request =
            WebRequest { url: &source.url, authorization: authorization.cloned(), known: etag };
        let answer = self
            .transfer
            .client()
            .web(&request)
            .await
            .map_err(|error| failed(chain_text(&error)))?;
        let same = answer.etag().is_none_or(|tag| Some(tag) == etag);
        match (answer.status(), known) {
            (304, Some((known, file))) if same => return Ok(Download::of(&known, file)?),
            (200..=299, Some((known, file))) if answer.etag().is_some() && same => {
                return Ok(Download::of(&known, file)?);
            }
            (200..=299, _) => {}
            (status, _) => return Err(failed(format!("invalid response status {status}")).into()),
        }
        let etag = answer.etag().map(str::to_owned);
        let modified = answer.last_modified().and_then(seconds_of);
        let (digest, _) = self.receive(id, source, answer).await?;
        if let Some(expected) = source.checksum.filter(|expected| *expected != digest) {
            let reason = format!("digest mismatch: {digest} (expected: {expected})");
            return Err(Attempt::Again(failed(reason)));
        }
        let store = self.transfer.store().clone();
        let download = blocking(move || {
            let known = KnownResponse { digest, etag, modified };
            let file = Arc::new(store.open_blob(&digest)?);
            if let Ok(value) = serde_json::to_vec(&known) {
                store.db().memo_put(MEMO, &[(key.as_bytes(), &value)])?;
            }
            Download::of(&known, file)
        });
        Ok(download.await?)
    }

    /// The earlier response for an address, if its file is still here.
    async fn known_download(
        &self,
        key: Digest,
    ) -> Result<Option<(KnownResponse, Arc<File>)>, Error> {
        let store = self.transfer.store().clone();
        let look = move || {
            let value = store.db().memo_get(MEMO, &[key.as_bytes()])?.pop().flatten();
            let known: Option<KnownResponse> =
                value.and_then(|value| serde_json::from_slice(&value).ok());
            let Some(known) = known else { return Ok(None) };
            match store.has_blob(&known.digest)? {
                true => Ok(Some((Arc::new(store.open_blob(&known.digest)?), known))),
                false => Ok(None),
            }
        };
        let found: Result<_, store::Error> = blocking(look).await;
        Ok(found?.map(|(file, known)| (known, file)))
    }

    /// Writes an answer's body to the store.
    async fn receive(
        &self,
        id: StepId,
        source: &HttpSource,
        mut answer: WebResponse,
    ) -> Result<(Digest, u64), Attempt> {
        let failed = |reason: String| failed(source, reason);
        let store = self.transfer.store();
        let mut sink =
            Sink::new(store, self.download_limit, answer.is_gzip()).map_err(Error::from)?;
        let (sender, mut chunks) = tokio::sync::mpsc::channel::<Option<Bytes>>(CHUNKS);
        let write = blocking(move || {
            while let Some(chunk) = chunks.blocking_recv() {
                match chunk {
                    Some(bytes) => sink.write_all(&bytes)?,
                    None => return sink.finish().map(Some),
                }
            }
            // An incomplete file is not kept.
            Ok(None)
        });
        let read = async move {
            let mut told = Told::new(self.tasks, id, source, answer.length());
            loop {
                let chunk = answer.chunk().await;
                let chunk = chunk.map_err(|error| Attempt::Again(failed(chain_text(&error))))?;
                let end = chunk.is_none();
                told.more(chunk.as_ref().map_or(0, Bytes::len));
                // The writer is gone only with an error, which is told below.
                if sender.send(chunk).await.is_err() || end {
                    break;
                }
            }
            told.done();
            // Dropped only now: the writer waits for the end.
            drop(sender);
            Ok::<(), Attempt>(())
        };
        let (written, read) = tokio::join!(write, read);
        read?;
        match written {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(failed("it did not come whole".into()).into()),
            Err(SinkError::Store(error)) => Err(Error::from(error).into()),
            Err(SinkError::Io(error)) => Err(failed(error.to_string()).into()),
        }
    }

    /// The caller's `Authorization` header for a host.
    async fn authorization(&self, url: &str) -> Result<Option<Secret>, Error> {
        let Ok(address) = url.parse::<WebAddress>() else { return Ok(None) };
        let host = address.host();
        // A token takes precedence over a whole header, as in BuildKit.
        for (name, scheme) in [
            (format!("HTTP_AUTH_TOKEN_{host}"), "Bearer "),
            (format!("HTTP_AUTH_HEADER_{host}"), ""),
        ] {
            let value = self.credentials.secret(&name).await?;
            if let Some(text) = value.as_deref().and_then(|value| std::str::from_utf8(value).ok()) {
                let text = text.trim_end_matches(['\r', '\n']);
                return Ok(Some(Secret::new(format!("{scheme}{text}"))));
            }
        }
        Ok(None)
    }
}

fn failed(source: &HttpSource, reason: String) -> Error {
    Error::Download { url: shown_text(&source.url), reason }
}

/// Why a download did not come.
enum Attempt {
    /// It broke off, or was not what it should be: it may come the next time.
    Again(Error),
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// An empty tree that has a root of its own, as a mounted snapshot has.
pub(crate) fn tree_of_own() -> Result<Tree, Error> {
    let mut tree = Tree::new();
    tree.apply_layer(Digest::of(""), &LayerIndex::from_entries(Vec::new()))?;
    Ok(tree)
}

/// A time as HTTP writes it, in any of the three ways that it ever had.
fn seconds_of(text: &str) -> Option<i64> {
    const FORMATS: [&str; 3] = [TIME_FORMAT, "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    FORMATS.iter().find_map(|format| {
        let time = strtime::parse(format, text.trim()).ok()?.to_datetime().ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
    })
}

/// The destination of a download.
enum Sink {
    Plain(Box<Limited>),
    Gzip(Box<MultiGzDecoder<Limited>>),
}

struct Limited {
    out: BlobWriter,
    left: u64,
    limit: u64,
}

enum SinkError {
    Io(io::Error),
    Store(store::Error),
}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Sink {
    fn new(store: &Store, limit: u64, gzip: bool) -> Result<Self, store::Error> {
        let out = Limited { out: store.blob_writer()?, left: limit, limit };
        Ok(match gzip {
            true => Self::Gzip(Box::new(MultiGzDecoder::new(out))),
            false => Self::Plain(Box::new(out)),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.write_all(bytes),
            Self::Gzip(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> Result<(Digest, u64), SinkError> {
        let out = match self {
            Self::Plain(out) => *out,
            Self::Gzip(out) => out.finish()?,
        };
        out.out.commit(None).map_err(SinkError::Store)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        let over = || io::Error::other(format!("it is larger than {} bytes", self.limit));
        self.left = self.left.checked_sub(written as u64).ok_or_else(over)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Tells how far a download is.
struct Told<'a> {
    tasks: &'a Tasks,
    id: StepId,
    transfer: TransferProgress,
    last: Instant,
}

impl<'a> Told<'a> {
    fn new(tasks: &'a Tasks, id: StepId, source: &HttpSource, total: Option<u64>) -> Self {
        let transfer = TransferProgress {
            name: format!("downloading {}", source.filename).into(),
            current: 0,
            total: total.unwrap_or(0),
            started: SystemTime::now(),
            completed: None,
        };
        Self { tasks, id, transfer, last: Instant::now() }
    }

    fn more(&mut self, bytes: usize) {
        self.transfer.current += bytes as u64;
        if self.last.elapsed() >= TELL {
            self.last = Instant::now();
            self.tell();
        }
    }

    fn done(&mut self) {
        self.transfer.completed = Some(SystemTime::now());
        self.tell();
    }

    fn tell(&self) {
        if let Some(task) = self.tasks.task(self.id) {
            self.tasks.events.send(task, TaskEvent::Transfer(self.transfer.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(seconds_of(text), Some(784_111_777), "{text}");
        }
        assert_eq!(seconds_of("yesterday"), None);
    }
}
