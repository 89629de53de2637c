//! One blob on its way to a registry: opened, sent, taken up after a break, closed.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{BoxFuture, FutureExt as _};
use oci::{Descriptor, Digest, Repository};
use reqwest::header::{
    CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Body, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, Take};
use tokio_util::io::ReaderStream;

use crate::auth::Scopes;
use crate::blob_source::BlobSource;
use crate::client::{Client, Presence};
use crate::endpoint::Endpoint;
use crate::exchange::{ApiRequest, Target};
use crate::payload::{BlobPart, Payload};
use crate::response::Response;
use crate::retry::{Retry, asked_delay, is_passing};
use crate::traffic::Counters;
use crate::upload_session::UploadSession;
use crate::{Error, Result};

/// Sizes of pieces, in bytes, for registries that do not take a whole blob at once.
const PIECES: [u64; 2] = [16 << 20, 1 << 20];
/// Times that a registry may lose an upload, whose bytes are then all sent again.
const MOST_LOST: u32 = 3;
/// Bytes read from a source at once.
const READ: usize = 128 << 10;

/// A blob to be sent.
pub(crate) struct Upload<'a, S> {
    pub client: &'a Client,
    pub endpoint: &'a Endpoint,
    pub repository: &'a Repository,
    pub descriptor: &'a Descriptor,
    pub source: &'a S,
}

/// Why an attempt to send ended.
enum Fault {
    /// The connection broke, or the registry is unwell; it may say when to come back.
    Broken(Error, Option<Duration>),
    /// The session is gone.
    Lost(Error),
    /// The registry does not take so much at once.
    TooMuch(Error),
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if error.is_passing() { Fault::Broken(error, None) } else { Fault::Final(error) }
    }
}

