//! What can go wrong while layers move.

use std::io;

use oci::Digest;

/// A layer that could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place gives the bytes.
    #[error("{} cannot be had: {tried}", named(.layers))]
    Lost {
        /// Which layers, by diffID.
        layers: Vec<Digest>,
        /// The places that were asked for the first, and what each said.
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
    /// Whether a registry sent other bytes than those that were asked for.
    pub fn is_garbled(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<registry::Error>() {
                return error.is_garbled();
            }
            // What is inside an `io::Error` is not its source.
            cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        false
    }

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

fn named(layers: &[Digest]) -> String {
    let names: Vec<String> = layers.iter().map(|layer| format!("`{layer}`")).collect();
    format!("layer{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

/// What was done, unless some of it was not. Of losses alone one error is made that names all
/// layers: whoever can make them again makes them at once.
///
/// # Errors
/// The first error that is none of a lost layer, else the losses.
pub fn all<T>(results: impl IntoIterator<Item = Result<T, Error>>) -> Result<Vec<T>, Error> {
    let (mut done, mut lost) = (Vec::new(), None::<(Error, Vec<Digest>)>);
    for result in results {
        let error = match result {
            Ok(value) => {
                done.push(value);
                continue;
            }
            Err(error) => error,
        };
        let layers = lost_layers(&error);
        if layers.is_empty() {
            return Err(error);
        }
        let (_, all) = lost.get_or_insert((error, Vec::new()));
        all.extend(layers.into_iter().filter(|layer| !all.contains(layer)).collect::<Vec<_>>());
    }
    match lost {
        None => Ok(done),
        Some((error, layers)) if layers.len() < 2 => Err(error),
        Some((error, layers)) => {
            let tried = match error {
                Error::Lost { tried, .. } => tried,
                other => graph::chain_text(&other),
            };
            Err(Error::Lost { layers, tried })
        }
    }
}

/// The layers, by diffID, that cannot be had, where that is behind an error.
pub fn lost_layers(error: &(dyn std::error::Error + 'static)) -> Vec<Digest> {
    if let Some(Error::Lost { layers, .. }) = error.downcast_ref() {
        return layers.clone();
    }
    // What is inside an `io::Error` is not its source.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match (inner, error.source()) {
        (Some(inner), _) => lost_layers(inner),
        (None, Some(source)) => lost_layers(source),
        (None, None) => Vec::new(),
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
        let lost = Error::Lost { layers: vec![diff_id], tried: String::new() };
        let source =
            registry::Error::Source { digest: diff_id, source: std::io::Error::other(lost) };
        let upload = Error::Upload { digest: diff_id, repository: "r".into(), source };
        assert_eq!(lost_layers(&upload), [diff_id]);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let full = Error::Store { diff_id, source: store::Error::ReadArchive { source: full } };
        assert_eq!((lost_layers(&full), full.is_of_this_machine()), (Vec::new(), true));
    }

    #[test]
    fn losses_are_told_together_and_other_errors_first() {
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let lost = |layer| Err(Error::Lost { layers: vec![layer], tried: "gone".into() });
        let both = all([Ok(()), lost(one), lost(other), lost(one)]).unwrap_err();
        assert_eq!(lost_layers(&both), [one, other]);
        assert_eq!(both.to_string(), format!("layers `{one}`, `{other}` cannot be had: gone"));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let source = store::Error::ReadArchive { source: full };
        let full = Err(Error::Store { diff_id: one, source });
        assert!(all([lost(one), full]).unwrap_err().is_of_this_machine());
        assert_eq!(all([Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }
}
