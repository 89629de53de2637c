//! Runs each kind of operation.
//!
//! Receives a step and the outputs of its inputs; hands over its output, a chain of layers or a
//! context. Invariant: a step's result depends only on the operation, its inputs and the caller's
//! credentials and folders, and a step that fails or is dropped leaves nothing behind.

#![forbid(unsafe_code)]

mod cache_mount;
mod chains;
mod client;
mod credentials;
mod error;
mod executor;
pub mod files;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub mod fuzzing;
mod git;
mod http;
mod image;
mod layout;
mod lazy;
mod local;
mod mounts;
mod output;
mod read;
mod run;
mod source_fetcher;
mod sources;
mod ssh;
mod trees;
mod turn;

pub use cache_mount::{
    CacheMounts, FoundMount, MountSource, ReservedMount, StoredMount, UsedMount,
};
pub use client::{
    AgentStream, BroughtFolder, ClientCredentials, ClientError, ClientFolder, ClientPolicy,
    ContextFolder, CredentialSource, FolderQuery, FolderSource, PolicySource, SourcePolicy,
};
pub use credentials::BuildCredentials;
pub use error::Error;
pub use executor::{Executor, ExecutorSettings};
pub use image::{BaseImage, FetchedImage, ImageError, Images, LayerCountError, layers};
pub use layout::{LayoutError, tagged_in_layout};
pub use lazy::{OpenedFiles, ReadSource};
pub use local::Modes;
pub use output::StepOutput;
pub use sources::Sources;
pub use ssh::{ClientAgent, KeyError, SshAgent, SshAgentError, SshKeys};
