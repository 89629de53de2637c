//! From a key to an output, here and elsewhere.
//!
//! Receives records of earlier builds (the local tables; BuildKit's cache format in registries,
//! folders and images) and shows them to the solver as one [`Caches`]; hands over the records of
//! a build in that format. Invariant: what is read from elsewhere is bounded and checked before
//! it is believed, and a cache that is absent or damaged is an error value that costs a warning.

#![forbid(unsafe_code)]

mod assumed;
pub mod beside;
mod caches;
mod config;
mod error;
pub mod explain;
mod export;
mod import;
mod local;
mod order;
mod place;
mod plan;
mod prune;
mod records;
pub mod upkeep;
mod write;

pub use beside::Beside;
pub use caches::Caches;
pub use error::Error;
pub use export::{Export, Exported, Mode};
pub use import::Imported;
#[cfg(fuzzing)]
pub use import::read_hostile;
pub use local::LocalRecords;
#[cfg(fuzzing)]
pub use place::read_hostile_map;
pub use place::{
    BucketPlace, BucketSettings, Credentials, FolderPlace, Form, GITHUB_TOKEN, GithubPlace,
    GithubSettings, GithubVersion, HTTP_HEADER, INLINE_FIELD, MapPlace, MapSettings, MapStore,
    Place, PlaceSettings, REDIS_PASSWORD, RegistryPlace, Service, inline_cache,
};
pub use prune::Pruned;
pub use records::RecordSet;
pub use write::{LeaveBeside, WriteRequest, write};
