//! What is known of a layer without having its bytes.

use std::path::PathBuf;
use std::sync::Arc;

use oci::{Descriptor, Digest, Repository};

/// A layer of an output. Plain data: bytes move only when somebody asks the store or a registry
/// for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the archive, not compressed.
    pub diff_id: Digest,
    /// The archive as a blob, where one is known: compressed here or found elsewhere.
    pub blob: Option<Descriptor>,
    /// When it was made, RFC 3339; from the cache's record where it comes from one.
    pub created: Option<String>,
    /// Who else has the blob. This store is asked first and is not in the list.
    pub places: Vec<Place>,
}

/// A place that has blobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A repository of a registry.
    Registry {
        /// Which.
        repository: Repository,
        /// Whether plain HTTP or a certificate that nobody vouches for is accepted.
        insecure: bool,
    },
    /// A folder in the OCI layout.
    Layout(PathBuf),
    /// A cache of another kind (an object store, GitHub's cache), by a name without credentials:
    /// who reads it has to know it already.
    Remote(Arc<str>),
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 0 to 9; none is the default.
    Gzip(Option<u32>),
    /// zstd, level 0 to 22; none is the default.
    Zstd(Option<u32>),
}
