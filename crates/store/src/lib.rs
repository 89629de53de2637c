//! The storage for bytes on this machine.
//!
//! Receives streams of bytes and upper directories; hands over verified blobs, unpacked layers and
//! their indexes, and snapshots. Invariant: a file with its final name is complete and right: it was
//! written under a temporary name, checked against its digest, and renamed.

mod assumptions;
mod attributes;
mod blob;
mod db;
mod disk;
mod error;
mod folder;
mod folder_layer;
mod folder_snapshot;
mod found;
mod gc;
mod held;
mod hollow;
mod layer_roots;
mod loans;
mod mount_points;
mod options;
mod pack;
mod partial;
mod parts;
mod pieces;
mod plain_names;
mod regular;
mod room;
mod root;
mod run;
mod seen;
mod snapshot;
mod spool;
mod store;
mod strays;
mod turn;
mod unpack;
mod upper;

pub use blob::BlobWriter;
pub use db::{Db, NamedImage};
pub use error::{Error, Result};
pub use folder_layer::FolderLayer;
pub use folder_snapshot::FolderSnapshot;
pub use gc::{ItemKind, PruneFilter, Pruned, Usage, UsedItem};
pub use hollow::{FileNumber, Filler, HollowLayer, OpenShare};
pub use mount_points::MountPoints;
pub use options::{OpenOptions, Privileges, UnmappedOwners};
pub use pack::LayerWriter;
pub use partial::Part;
pub use regular::open_regular;
pub use room::Room;
pub use snapshot::{MOST_LOWERS, WritableSnapshot};
pub use spool::ScratchFolder;
pub use store::Store;
pub use turn::{Turn, TurnAnswer, TurnEnd, TurnRequest};
pub use unpack::{PackedLayer, WaitFor};
