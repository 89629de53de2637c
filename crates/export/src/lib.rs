//! Outputs as something a user holds.
//!
//! Receives an image config and a chain of layers; hands over an image in a registry, an OCI
//! layout, an archive for `docker load`, a folder or a tar of files. Invariant: equal configs and
//! layers give equal bytes; nothing has its final name before it is complete.

#![forbid(unsafe_code)]

mod archive;
mod engine;
mod error;
mod files;
mod history;
mod image;
mod push;

pub use archive::{ArchiveKind, ArchiveRequest, write_archive, write_layout};
pub use engine::{Engine, load};
pub use error::Error;
pub use files::{write_folder, write_tar};
pub use history::HistoryEntry;
pub use image::{Format, Image, Manifested};
pub use push::{PushRequest, push, push_documents};
