//! Errors of archives and of the blobs that they are compressed to.

use std::io;

use oci::Digest;

/// An error of reading or writing an archive or a blob. Its cause is in
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream of an archive could not be read or decompressed.
    #[error("read archive")]
    ReadArchive {
        /// The error of the stream or the decoder.
        source: io::Error,
    },
    /// An archive violates its format, or contains something that cannot be unpacked.
    #[error("archive entry `{path}`: {problem}")]
    ArchiveEntry {
        /// Path of the entry, if known.
        path: String,
        /// The problem.
        problem: String,
    },
    /// An archive exceeds a limit of the reader.
    #[error("archive has more than {limit} {unit}")]
    ArchiveLimit {
        /// The unit of the limit.
        unit: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An archive could not be written.
    #[error("write archive entry `{path}`")]
    WriteArchive {
        /// Path of the entry.
        path: String,
        /// The error of the stream.
        source: io::Error,
    },
    /// An entry cannot be written to an archive.
    #[error("`{path}` cannot be in a layer: {problem}")]
    Unwritable {
        /// Path of the entry.
        path: String,
        /// The reason.
        problem: &'static str,
    },
    /// The content's length differs from the entry's size.
    #[error("content of `{path}` is {problem} than the {size} bytes that were announced")]
    ContentSize {
        /// Path of the entry.
        path: String,
        /// The entry's size, in bytes.
        size: u64,
        /// `shorter` or `longer`.
        problem: &'static str,
    },
    /// A part of a blob does not match the layer's index.
    #[error("a part of blob `{0}` is not what the layer's index says")]
    WrongBlock(Digest),
    /// Layers of this media type cannot be read.
    #[error("layers of type `{0}` are not supported")]
    MediaType(String),
}

/// The result of a function that reads or writes archives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the error for an archive's entry that is refused.
    pub fn entry(path: &[u8], problem: impl Into<String>) -> Self {
        Self::ArchiveEntry { path: shown(path), problem: problem.into() }
    }
}

/// A path for messages, of bounded length: it may come from a hostile archive.
pub fn shown(path: &[u8]) -> String {
    let text = path[..path.len().min(512)].escape_ascii().to_string();
    match std::str::from_utf8(path) {
        Ok(whole) if path.len() <= 512 && !whole.chars().any(char::is_control) => whole.to_owned(),
        _ => text,
    }
}
