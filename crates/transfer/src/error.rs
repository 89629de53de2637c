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
    /// Another place did not take it.
    #[error("send layer `{digest}` to `{place}`")]
    Send {
        /// Which blob.
        digest: Digest,
        /// Where to.
        place: String,
        /// Why.
        source: crate::RemoteError,
    },
}

impl Error {
    /// Whether no other place helps: this machine cannot keep what comes, or is told not to.
    pub fn is_of_this_machine(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(store::Error::ArchiveLimit { .. }) = error.downcast_ref() {
                return true;
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
                return matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem);
            }
            cause = error.source();
        }
        false
    }
}

/// The layer, by diffID, that is nowhere, where that is behind an error.
pub fn lost_layer(error: &(dyn std::error::Error + 'static)) -> Option<Digest> {
    if let Some(Error::Lost { diff_id, .. }) = error.downcast_ref() {
        return Some(*diff_id);
    }
    // What is inside an `io::Error` is not its source.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inner {
        Some(inner) => lost_layer(inner),
        None => lost_layer(error.source()?),
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

    #[test]
    fn a_lost_layer_is_found_behind_an_upload() {
        let diff_id = Digest::of(b"layer");
        let lost = Error::Lost { diff_id, tried: String::new() };
        let source =
            registry::Error::Source { digest: diff_id, source: std::io::Error::other(lost) };
        let upload = Error::Upload { digest: diff_id, repository: "r".into(), source };
        assert_eq!(lost_layer(&upload), Some(diff_id));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let full = Error::Store { diff_id, source: store::Error::ReadArchive { source: full } };
        assert_eq!((lost_layer(&full), full.is_of_this_machine()), (None, true));
    }
}
