//! Containers and networks in Docker's JSON.

mod inspect;
mod networks;
mod parts;
mod summary;

pub(crate) use inspect::exec_object;
pub use inspect::inspect_object;
pub(crate) use networks::{NETWORKS, NetworkKind, network_object};
pub use summary::summary_object;
