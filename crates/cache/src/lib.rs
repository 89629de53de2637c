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

mod assumed;
mod backend;
mod caches;
mod error;
pub mod explain;
mod format;
mod import;
mod layout;
mod local;
pub mod sidecar;
pub mod upkeep;
mod write;

#[cfg(fuzzing)]
pub use backend::read_hostile_map;
pub use backend::{
    Backend, BackendSettings, BucketSettings, Credentials, GITHUB_TOKEN, GithubSettings,
    GithubVersion, HTTP_HEADER, LayoutSettings, MapSettings, MapStore, REDIS_PASSWORD,
    RegistrySettings, Service, fetch_object,
};
pub use caches::Caches;
pub use error::{Error, FileFault, SettingsFault};
#[cfg(fuzzing)]
pub use format::read_hostile;
pub use format::{Export, Form, INLINE_FIELD, Mode, Pruned, RecordSet, SidecarRef, inline_cache};
pub use import::ImportedCache;
pub use local::LocalRecords;
pub use sidecar::Sidecar;
pub use write::{Exported, SidecarUpdate, WriteRequest, write};
