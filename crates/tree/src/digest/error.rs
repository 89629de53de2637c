//! The error of a content digest.

use std::io;

use graph::PatternError;

use crate::tree::TreeError;

/// A content digest cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// A required path does not exist; the words are BuildKit's.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// The links of a path cannot be followed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A pattern of the query is invalid.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A file of the tree cannot be read.
    #[error("read `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
}
