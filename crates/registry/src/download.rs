//! A blob on its way here: opened, taken up after a break, checked at its end.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use oci::{Descriptor, Digest, Hasher, Repository};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use crate::auth::Scopes;
use crate::client::{Client, Presence};
use crate::endpoint::Endpoint;
use crate::exchange::{ApiRequest, Target};
use crate::response::Response;
use crate::retry::Retry;
use crate::{Error, Result};

/// A blob of which `offset` bytes came so far.
pub(crate) struct Download {
    client: Client,
    repository: Repository,
    descriptor: Descriptor,
    /// True if mirrors are tried.
    mirrors: bool,
    answer: Option<Response>,
    /// The endpoints that sent bytes so far; the last one is the current one.
    senders: Vec<Arc<Endpoint>>,
    /// Bytes that come a second time, because the server does not know ranges.
    skip: u64,
    offset: u64,
    hasher: Hasher,
    retry: Retry,
}

impl Download {
    pub(crate) fn new(client: &Client, repository: &Repository, descriptor: &Descriptor) -> Self {
        Self {
            client: client.clone(),
            repository: repository.clone(),
            descriptor: descriptor.clone(),
            mirrors: true,
            answer: None,
            senders: Vec::new(),
            skip: 0,
            offset: 0,
            hasher: Hasher::new(),
            retry: Retry::new(client.settings().retry),
        }
    }

    fn size_error(&self, host: &str, actual: u64) -> Error {
        let Descriptor { digest, size: expected, .. } = self.descriptor;
        Error::Size { host: host.into(), digest, expected, actual }
    }

    /// Asks for what is missing.
    ///
    /// # Errors
    /// If no place gives it.
    pub(crate) async fn open(&mut self) -> Result<()> {
        let client = self.client.clone();
        let this = &*self;
        let ask = async |endpoint: Arc<Endpoint>| {
            let answer = this.ask(&endpoint).await?;
            Ok((endpoint, answer))
        };
        let origin = client.origin(this.repository.host())?;
        let (endpoint, answer) = match this.mirrors {
            true => client.first(this.repository.host(), ask).await?,
            false => ask(origin.clone()).await?,
        };
        self.skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT => 0,
            _ => self.offset,
        };
        if answer.own && answer.host == origin.authority {
            let presence = client.presence(&self.repository, self.descriptor.digest);
            *presence.lock().await = Some(Presence::Present(Some(self.descriptor.size)));
        }
        self.answer = Some(answer);
        self.senders.push(endpoint);
        Ok(())
    }

    async fn ask(&self, endpoint: &Endpoint) -> Result<Response> {
        let mut ask = blob_request(endpoint, &self.repository, self.descriptor.digest);
        let offset = self.offset;
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            ask.headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        self.client
            .read(&ask, async |answer| {
                let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
                if is_part && starts_at(&answer) != Some(offset) {
                    return Err(ask.protocol("it sent another part than was asked for"));
                }
                let from = if is_part { offset } else { 0 };
                let length = answer.header(CONTENT_LENGTH);
                let length = length.and_then(|length| length.parse::<u64>().ok());
                match length.map(|length| from.saturating_add(length)) {
                    Some(size) if size != self.descriptor.size => {
                        Err(self.size_error(&answer.host, size))
                    }
                    _ => Ok(answer),
                }
            })
            .await
    }

    /// The bytes as they come.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Bytes>> + Send {
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
            if self.senders.last().is_some_and(|sender| sender.mirror_of.is_some()) {
                // There is another place to ask.
                self.mirrors = false;
                continue;
            }
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
            let host = self.blame(host);
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
        let actual: Digest = std::mem::take(&mut self.hasher).finish();
        let expected = self.descriptor.digest;
        if actual != expected {
            return Err(Error::Corrupt { host: self.blame(answer.host), expected, actual });
        }
        match answer.chunk().await {
            Ok(Some(more)) if !more.is_empty() => {
                let host = self.blame(answer.host);
                Err(self.size_error(&host, self.offset + more.len() as u64))
            }
            // All bytes have arrived and match, so a broken connection no longer matters.
            _ => Ok(()),
        }
    }

    /// Leaves the mirrors that sent some of the bytes, since these are wrong. Returns who may have
    /// done it: a mirror, else who sent the last of them.
    fn blame(&self, last: String) -> String {
        self.senders.iter().for_each(|sender| sender.leave());
        let mirror = self.senders.iter().find(|sender| sender.mirror_of.is_some());
        mirror.map_or(last, |mirror| mirror.authority.clone())
    }
}

/// The request for a blob.
pub(crate) fn blob_request<'a>(
    endpoint: &'a Endpoint,
    repository: &'a Repository,
    digest: Digest,
) -> ApiRequest<'a> {
    let path = endpoint.path(repository);
    ApiRequest {
        endpoint,
        repository,
        method: Method::GET,
        target: Target::Path(format!("{path}/blobs/{digest}")),
        scopes: Scopes::pull(path),
        headers: HeaderMap::new(),
        what: format!("blob {digest} of `{repository}`"),
    }
}

/// The first byte of a partial response: 5 in `bytes 5-9/10` (RFC 9110, 14.4).
pub(crate) fn starts_at(answer: &Response) -> Option<u64> {
    let range = answer.header(CONTENT_RANGE)?.trim().strip_prefix("bytes")?.trim_start();
    range.split_once('-')?.0.parse().ok()
}
