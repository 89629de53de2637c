//! Why records cannot be read or written.

use std::path::PathBuf;

use oci::Digest;

/// A cache that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A registry did not give or take something.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A folder does not have what was asked.
    #[error("`{}`: {what}", path.display())]
    Folder {
        /// Which folder or file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nothing is where a cache was looked for.
    #[error("`{place}` holds no cache yet")]
    Absent {
        /// Where.
        place: String,
    },
    /// A place that is none, by what was said of it.
    #[error("`{place}`: {what}")]
    Settings {
        /// Which.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// A place did not give or take something. Nothing in it is secret.
    #[error("`{place}`: {what}")]
    Place {
        /// Which.
        place: String,
        /// What was asked, and what it said.
        what: String,
    },
    /// A folder in the OCI layout could not be written.
    #[error(transparent)]
    Layout(#[from] transfer::LayoutError),
    /// The reference names something that is no cache.
    #[error("`{digest}` holds no build cache; an image gets one with `--cache-to type=inline`")]
    NoCache {
        /// What it names.
        digest: Digest,
    },
    /// A document cannot be read.
    #[error("damaged build cache: {0}")]
    Damaged(String),
    /// Others write all the time.
    #[error(
        "others wrote to `{place}` each of the {attempts} times that this build's records were added"
    )]
    Contended {
        /// What is written.
        place: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A layer could not be moved or compressed.
    #[error(transparent)]
    Layer(#[from] transfer::Error),
}

impl Error {
    /// The layers, by diffID, that cannot be had, if it is that.
    pub fn lost_layers(&self) -> Vec<Digest> {
        match self {
            // What is transparent is not its own source.
            Self::Layer(error) => transfer::lost_layers(error),
            error => transfer::lost_layers(error),
        }
    }

    /// Whether there is nothing where a cache was looked for, as before the first export.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_not_found(),
            Self::Absent { .. } => true,
            _ => false,
        }
    }

    /// Whether something is there that is no cache that can be read.
    pub fn is_of_content(&self) -> bool {
        matches!(self, Self::NoCache { .. } | Self::Damaged(_))
    }
}
