//! The storage of a sidecar.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use layer::Place;
use oci::{Descriptor, Digest};

use crate::Error;

/// Storage of manifests, one of them under a tag, and of blobs by digest.
pub trait SidecarStore: Send + Sync {
    /// The name in messages.
    fn name(&self) -> String;

    /// The manifest under the tag, of at most 4 MiB.
    fn read(&self) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;

    /// A manifest by its digest, of at most 4 MiB; `None` if there is no such manifest.
    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;

    /// Writes a manifest and moves the tag to it atomically.
    fn write(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), Error>>;

    /// A blob of at most `max` bytes, checked against its digest.
    fn blob<'a>(&'a self, blob: &'a Descriptor, max: u64) -> BoxFuture<'a, Result<Bytes, Error>>;

    /// Writes a blob, unless it is there.
    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        content: BlobContent,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// The place of layers among the blobs.
    fn place(&self) -> Option<Place>;
}

/// The bytes of a blob.
#[derive(Clone, Debug)]
pub enum BlobContent {
    /// In memory.
    Bytes(Bytes),
    /// A file whose digest was checked when it was written.
    File {
        /// The file.
        path: PathBuf,
        /// Digest of its bytes.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

impl BlobContent {
    /// Digest and size.
    pub fn digest(&self) -> (Digest, u64) {
        match self {
            Self::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64),
            Self::File { digest, size, .. } => (*digest, *size),
        }
    }
}

impl registry::BlobSource for BlobContent {
    type Reader = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

    async fn open(&self, offset: u64) -> io::Result<Self::Reader> {
        Ok(match self {
            Self::Bytes(bytes) => {
                let mut reader = io::Cursor::new(bytes.clone());
                reader.set_position(offset);
                Box::new(reader)
            }
            Self::File { path, .. } => {
                use tokio::io::AsyncSeekExt as _;
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(io::SeekFrom::Start(offset)).await?;
                Box::new(file)
            }
        })
    }
}
