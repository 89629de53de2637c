//! Errors of exports.

use std::path::PathBuf;

use oci::Digest;

/// An export that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer could not be moved or compressed.
    #[error(transparent)]
    Layer(#[from] transfer::Error),
    /// A registry did not take the config or the manifest.
    #[error("push `{name}`")]
    Push {
        /// Name of the image.
        name: String,
        /// Why.
        source: registry::Error,
    },
    /// A folder in the OCI layout could not be written.
    #[error(transparent)]
    Layout(#[from] transfer::LayoutError),
    /// A file of a layer could not be read.
    #[error("read `{}`", path.display())]
    Read {
        /// Its path in the layer.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The archive could not be written. The stream's error says which it is.
    #[error("write the archive")]
    WriteArchive(#[source] std::io::Error),
    /// The store could not read a layer, or the file that is written from it failed.
    #[error("export the result's files")]
    Files(#[from] store::Error),
    /// A file of the result could not be put into the archive.
    #[error("export the result's files")]
    Member(#[from] layer::Error),
    /// The Docker engine could not be reached or did not take the image.
    #[error("load the image into the Docker engine at `{address}`: {message}")]
    Engine {
        /// The engine's address.
        address: String,
        /// The engine's message.
        message: String,
    },
    /// The image cannot be written in this format.
    #[error("{0}")]
    Format(String),
}

impl Error {
    /// The layers, by diffID, that cannot be had, if it is that.
    pub fn lost_layers(&self) -> Vec<Digest> {
        match self {
            // A transparent error is not its own source.
            Self::Layer(error) => transfer::lost_layers(error),
            error => transfer::lost_layers(error),
        }
    }
}
