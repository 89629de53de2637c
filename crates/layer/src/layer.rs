//! Metadata of a layer, known without its bytes.

use std::path::PathBuf;
use std::sync::Arc;

use oci::{Descriptor, Digest, Repository};

/// A layer of an output. Plain data: bytes move only when the store or a registry is asked for
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The archive as a blob, if one is known: compressed here or found elsewhere.
    pub blob: Option<Descriptor>,
    /// The time when it was made, in RFC 3339; from the cache's record if it comes from one.
    pub created: Option<String>,
    /// Other places that have the blob. This store is asked first and is not in the list.
    pub places: Vec<Place>,
}

/// A place that has blobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A repository of a registry.
    Registry {
        /// The repository.
        repository: Repository,
        /// True if plain HTTP or an untrusted certificate is accepted.
        insecure: bool,
    },
    /// A folder in the OCI layout.
    Layout(PathBuf),
    /// A cache of another kind (an object store, GitHub's cache), by a name without credentials:
    /// its reader must know them already.
    Remote(Arc<str>),
}

/// The compression of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// No compression.
    None,
    /// gzip, level 0 to 9; `None` is the default level.
    Gzip(Option<u32>),
    /// zstd, level 0 to 22; `None` is the default level.
    Zstd(Option<u32>),
}
