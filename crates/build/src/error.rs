//! Errors of a build, with the lines of the Dockerfile if they are known.

use std::path::PathBuf;

use graph::{Failure, LineRange, SourceFile, Span};
use oci::Digest;

use crate::reason::Explained;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The context is not a folder.
    #[error("unable to prepare context: path `{}` not found", path.display())]
    NoContext {
        /// The value that was given.
        path: PathBuf,
    },
    /// The context cannot be fetched or unpacked.
    #[error("failed to load build context")]
    Context(#[source] execute::Error),
    /// The Dockerfile cannot be read.
    #[error("failed to read dockerfile `{}`: {source}", path.display())]
    NoDockerfile {
        /// The path that was tried.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is a policy beside the Dockerfile, which nothing here evaluates.
    #[error("`{file}` is a policy for this build, and kiln does not evaluate policies")]
    Policy {
        /// The policy.
        file: String,
    },
    /// A file that the build needs cannot be read.
    #[error("read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in the Dockerfile is wrong, or a step of it failed.
    #[error("{message}")]
    Dockerfile {
        /// The message.
        message: String,
        /// The lines.
        place: Option<SourceLocation>,
        /// A way to mend it.
        hint: Option<String>,
    },
    /// The request asks for what kiln cannot do.
    #[error("{0}")]
    Request(String),
    /// A registry does not let this user push what the build makes.
    #[error("this build may not push to `{repository}`")]
    NoPush {
        /// The destination.
        repository: String,
        /// The registry's refusal.
        source: registry::Error,
    },
    /// The result could not be exported.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// Layers of several steps could not become one.
    #[error("put layers together")]
    Fold(#[source] execute::Error),
    /// Records could not be left.
    #[error("export cache to {target}: {message}")]
    CacheExport {
        /// The destination.
        target: String,
        /// The error.
        message: String,
        /// The layers, by diffID, that could not be had, if it was that.
        lost: Vec<Digest>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Another of these, with why the steps ran that did, where that was asked.
    #[error("{error}")]
    Explained {
        /// The error.
        error: Box<Error>,
        /// Why steps ran.
        steps: Vec<Explained>,
    },
    /// The caller ended the build.
    #[error("canceled")]
    Canceled,
}

/// Lines of a Dockerfile, for an excerpt.
#[derive(Clone, Debug)]
pub struct SourceLocation {
    /// The text.
    pub file: SourceFile,
    /// The lines.
    pub lines: LineRange,
    /// The words in them, where they can be pointed at.
    pub span: Option<Span>,
}

impl Error {
    /// The setting that helps, for an error that no line of the Dockerfile is to blame for.
    pub fn hint(&self) -> Option<&'static str> {
        is_archive_limit(self).then_some(ARCHIVE_LIMIT)
    }

    /// The same with a hint, where there is one.
    pub(crate) fn with_hint(self, new: Option<String>) -> Self {
        match self {
            Self::Dockerfile { message, place, hint } => {
                Self::Dockerfile { message, place, hint: new.or(hint) }
            }
            other => other,
        }
    }

    /// The same with why steps ran, where that is known.
    pub(crate) fn explained(self, steps: Option<Vec<Explained>>) -> Self {
        match steps {
            Some(steps) => Self::Explained { error: Box::new(self), steps },
            None => self,
        }
    }

    /// The layers, by diffID, that an export could not have.
    pub(crate) fn lost_layers(&self) -> Vec<Digest> {
        match self {
            Self::Export(error) => error.lost_layers(),
            Self::Fold(error) => error.lost_layers(),
            Self::CacheExport { lost, .. } => lost.clone(),
            _ => Vec::new(),
        }
    }

    /// An error of the Dockerfile's text.
    pub(crate) fn in_dockerfile(error: dockerfile::Error, file: &SourceFile) -> Self {
        let span = error.span;
        let place = error.lines.map(|lines| SourceLocation { file: file.clone(), lines, span });
        Self::Dockerfile { message: error.message, place, hint: error.hint }
    }
}

/// The end of a task that failed. A task that lacks layers begins again once they are made.
pub(crate) fn failure(lost: &[Digest], message: &str) -> Failure {
    match lost {
        [] => Failure::Error(message.into()),
        _ => Failure::Canceled,
    }
}

/// The setting for archives that are larger than they may be.
pub(crate) const ARCHIVE_LIMIT: &str = "KILN_ARCHIVE_LIMIT=entries=…,bytes=… allows more";

/// True if an archive was larger than it may be, whatever wraps that.
pub(crate) fn is_archive_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<store::Error>().is_some_and(store::Error::is_archive_limit) {
            return true;
        }
        cause = error.source();
    }
    false
}
