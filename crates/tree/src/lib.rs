//! The file system that a chain of layers or a build context shows.
//!
//! Receives layer indexes and folders of this machine; hands over trees and, byte for byte as
//! BuildKit computes them, the content digests of the parts that a step reads. Invariant: a tree
//! holds headers and references to contents, never contents; those are opened through
//! [`LayerFiles`].

mod content;
mod digest;
mod path;
mod tree;
mod walk;

pub use content::{Content, ContentId, FileSlice, HostFile, HostRoot, LayerFiles, same_bytes};
pub use digest::error::DigestError;
pub use digest::listing::{ListedFile, content_listing};
pub use digest::memo::{ContextMemo, DigestMemo, known_content_digest, memoised_content_digest};
pub use digest::{LayerPaths, content_digest, content_files};
pub use path::{components, join, split_last};
pub use tree::{Directory, Node, NodeKind, RootHeader, Tree, TreeError, Xattrs};
pub use walk::{WalkError, walk_context};
