//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

use crate::IndexError;

/// Why the store could not do what it was asked. What caused it is in
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something was done to a file or folder of this machine.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was done: a verb.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The root was made by a process with other privileges.
    #[error(
        "the store `{}` was made for `{made_for}` and cannot be used as `{asked}`: choose another root",
        root.display()
    )]
    RootKind {
        /// The store's root.
        root: PathBuf,
        /// What it was made for.
        made_for: String,
        /// What was asked for.
        asked: &'static str,
    },
    /// The stream of an archive could not be read or decompressed.
    #[error("read archive")]
    ReadArchive {
        /// What the stream or the decoder said.
        source: io::Error,
    },
    /// An archive contradicts its format, or has what cannot be unpacked.
    #[error("archive entry `{path}`: {problem}")]
    ArchiveEntry {
        /// Path of the entry, as far as known.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// An archive is larger than the reader was told to accept.
    #[error("archive has more than {limit} {unit}")]
    ArchiveLimit {
        /// What was counted.
        unit: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// Unpacking would take what others on the disk need.
    #[error(
        "the disk of the root is nearly full ({left} {unit} left): nothing more is unpacked to it"
    )]
    NoRoom {
        /// How much is free.
        left: u64,
        /// Of what.
        unit: &'static str,
    },
    /// An archive could not be written.
    #[error("write archive entry `{path}`")]
    WriteArchive {
        /// Path of the entry.
        path: String,
        /// What the stream said.
        source: io::Error,
    },
    /// An entry cannot be written to an archive.
    #[error("`{path}` cannot be in a layer: {problem}")]
    Unwritable {
        /// Path of the entry.
        path: String,
        /// Why not.
        problem: &'static str,
    },
    /// The content has another length than the entry said.
    #[error("content of `{path}` is {problem} than the {size} bytes that were announced")]
    ContentSize {
        /// Path of the entry.
        path: String,
        /// The size that the entry said, in bytes.
        size: u64,
        /// `shorter` or `longer`.
        problem: &'static str,
    },
    /// A blob is not what its name says.
    #[error("blob has digest `{actual}` ({actual_size} bytes), not `{expected}` ({size} bytes)")]
    BlobMismatch {
        /// What was asked for.
        expected: Digest,
        /// How long it should be.
        size: u64,
        /// What came.
        actual: Digest,
        /// How long that was.
        actual_size: u64,
    },
    /// A part of a blob is not what the layer's index says.
    #[error("a part of blob `{0}` is not what the layer's index says")]
    WrongBlock(Digest),
    /// A layer's archive is not what its diffID says.
    #[error("layer has diffID `{actual}`, not `{expected}`")]
    LayerMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A blob is not in this store.
    #[error("blob `{0}` is not in the store")]
    NoBlob(Digest),
    /// A layer is not unpacked in this store.
    #[error("layer `{0}` is not unpacked in the store")]
    NoLayer(Digest),
    /// The index of a layer is not in this store.
    #[error("index of layer `{0}` is not in the store")]
    NoIndex(Digest),
    /// A layer's index could not be read.
    #[error("index of layer `{diff_id}`")]
    Index {
        /// Which layer.
        diff_id: Digest,
        /// What is wrong with it.
        source: IndexError,
    },
    /// The archive that gave a layer its diffID was laid out otherwise than kiln writes one, and
    /// no blob of it is here.
    #[error("layer `{0}` cannot be compressed from its folder: its archive was laid out otherwise")]
    NotReproducible(Digest),
    /// Layers of this media type cannot be read.
    #[error("layers of type `{0}` are not supported")]
    MediaType(String),
    /// The kernel left something in an upper directory that is no plain difference.
    #[error(
        "upper directory has `{path}` with `{attribute}`: mount with redirect_dir=off,metacopy=off"
    )]
    NotPlainUpper {
        /// Which file.
        path: String,
        /// The attribute that says so.
        attribute: String,
    },
    /// The database said no.
    #[error("{action} in the store's database")]
    Database {
        /// What was done.
        action: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// What functions of the store return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` after a call on a file.
    pub(crate) fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::File { action, path: path.as_ref().into(), source: source.into() }
    }

    /// An archive's entry is refused.
    pub(crate) fn entry(path: &[u8], problem: impl Into<String>) -> Self {
        Self::ArchiveEntry { path: shown(path), problem: problem.into() }
    }

    /// For `map_err` after a call of the database.
    pub(crate) fn database(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { action, source }
    }
}

/// A path as messages show it, bounded: it may come from a hostile archive.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = path[..path.len().min(512)].escape_ascii().to_string();
    match std::str::from_utf8(path) {
        Ok(whole) if path.len() <= 512 && !whole.chars().any(char::is_control) => whole.to_owned(),
        _ => text,
    }
}