impl<S: BlobSource> Upload<'_, S> {
    fn scopes(&self) -> Scopes {
        Scopes::push(self.endpoint.path(self.repository))
    }

    fn ask(&self, method: Method, target: Target) -> ApiRequest<'_> {
        ApiRequest {
            endpoint: self.endpoint,
            repository: self.repository,
            scopes: self.scopes(),
            method,
            target,
            headers: HeaderMap::new(),
            what: format!("upload of blob {} to `{}`", self.descriptor.digest, self.repository),
        }
    }

    fn uploads(&self, query: &str) -> Target {
        Target::Path(format!("{}/blobs/uploads/{query}", self.endpoint.path(self.repository)))
    }

    /// Opens an upload.
    ///
    /// # Errors
    /// If the registry does not.
    pub(crate) async fn open(&self) -> Result<UploadSession> {
        self.open_by(&self.opening()).await
    }

    /// The question that opens an upload.
    pub(crate) fn opening(&self) -> ApiRequest<'_> {
        self.ask(Method::POST, self.uploads(""))
    }

    /// Opens an upload by a question.
    ///
    /// # Errors
    /// If the registry does not.
    pub(crate) async fn open_by(&self, ask: &ApiRequest<'_>) -> Result<UploadSession> {
        let answer = self.client.call_well(ask, &Payload::EMPTY).await?;
        let session = self.session(ask, &answer)?;
        answer.drain().await;
        Ok(session)
    }

    /// Asks the registry to take the blob from another of its repositories. None if it did, else
    /// the upload that it opened instead.
    ///
    /// # Errors
    /// If it did neither.
    pub(crate) async fn mount(&self, from: &Repository) -> Result<Option<UploadSession>> {
        let query = format!("?mount={}&from={}", self.descriptor.digest, from.path());
        let mut ask = self.ask(Method::POST, self.uploads(&query));
        ask.scopes = self.scopes().and_pull(&self.endpoint.path(from));
        let answer = self.client.call_well(&ask, &Payload::EMPTY).await?;
        let session = match answer.status() {
            StatusCode::CREATED => None,
            _ => Some(self.session(&ask, &answer)?),
        };
        answer.drain().await;
        Ok(session)
    }

    fn session(&self, ask: &ApiRequest<'_>, answer: &Response) -> Result<UploadSession> {
        let location =
            answer.header(LOCATION).ok_or_else(|| ask.protocol("it has no `Location`"))?;
        let base = answer.inner.url();
        let mut url = base.join(location).map_err(|_| ask.protocol("its `Location` is wrong"))?;
        // A registry behind a proxy with TLS may not know that it is.
        if base.scheme() == "https" && url.scheme() == "http" && url.host() == base.host() {
            let port = base.port();
            let _ = url.set_scheme("https");
            let _ = url.set_port(port);
        }
        if base.scheme() == "https" && url.scheme() != "https" && !self.endpoint.insecure {
            return Err(ask.protocol("it wants the blob over plain HTTP"));
        }
        let least = HeaderName::from_static("oci-chunk-min-length");
        let least = answer.header(least).and_then(|length| length.parse().ok()).unwrap_or(0);
        Ok(UploadSession { url, least })
    }

    /// Sends the blob.
    ///
    /// # Errors
    /// [`Error::Source`] if it cannot be read, others if the registry does not take it.
    pub(crate) async fn run(&self, session: UploadSession) -> Result<()> {
        let mut session = Some(session);
        let mut offset = 0;
        let mut piece = u64::MAX;
        let mut smaller = PIECES.iter();
        let mut retry = Retry::new(self.client.settings().retry);
        let mut lost = 0;
        loop {
            let current = match session.take() {
                Some(session) => session,
                None => self.open().await?,
            };
            let (error, asked) = match self.send(current, offset, piece).await {
                Ok(()) => return Ok(()),
                Err((_, Fault::Final(error))) => return Err(error),
                Err((_, Fault::TooMuch(error))) => {
                    piece = *smaller.next().ok_or(error)?;
                    offset = 0;
                    continue;
                }
                Err((_, Fault::Lost(error))) => {
                    offset = 0;
                    lost += 1;
                    if lost == MOST_LOST {
                        return Err(error);
                    }
                    (error, None)
                }
                Err((current, Fault::Broken(error, asked))) => {
                    let reached = self.position(current).await;
                    let before = offset;
                    (session, offset) = reached.map_or((None, 0), |(found, at)| (Some(found), at));
                    if offset > before {
                        retry.progressed();
                    }
                    (error, asked)
                }
            };
            // The answer may have been lost, not the blob.
            if session.is_none() && self.is_there().await {
                return Ok(());
            }
            let goes_on = match asked {
                Some(_) => retry.pause(asked).await,
                None => retry.pause_after(&error).await,
            };
            if !goes_on {
                return Err(error);
            }
        }
    }

    async fn is_there(&self) -> bool {
        let (digest, scopes) = (self.descriptor.digest, self.scopes());
        let found = self.client.head_blob(self.endpoint, self.repository, digest, scopes).await;
        found.is_ok_and(|presence| presence != Presence::Absent)
    }

    /// The upload's progress, if the registry still knows it.
    async fn position(&self, session: UploadSession) -> Option<(UploadSession, u64)> {
        let ask = self.ask(Method::GET, Target::Url(session.url.clone()));
        let answer = self.client.call_well(&ask, &Payload::EMPTY).await.ok()?;
        let at = reached(&answer).unwrap_or(0);
        let next = self.session(&ask, &answer).unwrap_or(session);
        (at <= self.descriptor.size).then_some((next, at))
    }

    /// Sends what is missing from `offset` on: all with the closing PUT, or in pieces before it.
    async fn send(
        &self,
        mut session: UploadSession,
        mut offset: u64,
        piece: u64,
    ) -> Result<(), (UploadSession, Fault)> {
        let size = self.descriptor.size;
        let whole = offset == 0 && piece == u64::MAX;
        while !whole && offset < size {
            let length = piece.max(session.least).min(size - offset);
            match self.send_piece(&session, offset, length).await {
                Ok((next, reached)) => (session, offset) = (next, reached),
                Err(fault) => return Err((session, fault)),
            }
        }
        let closed = self.close(&session, if whole { size } else { 0 }).await;
        closed.map_err(|fault| (session, fault))
    }

    async fn send_piece(
        &self,
        session: &UploadSession,
        offset: u64,
        length: u64,
    ) -> Result<(UploadSession, u64), Fault> {
        let mut ask = self.ask(Method::PATCH, Target::Url(session.url.clone()));
        let range = format!("{offset}-{}", offset + length - 1);
        ask.headers.extend(HeaderValue::from_str(&range).ok().map(|range| (CONTENT_RANGE, range)));
        let answer = self.put(ask, offset, length).await?;
        let ask = self.ask(Method::PATCH, Target::Url(session.url.clone()));
        let next = self.session(&ask, &answer)?;
        let reached = reached(&answer).unwrap_or(offset + length);
        answer.drain().await;
        match reached > offset && reached <= offset + length {
            true => Ok((UploadSession { least: session.least, ..next }, reached)),
            false => Err(Fault::Broken(ask.protocol("it lost bytes of the upload"), None)),
        }
    }

    /// The PUT that ends an upload, with the first `length` bytes of the blob.
    async fn close(&self, session: &UploadSession, length: u64) -> Result<(), Fault> {
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        let answer = self.put(self.ask(Method::PUT, Target::Url(url)), 0, length).await?;
        answer.drain().await;
        Ok(())
    }

    async fn put(
        &self,
        mut ask: ApiRequest<'_>,
        offset: u64,
        length: u64,
    ) -> Result<Response, Fault> {
        let kind = HeaderValue::from_static("application/octet-stream");
        ask.headers.insert(CONTENT_TYPE, kind);
        let slice = Slice {
            source: self.source,
            digest: self.descriptor.digest,
            offset,
            length,
            progress: Arc::default(),
            counters: self.client.transport().counters().clone(),
        };
        let payload = if length == 0 { Payload::EMPTY } else { Payload::Part(&slice) };
        let answered = self.client.exchange(&ask, &payload).await;
        if let Some(source) = slice.progress.take_error() {
            let digest = self.descriptor.digest;
            return Err(Fault::Final(Error::Source { digest, source }));
        }
        let answer = answered?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let asked = asked_delay(answer.headers());
        let error = self.client.refusal(&ask, answer).await;
        Err(match status {
            StatusCode::NOT_FOUND => Fault::Lost(error),
            StatusCode::BAD_REQUEST if lost_bytes(&error) => Fault::Lost(error),
            StatusCode::RANGE_NOT_SATISFIABLE => Fault::Broken(error, asked),
            StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::NOT_IMPLEMENTED
                if length > 0 =>
            {
                Fault::TooMuch(error)
            }
            status if is_passing(status) => Fault::Broken(error, asked),
            _ => Fault::Final(error),
        })
    }
}

