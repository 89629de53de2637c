//! Places of blobs that are neither registries nor folders.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use oci::Descriptor;

/// The reason why a remote failed.
pub type RemoteError = Box<dyn Error + Send + Sync>;

/// The bytes of a blob, as a remote delivers them.
pub type RemoteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A place that finds blobs by digest: an object store, GitHub's cache. Its errors and its name
/// must contain no secret.
pub trait Remote: Send + Sync {
    /// Its name in a [`layer::Place::Remote`].
    fn name(&self) -> &str;

    /// Begins to read a blob. The bytes are checked by the caller.
    fn open<'a>(&'a self, blob: &'a Descriptor)
    -> BoxFuture<'a, Result<RemoteStream, RemoteError>>;

    /// Reads a part of a blob, if the remote supports it. The bytes are checked by the caller.
    fn part<'a>(
        &'a self,
        _blob: &'a Descriptor,
        _range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, RemoteError>> {
        Box::pin(async { Err("it gives no parts of blobs".into()) })
    }

    /// True if it has a blob of the right size, which will remain for some time.
    fn has<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, RemoteError>>;

    /// Uploads a blob from a file.
    fn put<'a>(
        &'a self,
        blob: &'a Descriptor,
        file: &'a Path,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;
}
