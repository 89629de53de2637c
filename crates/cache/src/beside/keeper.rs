//! The seam to where the artifact is kept.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oci::{Descriptor, Digest};
use store::Place;

use crate::Error;

/// Keeps manifests, one of them under a name, and blobs by digest.
pub trait Keeper: Send + Sync {
    /// How people call it.
    fn name(&self) -> String;

    /// The manifest under the name; none where there is none. At most 4 MiB.
    fn read(&self) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;

    /// A manifest by its digest, which it has; none where it is not there. At most 4 MiB.
    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;

    /// Gives a manifest the name, in place of the one that has it, all at once.
    fn write(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), Error>>;

    /// A blob of at most `max` bytes, checked against its digest.
    fn blob<'a>(&'a self, blob: &'a Descriptor, max: u64) -> BoxFuture<'a, Result<Bytes, Error>>;

    /// Keeps a blob; one that is there may be left as it is.
    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        content: Content,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Where layers among the blobs can be fetched from.
    fn place(&self) -> Option<Place>;
}

/// The bytes of a blob.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// A file that was checked against its digest when it was written.
    File {
        /// Where it is.
        path: PathBuf,
        /// Digest of its bytes.
        digest: Digest,
        /// How many there are.
        size: u64,
    },
}

impl Content {
    /// Digest and size.
    pub fn digest(&self) -> (Digest, u64) {
        match self {
            Self::Bytes(bytes) => (Digest::of(bytes), bytes.len() as u64),
            Self::File { digest, size, .. } => (*digest, *size),
        }
    }
}

impl registry::BlobSource for Content {
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
