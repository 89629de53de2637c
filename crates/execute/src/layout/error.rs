//! The errors of image layouts.

use std::io;
use std::path::PathBuf;

/// Documents of real images are a few KiB; an index of many images or labels make them larger.
pub(super) const DOCUMENT_LIMIT: u64 = 8 << 20;

/// The reason why a folder is not usable as a layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("`{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file is larger than any document.
    #[error("`{}`: it is larger than {} MiB", path.display(), DOCUMENT_LIMIT >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file's content is not the one that its name promises.
    #[error("`{}` does not have the digest that its name says", path.display())]
    WrongDigest {
        /// The file.
        path: PathBuf,
    },
    /// A document is not JSON of its form.
    #[error("{name} cannot be read: {source}")]
    Document {
        /// The document.
        name: &'static str,
        /// The reason.
        source: serde_json::Error,
    },
    /// The index is empty.
    #[error("there is no image in its index.json")]
    NoImage,
    /// No image has the tag, and there are several.
    #[error(
        "no image is tagged `{tag}`; there are {count} ({tags}); name one as oci-layout://folder:tag or oci-layout://folder@sha256:…"
    )]
    UnknownTag {
        /// The wanted tag.
        tag: String,
        /// The number of images.
        count: usize,
        /// The tags of those that have one.
        tags: String,
    },
}
