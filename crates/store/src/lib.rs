//! The storage for bytes on this machine.
//!
//! Receives streams of bytes and upper directories; hands over verified blobs, unpacked layers,
//! layer indexes and trees. Invariant: a file with its final name is complete and right: it was
//! written under a temporary name, checked against its digest, and renamed.

mod assumed;
mod attributes;
mod blob;
mod chain;
mod compress;
mod db;
mod decompress;
mod digest;
mod entry;
mod error;
mod folder;
mod folder_layer;
mod folder_snapshot;
mod found;
mod gc;
mod index;
mod layer;
mod loans;
mod mount_points;
mod pack;
mod partial;
mod plain_names;
mod regular;
mod room;
mod seek;
mod seen;
mod snapshot;
mod spool;
mod store;
mod strays;
pub mod tar;
pub mod tree;
mod unpack;
mod upper;
mod walk;

pub use assumed::{Assumption, Assumptions, Claim};
pub use attributes::CAPABILITY;
pub use blob::BlobWriter;
pub use chain::Chain;
pub use compress::Encoder;
pub use db::{Db, NamedImage};
pub use decompress::open_decoder;
pub use digest::{
    ContextMemo, DigestError, DigestMemo, LayerPaths, ListedFile, content_digest, content_files,
    content_listing, known_content_digest, memoised_content_digest,
};
pub use entry::{Entry, EntryKind, Time, Xattr};
pub use error::{Error, Result};
pub use folder_layer::FolderLayer;
pub use folder_snapshot::FolderSnapshot;
pub use gc::{ItemKind, PruneFilter, Pruned, Usage, UsedItem};
pub use index::{IndexError, LayerIndex, compare_paths, is_entry_path};
pub use layer::{Compression, Layer, Place};
pub use mount_points::MountPoints;
pub use pack::LayerWriter;
pub use partial::Part;
pub use regular::open_regular;
pub use room::Room;
pub use seek::{BlockRange, SeekTable};
pub use snapshot::WritableSnapshot;
pub use spool::ScratchFolder;
pub use store::{OpenOptions, Privileges, Store, UnmappedOwners};
pub use tree::Tree;
pub use unpack::{PackedLayer, WaitFor};
pub use upper::same_bytes;
pub use walk::{WalkError, walk_context};
