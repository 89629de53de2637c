//! Maintenance of caches apart from builds: listing, verifying, pruning, copying.

mod change;
mod inspect;
mod verify;

pub use change::{Copied, PruneRule, copy, prune};
pub use inspect::{HeldLayer, HeldRecord, Holdings, inspect};
pub use verify::{BlobFault, Fault, Verified, verify};
