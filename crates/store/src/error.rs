//! Errors of the store.

use std::io;
use std::path::{Path, PathBuf};

use layer::IndexError;
use oci::Digest;

/// An error of the store. Its cause is in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An archive or a compressed blob could not be read or written.
    #[error(transparent)]
    Archive(#[from] layer::Error),
    /// An operation on a file or folder of this machine failed.
    #[error("{action} `{}`", path.display())]
    File {
        /// The operation: a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
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
        /// The privileges that it was made for.
        made_for: String,
        /// The privileges that it was opened with.
        asked: &'static str,
    },
    /// Unpacking would use space that is left free for others on the disk.
    #[error(
        "the disk of the root is nearly full ({left} {unit} left): nothing more is unpacked to it"
    )]
    NoRoom {
        /// The amount that is free.
        left: u64,
        /// The unit of the amount.
        unit: &'static str,
    },
    /// A blob does not match its digest or size.
    #[error("blob has digest `{actual}` ({actual_size} bytes), not `{expected}` ({size} bytes)")]
    BlobMismatch {
        /// The expected digest.
        expected: Digest,
        /// The expected size, in bytes.
        size: u64,
        /// The actual digest.
        actual: Digest,
        /// The actual size, in bytes.
        actual_size: u64,
    },
    /// A layer's archive does not match its diffID.
    #[error("layer has diffID `{actual}`, not `{expected}`")]
    LayerMismatch {
        /// The expected diffID.
        expected: Digest,
        /// The actual diffID.
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
        /// The layer.
        diff_id: Digest,
        /// The index's error.
        source: IndexError,
    },
    /// The archive that gave a layer its diffID has another layout than kiln writes, and no blob of
    /// the layer is in the store.
    #[error("layer `{0}` cannot be compressed from its folder: its archive was laid out otherwise")]
    NotReproducible(Digest),
    /// The kernel left a file in an upper directory that is no plain difference.
    #[error(
        "upper directory has `{path}` with `{attribute}`: mount with redirect_dir=off,metacopy=off"
    )]
    NotPlainUpper {
        /// The file.
        path: String,
        /// The attribute that shows it.
        attribute: String,
    },
    /// An operation on the database failed.
    #[error("{action} in the store's database")]
    Database {
        /// The operation.
        action: &'static str,
        /// SQLite's error.
        source: rusqlite::Error,
    },
}

/// The result of a function of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns a closure for `map_err` after a call on a file.
    pub(crate) fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::File { action, path: path.as_ref().into(), source: source.into() }
    }

    /// Returns the error for an archive's entry that is refused.
    pub(crate) fn entry(path: &[u8], problem: impl Into<String>) -> Self {
        layer::Error::entry(path, problem).into()
    }

    /// Returns the error for a stream of an archive that cannot be read.
    pub fn read_archive(source: io::Error) -> Self {
        layer::Error::ReadArchive { source }.into()
    }

    /// Returns the error for an archive that cannot be written, at no entry of it.
    pub(crate) fn write_archive(source: io::Error) -> Self {
        layer::Error::WriteArchive { path: String::new(), source }.into()
    }

    /// True if an archive is larger than allowed.
    pub fn is_archive_limit(&self) -> bool {
        matches!(self, Self::Archive(layer::Error::ArchiveLimit { .. }))
    }

    /// Returns a closure for `map_err` after a call on the database.
    pub(crate) fn database(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { action, source }
    }
}
