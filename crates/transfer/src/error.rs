//! What can go wrong while layers move.

use std::io;

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

impl Error {
    /// Whether no other place helps: this machine cannot keep what comes.
    pub fn is_of_this_machine(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
                return matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem);
            }
            cause = error.source();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use graph::chain_text;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("copy `{name}`: {source}")]
    struct Copy {
        name: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = Copy { name: "a", source: std::io::Error::other("disk full") };
        assert_eq!(chain_text(&error), "copy `a`: disk full");
        let lost = Error::Store {
            diff_id: Digest::of(b""),
            source: store::Error::ReadArchive { source: std::io::Error::other("cut short") },
        };
        assert!(chain_text(&lost).ends_with(": cut short"), "{}", chain_text(&lost));
    }
}
