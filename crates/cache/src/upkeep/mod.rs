//! What a cache holds, whether it is sound, and less or more of it: the work of those who keep
//! caches, apart from builds.

mod change;
mod inspect;
mod verify;

pub use change::{Copied, PruneRule, copy, prune};
pub use inspect::{HeldLayer, HeldRecord, Holdings, inspect};
pub use verify::{Fault, Verified, verify};
