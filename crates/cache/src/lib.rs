//! From a key to an output: the records of this machine and of imported caches.
//!
//! Records of earlier builds come from the local tables ([`LocalRecords`]) and from caches in
//! BuildKit's format ([`BackendSettings`] opens a [`Backend`], which imports an [`ImportedCache`]);
//! the solver sees all of them as one [`Caches`]. [`write()`] adds the records of a build to a back
//! end. Invariants: imported data is bounded and checked before it is used, and an absent or damaged
//! cache is an error value that costs a warning.
//!
//! `format` is BuildKit's format without I/O, `backend` has a file for each kind of back end,
//! `sidecar` is kiln's own artifact next to a cache.

#![forbid(unsafe_code)]

mod additions;
mod assumed;
mod backend;
mod caches;
mod error;
pub mod explain;
mod format;
mod layout;
mod local;
pub mod sidecar;
pub mod upkeep;
mod write;

pub use additions::BuildAdditions;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub use backend::read_hostile_map;
pub use backend::{
    Backend, BackendCredentials, BackendSettings, BucketSettings, GITHUB_TOKEN, GithubSettings,
    GithubVersion, HTTP_HEADER, ImportedCache, LayoutSettings, MapSettings, MapStore,
    REDIS_PASSWORD, RedisScheme, RedisServer, RegistrySettings, Service, fetch_object,
};
pub use caches::Caches;
pub use error::{Error, FileFault, SettingsFault};
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub use format::read_hostile;
pub use format::{
    CacheMode, Export, Form, INLINE_FIELD, Pruned, RecordSet, SidecarRef, inline_cache,
};
pub use local::LocalRecords;
pub use sidecar::Sidecar;
pub use write::{Exported, SidecarUpdate, WriteRequest, write};
