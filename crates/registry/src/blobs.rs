//! Blobs from a registry.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use oci::{Descriptor, Digest, Hasher, Repository};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use crate::answer::Answer;
use crate::auth::Scopes;
use crate::client::{Client, Presence};
use crate::exchange::{Ask, Payload, Target};
use crate::hosts::Endpoint;
use crate::retry::Retry;
use crate::{Error, Result};

impl Client {
    /// The bytes of a blob, as they come. A broken connection is taken up where it broke. The
    /// last bytes come only once all of them are known to be those of the digest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository has no such blob; others if the registry does not
    /// give it. The stream's errors are [`Error::Corrupt`] and [`Error::Size`] for bytes that are
    /// not the blob's, [`Error::Reach`] if the connection breaks too often.
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<BlobStream> {
        let mut download = Download::new(self, repository, descriptor);
        download.open().await?;
        let size = descriptor.size;
        Ok(BlobStream { stream: download.stream().boxed(), size })
    }

    /// The bytes of a small blob, such as a config.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if its descriptor says more than `max` bytes; else as
    /// [`Client::blob`] and its stream.
    pub async fn blob_bytes(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        max: u64,
    ) -> Result<Bytes> {
        if descriptor.size > max {
            let what = format!("blob {}", descriptor.digest);
            return Err(Error::TooLarge { what, limit: max });
        }
        let read = async |mut download: Download| {
            download.open().await?;
            let whole = BytesMut::new();
            let stream = std::pin::pin!(download.stream());
            let add = async |mut whole: BytesMut, bytes: Bytes| {
                whole.extend_from_slice(&bytes);
                Ok(whole)
            };
            stream.try_fold(whole, add).await.map(BytesMut::freeze)
        };
        let mut download = Download::new(self, repository, descriptor);
        match read(download.clone_start()).await {
            // A mirror's bytes may be wrong; the registry's own may not.
            Err(Error::Corrupt { host, .. } | Error::Size { host, .. })
                if host != self.origin(repository.host())?.authority =>
            {
                download.mirrors = false;
                read(download).await
            }
            done => done,
        }
    }

    /// A part of a blob, which its digest does not prove: whoever asks has to know what should come.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the registry gives no parts; else as [`Client::blob`].
    pub async fn blob_part(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        part: Range<u64>,
    ) -> Result<Bytes> {
        let asked = format!("bytes={}-{}", part.start, part.end.saturating_sub(1));
        let answer = self
            .first(repository.host(), async |endpoint: Arc<Endpoint>| {
                let mut ask = blob_ask(&endpoint, repository, descriptor.digest);
                ask.headers.extend(HeaderValue::from_str(&asked).ok().map(|range| (RANGE, range)));
                let answer = self.call_well(&ask, &Payload::EMPTY).await?;
                let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
                if !is_part || starts_at(&answer) != Some(part.start) {
                    return Err(ask.protocol("it sent another part than was asked for"));
                }
                Ok(answer)
            })
            .await?;
        answer.bytes(part.end - part.start, &format!("part of blob {}", descriptor.digest)).await
    }

    async fn blob_at(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        digest: Digest,
        offset: u64,
    ) -> Result<Answer> {
        let mut ask = blob_ask(endpoint, repository, digest);
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            ask.headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let answer = self.call_well(&ask, &Payload::EMPTY).await?;
        if answer.status() == StatusCode::PARTIAL_CONTENT && starts_at(&answer) != Some(offset) {
            return Err(ask.protocol("it sent another part than was asked for"));
        }
        Ok(answer)
    }
}

/// Asks for a blob.
fn blob_ask<'a>(endpoint: &'a Endpoint, repository: &'a Repository, digest: Digest) -> Ask<'a> {
    let path = endpoint.path(repository);
    Ask {
        endpoint,
        repository,
        method: Method::GET,
        target: Target::Path(format!("{path}/blobs/{digest}")),
        scopes: Scopes::pull(path),
        headers: HeaderMap::new(),
        what: format!("blob {digest} of `{repository}`"),
    }
}

/// Where a partial answer begins: `bytes 5-9/10` (RFC 9110, 14.4).
fn starts_at(answer: &Answer) -> Option<u64> {
    let range = answer.header(CONTENT_RANGE)?.trim().strip_prefix("bytes")?.trim_start();
    range.split_once('-')?.0.parse().ok()
}

/// A blob's bytes on their way, checked. Dropping it ends the transfer.
pub struct BlobStream {
    stream: BoxStream<'static, Result<Bytes>>,
    size: u64,
}

