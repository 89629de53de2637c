//! Readers of blobs on their way into the store.

use std::io::{self, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use oci::Descriptor;
use store::{BlobWriter, Store};
use tokio::io::AsyncRead;

use crate::Error;
use crate::error::SourceError;

/// A reader that optionally writes a copy of the blob into the store. If writing fails, the blob is
/// fetched again when it is needed.
pub(crate) struct TeeReader<R> {
    reader: R,
    writer: Option<BlobWriter>,
}

impl<R> TeeReader<R> {
    /// A reader that writes a copy, if there is a store for it.
    pub(crate) fn new(reader: R, store: Option<&Store>) -> Self {
        Self { reader, writer: store.and_then(|store| store.blob_writer().ok()) }
    }

    /// Keeps the copy.
    pub(crate) fn keep(self, blob: &Descriptor) {
        drop(self.writer.map(|writer| writer.commit(Some((blob.digest, blob.size)))));
    }
}

impl<R: io::Read> io::Read for TeeReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(bytes)?;
        if let Some(writer) = &mut self.writer
            && writer.write_all(&bytes[..count]).is_err()
        {
            self.writer = None;
        }
        Ok(count)
    }
}

/// A reader that keeps its first error, because a decompressor reports any read error as a broken
/// archive.
pub(crate) struct Remembering<R> {
    inner: R,
    error: Option<io::Error>,
}

impl<R> Remembering<R> {
    /// A reader of this one.
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, error: None }
    }

    /// Replaces the cause of a store error by the read error, unless the cause is this machine's.
    pub(crate) fn cause_of(&mut self, error: Error) -> Error {
        match (error, self.error.take()) {
            (Error::Store { diff_id, source }, Some(own)) => {
                let said = Error::Store { diff_id, source };
                let source = store::Error::read_archive(own);
                if said.is_of_this_machine() { said } else { Error::Store { diff_id, source } }
            }
            (error, _) => error,
        }
    }
}

impl<R: io::Read> io::Read for Remembering<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.error.get_or_insert(error);
            kind.into()
        })
    }
}

/// A file of this machine as a stream.
pub(crate) async fn file_stream(path: &Path) -> Result<ReadStream, SourceError> {
    let opened = path.to_owned();
    let file = crate::blocking(move || store::open_regular(&opened))
        .await
        .map_err(|source| SourceError::Open { path: path.into(), source })?;
    Ok(ReadStream(tokio::fs::File::from_std(file)))
}

/// A file as a stream of large pieces.
pub(crate) struct ReadStream(tokio::fs::File);

impl Stream for ReadStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut space = vec![0; 1 << 18];
        let mut buffer = tokio::io::ReadBuf::new(&mut space);
        match Pin::new(&mut self.0).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let filled = buffer.filled().len();
                space.truncate(filled);
                Poll::Ready((filled > 0).then(|| Ok(space.into())))
            }
        }
    }
}