/// True if a registry reports other bytes of an upload than were sent (distribution-spec, error
/// codes): an earlier attempt left some, or some were lost.
fn lost_bytes(error: &Error) -> bool {
    let Error::Refused { message, .. } = error else { return false };
    ["DIGEST_INVALID", "SIZE_INVALID", "BLOB_UPLOAD_INVALID"]
        .iter()
        .any(|code| message.contains(code))
}

/// Bytes that the registry has: `Range: 0-<last>`. An empty upload has `0-0`, or no header.
fn reached(answer: &Response) -> Option<u64> {
    let range = answer.header(RANGE)?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Bytes of a source from `offset` on.
struct Slice<'a, S> {
    source: &'a S,
    digest: Digest,
    offset: u64,
    length: u64,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    /// Why the source could not be read: to the HTTP library it is one broken request of many.
    error: Mutex<Option<io::Error>>,
}

impl Progress {
    fn fail(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        kind.into()
    }

    fn take_error(&self) -> Option<io::Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S: BlobSource> BlobPart for Slice<'_, S> {
    fn body(&self) -> BoxFuture<'_, Result<Body>> {
        async {
            self.progress.sent.store(0, Ordering::Relaxed);
            let reader = self.source.open(self.offset).await;
            let reader = reader.map_err(|source| Error::Source { digest: self.digest, source })?;
            let reader: Pin<Box<dyn AsyncRead + Send>> = Box::pin(reader);
            Ok(Body::wrap_stream(Counted {
                chunks: ReaderStream::with_capacity(reader.take(self.length), READ),
                left: self.length,
                progress: self.progress.clone(),
                counters: self.counters.clone(),
            }))
        }
        .boxed()
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn moved(&self) -> u64 {
        self.progress.sent.load(Ordering::Relaxed)
    }
}

/// Counts what is taken, and fails if the source ends early.
struct Counted {
    chunks: ReaderStream<Take<Pin<Box<dyn AsyncRead + Send>>>>,
    left: u64,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
}

impl Stream for Counted {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(Pin::new(&mut self.chunks).poll_next(context));
        Poll::Ready(match chunk {
            Some(Ok(bytes)) => {
                let count = bytes.len() as u64;
                self.left -= count;
                self.progress.sent.fetch_add(count, Ordering::Relaxed);
                self.counters.bytes_up.fetch_add(count, Ordering::Relaxed);
                Some(Ok(bytes))
            }
            Some(Err(error)) => Some(Err(self.progress.fail(error))),
            None if self.left > 0 => {
                self.left = 0;
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early");
                Some(Err(self.progress.fail(error)))
            }
            None => None,
        })
    }
}
