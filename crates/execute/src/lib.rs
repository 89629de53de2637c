//! Runs each kind of operation.
//!
//! Receives a step and the outputs of its inputs; hands over its output, a chain of layers or a
//! context. Invariant: a step's result depends only on the operation, its inputs and the caller's
//! credentials and folders, and a step that fails or is dropped leaves nothing behind.

#![forbid(unsafe_code)]

mod cache_mount;
mod error;
mod executor;
pub mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod git;
mod http;
mod image;
mod layout;
mod local;
mod mounts;
mod output;
mod read;
mod run;
mod sources;
mod ssh;
mod trees;

pub use cache_mount::{
    CacheMounts, FoundMount, MountSource, ReservedMount, StoredMount, UsedMount,
};
pub use error::Error;
pub use executor::{Credentials, Executor, ExecutorSettings};
pub use image::{BaseImage, FetchedImage, ImageError, Images, layers};
pub use layout::tagged_in_layout;
pub use local::Modes;
pub use output::Output;
pub use sources::Sources;
pub use ssh::{SshAgent, SshKeys};
