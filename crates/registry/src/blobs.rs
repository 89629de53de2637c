//! Blobs from a registry.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use oci::{Descriptor, Repository};
use reqwest::StatusCode;
use reqwest::header::{HeaderValue, RANGE};

use crate::client::Client;
use crate::download::{Download, blob_request, starts_at};
use crate::endpoint::Endpoint;
use crate::retry::Retry;
use crate::{Error, Result};

impl Client {
    /// The bytes of a blob, as they come. A broken connection is taken up where it broke. The
    /// last bytes come only once all of them are known to be those of the digest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository has no such blob; others if the registry does not
    /// give it. The stream's errors are [`Error::Corrupt`] and [`Error::Size`] for bytes that are
    /// not the blob's ([`Error::is_garbled`]: asking once more goes past a mirror that sent them),
    /// [`Error::Reach`] if the connection breaks too often.
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
        let mut retry = Retry::new(self.settings().retry);
        loop {
            match self.blob_bytes_once(repository, descriptor).await {
                Err(error) if error.is_garbled() => {
                    if !retry.pause_after(&error).await {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    async fn blob_bytes_once(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Bytes> {
        let mut download = Download::new(self, repository, descriptor);
        download.open().await?;
        let stream = std::pin::pin!(download.stream());
        let add = async |mut whole: BytesMut, bytes: Bytes| {
            whole.extend_from_slice(&bytes);
            Ok(whole)
        };
        stream.try_fold(BytesMut::new(), add).await.map(BytesMut::freeze)
    }

    /// A range of a blob. Its digest cannot be verified from a part, so the caller must know what
    /// to expect.
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
        let (what, length) = (format!("part of blob {}", descriptor.digest), part.end - part.start);
        self.first(repository.host(), async |endpoint: Arc<Endpoint>| {
            let mut ask = blob_request(&endpoint, repository, descriptor.digest);
            ask.headers.extend(HeaderValue::from_str(&asked).ok().map(|range| (RANGE, range)));
            self.read(&ask, async |answer| {
                let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
                if !is_part || starts_at(&answer) != Some(part.start) {
                    return Err(ask.protocol("it sent another part than was asked for"));
                }
                let bytes = answer.bytes(length, &what).await?;
                match bytes.len() as u64 == length {
                    true => Ok(bytes),
                    false => Err(ask.protocol("it sent less than was asked for")),
                }
            })
            .await
        })
        .await
    }
}

/// A blob's bytes on their way, checked. Dropping it ends the transfer.
pub struct BlobStream {
    stream: BoxStream<'static, Result<Bytes>>,
    size: u64,
}

impl BlobStream {
    /// The stream's size if it does not fail.
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
