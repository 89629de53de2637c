//! What can go wrong while layers move.

use std::fmt::Write as _;

use oci::Digest;

/// A layer that could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place has the blob.
    #[error("layer `{diff_id}` is nowhere: {tried}")]
    Lost {
        /// Which layer.
        diff_id: Digest,
        /// The places that were asked, and what each said.
        tried: String,
    },
    /// The store could not keep or read it.
    #[error("keep layer `{diff_id}`")]
    Store {
        /// Which layer.
        diff_id: Digest,
        /// Why.
        source: store::Error,
    },
    /// A registry did not take it.
    #[error("upload layer `{digest}` to `{repository}`")]
    Upload {
        /// Which blob.
        digest: Digest,
        /// Where to.
        repository: String,
        /// Why.
        source: registry::Error,
    },
}

/// An error with its causes, in one line.
pub fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
