//! The caches of a build: read before the graph is solved, written after it.

pub(crate) mod mounts;
pub(crate) mod proven;
pub(crate) mod read;
pub(crate) mod reads;
pub(crate) mod write;
