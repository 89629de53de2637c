//! Where bytes live on this machine.
//!
//! Receives streams of bytes and upper directories; hands over verified blobs, unpacked layers,
//! layer indexes and trees. Invariant: what has its final name is complete and right: it was
//! written under a temporary name, checked against its digest, and renamed.

mod digest;
mod entry;
mod index;
mod layer;
pub mod tree;
mod walk;

pub use digest::{
    ContextMemo, DigestError, DigestMemo, content_digest, content_layers, memoised_content_digest,
};
pub use entry::{Entry, EntryKind, Time};
pub use index::{IndexError, LayerIndex, compare_paths, is_entry_path};
pub use layer::{Compression, Layer, Place};
pub use tree::Tree;
pub use walk::{WalkError, walk_context};
