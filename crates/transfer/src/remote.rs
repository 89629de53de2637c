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

/// Why a remote does not do what it was asked to do.
pub type RemoteError = Box<dyn Error + Send + Sync>;

/// A blob's bytes as they come from a remote.
pub type RemoteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A place of blobs that are found by their digests: an object store, GitHub's cache. Its errors
/// and its name say nothing that is secret.
pub trait Remote: Send + Sync {
    /// What [`store::Place::Remote`] calls it.
    fn name(&self) -> &str;

    /// Begins to read a blob. Nothing is checked here: whoever reads does.
    fn open<'a>(&'a self, blob: &'a Descriptor)
    -> BoxFuture<'a, Result<RemoteStream, RemoteError>>;

    /// Reads a part of a blob, where it can. As in [`Remote::open`], nothing is checked.
    fn part<'a>(
        &'a self,
        _blob: &'a Descriptor,
        _range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, RemoteError>> {
        Box::pin(async { Err("it gives no parts of blobs".into()) })
    }

    /// Whether it has a blob, of the right size; then it will have it for a while.
    fn has<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, RemoteError>>;

    /// Takes a blob from a file.
    fn put<'a>(
        &'a self,
        blob: &'a Descriptor,
        file: &'a Path,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;
}
