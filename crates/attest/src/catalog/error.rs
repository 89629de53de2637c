//! The reasons why packages cannot be listed.

use std::io;

use super::sqlite::SqliteError;

/// The reason why a database, or a list in a program, is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatalogError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    #[error(transparent)]
    Go(#[from] GoError),
    /// A write-ahead log of SQLite with content.
    #[error("`/{path}` has changes that are not in it yet")]
    Unmerged { path: String },
    #[error("a header in it is damaged")]
    RpmHeader,
    #[error("{size} bytes are more than {limit}")]
    SectionTooLarge { size: u64, limit: u64 },
}

/// The reason why build information is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GoError {
    #[error("it is no build information")]
    NoBuildInfo,
    #[error("it was written by Go before 1.18, which is not read")]
    OldGo,
    #[error("a text is too long")]
    TextTooLong,
    #[error("a text is cut off")]
    TextCutOff,
    #[error("a length is cut off")]
    LengthCutOff,
}
