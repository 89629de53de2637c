//! A blob's bytes, to be pushed.

use std::future::{Future, ready};
use std::io;

use bytes::Bytes;
use tokio::io::AsyncRead;

/// A blob's bytes, to be read as often as a registry needs them. Progress can be counted in the
/// readers: what they hand out goes on the wire.
pub trait BlobSource: Send + Sync {
    /// Reads the bytes.
    type Reader: AsyncRead + Send + 'static;

    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// If they cannot be had; the push ends with [`Error::Source`](crate::Error::Source).
    fn open(&self, offset: u64) -> impl Future<Output = io::Result<Self::Reader>> + Send;
}

impl BlobSource for Bytes {
    type Reader = io::Cursor<Bytes>;

    fn open(&self, offset: u64) -> impl Future<Output = io::Result<Self::Reader>> + Send {
        let mut reader = io::Cursor::new(self.clone());
        reader.set_position(offset);
        ready(Ok(reader))
    }
}
