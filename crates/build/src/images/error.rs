//! Errors of operations on stored images.

use oci::{Digest, Reference};

/// Something that could not be done with an image. The first words are docker's, where it has
/// some.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image here has the name or ID.
    #[error("No such image: {0}")]
    NotHere(String),
    /// No image here has the name that is to be pushed.
    #[error("An image does not exist locally with the tag: {0}")]
    NothingToPush(String),
    /// The beginning of an ID is that of several images.
    #[error("`{id}` is the beginning of several IDs: {matches}")]
    Ambiguous {
        /// The value that was given.
        id: String,
        /// Some of the images that it could be.
        matches: String,
    },
    /// A tag cannot have a digest.
    #[error("refusing to create a tag with a digest reference: `{0}`")]
    TagWithDigest(Reference),
    /// An image is removed by its ID, and has names in several repositories.
    #[error(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories: {names}",
        &id.hex()[..12]
    )]
    SeveralNames {
        /// Its ID.
        id: Digest,
        /// Its names.
        names: String,
    },
    /// A registry did not give it.
    #[error(transparent)]
    Pull(Box<execute::ImageError>),
    /// A registry did not serve a document of it.
    #[error("{name}")]
    Registry {
        /// Its name.
        name: Reference,
        /// The reason.
        source: Box<registry::Error>,
    },
    /// It is for another platform than was asked for.
    #[error(
        "`{name}` was found but does not match the specified platform: wanted `{wanted}`, actual `{actual}`"
    )]
    Platform {
        /// Its name.
        name: String,
        /// The platform that was asked for.
        wanted: String,
        /// The image's platform.
        actual: String,
    },
    /// A layer could not be fetched.
    #[error(transparent)]
    Layer(Box<transfer::Error>),
    /// A registry did not take it.
    #[error(transparent)]
    Push(Box<export::Error>),
    /// Its files could not be written.
    #[error(transparent)]
    Files(Box<export::Error>),
    /// Files of two images could not be read to compare them.
    #[error("read files of the images")]
    CompareFiles(#[source] std::io::Error),
    /// An archive cannot be read or written, or is none of an image.
    #[error("{0}")]
    Archive(String),
    /// The store could not read or keep something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Cache mounts could not be listed or locked.
    #[error("look at cache mounts")]
    CacheMounts(#[from] std::io::Error),
}
