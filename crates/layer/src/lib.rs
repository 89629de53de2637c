//! A layer as data.
//!
//! Receives streams of bytes from anywhere; hands over entries, indexes, compressed blobs and
//! chains of layers. It keeps nothing and knows no folder of this machine. Invariant: its input is
//! not trusted. Numbers are checked, sizes are bounded, and paths stay inside the root.

mod assumed;
mod chain;
mod compress;
mod decompress;
mod encoding;
mod entry;
mod error;
mod hash;
mod index;
mod layer;
mod points;
mod seek;
pub mod tar;

pub use assumed::{Assumption, Assumptions, Claim};
pub use chain::Chain;
pub use compress::{Encoder, WrittenBlocks};
pub use decompress::{Codec, open_decoder};
pub use encoding::IndexError;
pub use entry::{CAPABILITY, Entry, EntryKind, Time, Xattr, compare_paths, is_entry_path};
pub use error::{Error, Result, shown};
pub use hash::{HashingReader, HashingWriter, digest_of};
pub use index::{FilePlace, LayerIndex};
pub use layer::{Compression, Layer, Place};
pub use points::{PointReader, Spans};
pub use seek::{BlockRange, SeekTable};
