//! fsutil's file protocol (`github.com/tonistiigi/fsutil`), both ways.
//!
//! The sender announces its tree, one header for each entry in order; the receiver asks for the
//! files whose headers differ from what it has. As a receiver nothing is believed: entries come in
//! order, below folders that came before, as often and as large as they may be, and every change
//! is made in a folder that is held open.

mod contexts;
#[cfg(any(fuzzing, debug_assertions))]
pub(crate) mod fuzzing;
pub(crate) mod mode;
mod order;
mod receive;
mod send;
mod target;

pub use contexts::{Contexts, KeptContext, Lease};
pub use receive::{FileSelection, Received};
pub use send::{SentFolder, send_file, send_folder};

use std::io;

/// Limits of what one transfer may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Entries.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes of paths and of links' targets.
    pub names: u64,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 256 << 30, names: 256 << 20 }
    }
}

/// A transfer of files that failed.
#[derive(Debug, thiserror::Error)]
pub enum FileSyncError {
    /// A call failed.
    #[error("{}", .0.message())]
    Call(Box<tonic::Status>),
    /// The client has no folder of this name.
    #[error("no local sources enabled: the client sends no files")]
    NoFiles,
    /// The other end gave up.
    #[error("error from the client: {0}")]
    Peer(String),
    /// The other end went before the transfer was over.
    #[error("the client broke off in the middle of a transfer")]
    Ended,
    /// The other end is there, and sends nothing.
    #[error("the client stopped in the middle of a transfer")]
    Silent,
    /// A path that must not be.
    #[error("path {path:?} of the client is refused: {reason}")]
    Path {
        /// The path.
        path: String,
        /// The reason.
        reason: &'static str,
    },
    /// A file with another size than was announced.
    #[error("`{path}` changed while it was sent: {announced} bytes were announced, {sent} came")]
    Size {
        /// The path.
        path: String,
        /// The announced bytes.
        announced: u64,
        /// The bytes that came; one more than announced where there would be more.
        sent: u64,
    },
    /// A packet that the protocol does not allow here.
    #[error("the client breaks the file protocol: {0}")]
    Protocol(&'static str),
    /// More entries or bytes than are allowed.
    #[error("the client's files are too many or too large: more than {most} {what}")]
    TooMuch {
        /// Entries, bytes, or bytes of names.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// A file cannot be written or read here.
    #[error("`{path}`: {source}")]
    Io {
        /// The path.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

impl From<tonic::Status> for FileSyncError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl FileSyncError {
    /// An error of a file.
    pub(crate) fn io(path: &str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }
}

#[cfg(test)]
mod tests;