impl BlobStream {
    /// How many bytes the stream gives if it does not fail.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(context)
    }
}

/// A blob of which `offset` bytes came so far.
struct Download {
    client: Client,
    repository: Repository,
    descriptor: Descriptor,
    mirrors: bool,
    answer: Option<Answer>,
    /// Bytes that come a second time, because the server does not know ranges.
    skip: u64,
    offset: u64,
    hasher: Hasher,
    retry: Retry,
}

impl Download {
    fn new(client: &Client, repository: &Repository, descriptor: &Descriptor) -> Self {
        Self {
            client: client.clone(),
            repository: repository.clone(),
            descriptor: descriptor.clone(),
            mirrors: true,
            answer: None,
            skip: 0,
            offset: 0,
            hasher: Hasher::new(),
            retry: Retry::new(client.settings().retry),
        }
    }

    fn clone_start(&self) -> Self {
        Self::new(&self.client, &self.repository, &self.descriptor)
    }

    fn size_error(&self, host: &str, actual: u64) -> Error {
        let Descriptor { digest, size: expected, .. } = self.descriptor;
        Error::Size { host: host.into(), digest, expected, actual }
    }

    /// Asks for what is missing.
    async fn open(&mut self) -> Result<()> {
        let (client, repository) = (self.client.clone(), self.repository.clone());
        let (digest, offset) = (self.descriptor.digest, self.offset);
        let ask = async |endpoint: Arc<Endpoint>| {
            client.blob_at(&endpoint, &repository, digest, offset).await
        };
        let origin = client.origin(repository.host())?;
        let answer = match self.mirrors {
            true => client.first(repository.host(), ask).await?,
            false => ask(origin.clone()).await?,
        };
        self.skip = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
        let length = answer.header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if let Some(length) = length
            && offset - self.skip + length != self.descriptor.size
        {
            return Err(self.size_error(&answer.host, offset - self.skip + length));
        }
        if answer.own && answer.host == origin.authority {
            let presence = client.presence(&repository, digest);
            *presence.lock().await = Some(Presence::Present(Some(self.descriptor.size)));
        }
        self.answer = Some(answer);
        Ok(())
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes>> + Send {
        stream::try_unfold(Some(self), async |state| {
            let Some(mut download) = state else { return Ok(None) };
            let bytes = download.next().await?;
            let done = download.offset == download.descriptor.size;
            Ok(Some((bytes, (!done).then_some(download))))
        })
    }

    /// The next bytes that are new. When they are the last, the whole has been checked.
    async fn next(&mut self) -> Result<Bytes> {
        loop {
            if self.answer.is_none() {
                self.open().await?;
            }
            let Some(answer) = &mut self.answer else { continue };
            if self.offset == self.descriptor.size {
                self.finish().await?;
                return Ok(Bytes::new());
            }
            let broken = match answer.chunk().await {
                Ok(Some(mut bytes)) => {
                    let known = self.skip.min(bytes.len() as u64);
                    self.skip -= known;
                    // At most the chunk's length.
                    bytes = bytes.split_off(known as usize);
                    if bytes.is_empty() {
                        continue;
                    }
                    self.take(&bytes).await?;
                    return Ok(bytes);
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            let host = answer.host.clone();
            self.answer = None;
            let goes_on = match &broken {
                Some(error) => self.retry.pause_after(error).await,
                None => self.retry.pause(None).await,
            };
            if !goes_on {
                return Err(broken.unwrap_or_else(|| self.size_error(&host, self.offset)));
            }
        }
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let reached = self.offset + bytes.len() as u64;
        if reached > self.descriptor.size {
            let host = self.answer.take().map(|answer| answer.host).unwrap_or_default();
            return Err(self.size_error(&host, reached));
        }
        self.hasher.update(bytes);
        self.offset = reached;
        self.retry.progressed();
        if reached == self.descriptor.size { self.finish().await } else { Ok(()) }
    }

    /// All bytes came: are they the right ones, and is nothing behind them?
    async fn finish(&mut self) -> Result<()> {
        let Some(mut answer) = self.answer.take() else { return Ok(()) };
        let actual = std::mem::take(&mut self.hasher).finish();
        let expected = self.descriptor.digest;
        if actual != expected {
            return Err(Error::Corrupt { host: answer.host, expected, actual });
        }
        match answer.chunk().await {
            Ok(Some(more)) if !more.is_empty() => {
                Err(self.size_error(&answer.host, self.offset + more.len() as u64))
            }
            // What breaks now breaks too late to matter.
            _ => Ok(()),
        }
    }
}
