//! Errors of moving layers.

use std::io;
use std::path::PathBuf;

use oci::Digest;

/// A layer that could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place delivers the bytes.
    #[error("{} cannot be had: {tried}", named(.layers))]
    Lost {
        /// The layers, by diffID.
        layers: Vec<Digest>,
        /// The places that were tried for the first layer, each with its answer.
        tried: String,
    },
    /// The store could not keep or read the layer.
    #[error("keep layer `{diff_id}`")]
    Store {
        /// The layer.
        diff_id: Digest,
        /// The reason.
        source: store::Error,
    },
    /// A registry did not accept the layer.
    #[error("upload layer `{digest}` to `{repository}`")]
    Upload {
        /// The blob.
        digest: Digest,
        /// The repository.
        repository: String,
        /// The reason.
        source: registry::Error,
    },
    /// A place that is no registry did not accept the layer.
    #[error("send layer `{digest}` to `{place}`")]
    Send {
        /// The blob.
        digest: Digest,
        /// The place's name.
        place: String,
        /// The reason.
        source: crate::RemoteError,
    },
}

/// The reason why one source does not deliver a layer's bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("its blob is not known")]
    NoBlob,
    #[error("this build was not told of it")]
    UnknownRemote,
    #[error("open `{}`: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Remote(#[from] crate::RemoteError),
}

impl Error {
    /// True if a registry sent bytes that do not match the requested digest.
    pub fn is_garbled(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<registry::Error>() {
                return error.is_garbled();
            }
            // An `io::Error` does not report its inner error as its source.
            cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        false
    }

    /// True if no other place helps: this machine has no space for the layer, or limits its size.
    pub fn is_of_this_machine(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<store::Error>().is_some_and(store::Error::is_archive_limit) {
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

/// Returns the values, or an error. Losses alone become one error that names all of the layers, so
/// that the caller can make all of them again at once.
///
/// # Errors
/// The first error that is not a loss, or else the losses.
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

/// The layers, by diffID, whose loss caused an error.
pub fn lost_layers(error: &(dyn std::error::Error + 'static)) -> Vec<Digest> {
    if let Some(Error::Lost { layers, .. }) = error.downcast_ref() {
        return layers.clone();
    }
    // An `io::Error` does not report its inner error as its source.
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
            source: store::Error::read_archive(std::io::Error::other("cut short")),
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
        let full = Error::Store { diff_id, source: store::Error::read_archive(full) };
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
        let source = store::Error::read_archive(full);
        let full = Err(Error::Store { diff_id: one, source });
        assert!(all([lost(one), full]).unwrap_err().is_of_this_machine());
        assert_eq!(all([Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }
}
