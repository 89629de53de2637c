//! The errors of file operations.

use std::io;

use graph::{ActionInput, PatternError};
use tree::{LayerPaths, TreeError};

/// Why a file operation failed. Where BuildKit has words for it, they are the same.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A source that is not there.
    #[error("lstat {0}: no such file or directory")]
    NotFound(String),
    /// Something had to be made in or instead of a file.
    #[error("mkdir {0}: not a directory")]
    NotDirectory(String),
    /// An archive's member, or an inline file, would be in a folder that is not there.
    #[error("open {0}: no such file or directory")]
    NoParent(String),
    /// A folder of the source meets a file of the destination.
    #[error("cannot copy to non-directory: {0}")]
    DirectoryOverFile(String),
    /// A file of the source meets a folder of the destination.
    #[error("cannot replace to directory {0} with file")]
    FileOverDirectory(String),
    /// `--chmod` says nothing that chmod(1) knows.
    #[error("invalid mode: `{0}`")]
    Mode(String),
    /// `--link` copies into nothing, where no names are known.
    #[error(
        "invalid user index: -1: `{0}` is a name, and a copy with `--link` has no base to look it up in"
    )]
    OwnerWithoutBase(String),
    /// `/etc/passwd` or `/etc/group` is no small regular file.
    #[error("`{0}` cannot be read as a list of names: {1}")]
    NameFile(String, &'static str),
    /// An action refers to an input or an earlier action that does not exist.
    #[error("the operation refers to tree {0:?}, which it does not have")]
    NoTree(ActionInput),
    /// A pattern of a source or filter.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Links of a tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The content of a file.
    #[error("read `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The content of an archive's members.
    #[error("unpack `{path}`: {source}")]
    Spool {
        /// The archive.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// No disk takes such a name.
    #[error("{0}: file name too long")]
    NameTooLong(String),
    /// An archive that began well.
    #[error("unpack `{path}`: {source}")]
    Unpack {
        /// The archive.
        path: String,
        /// The reason.
        source: store::Error,
    },
    /// Files below could be the same as new ones, and are not here.
    #[error("files to compare with are not here")]
    Unread(LayerPaths),
    /// The layer.
    #[error("write layer: {0}")]
    Write(#[source] store::Error),
}

/// A path for messages.
pub(super) fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
