//! Bodies of requests, which may be sent more than once.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::Body;

use crate::Result;

/// A request's body.
pub(crate) enum Payload<'a> {
    Bytes(Bytes),
    Part(&'a dyn BlobPart),
}

impl Payload<'_> {
    pub(crate) const EMPTY: Self = Payload::Bytes(Bytes::new());

    pub(crate) fn len(&self) -> u64 {
        match self {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Part(part) => part.len(),
        }
    }

    pub(crate) fn moved(&self) -> u64 {
        match self {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Part(part) => part.moved(),
        }
    }
}

/// Part of a blob, to be sent perhaps more than once.
pub(crate) trait BlobPart: Send + Sync {
    /// The bytes, from the part's beginning.
    fn body(&self) -> BoxFuture<'_, Result<Body>>;
    /// The part's size in bytes.
    fn len(&self) -> u64;
    /// Bytes taken since `body` was last called.
    fn moved(&self) -> u64;
}
