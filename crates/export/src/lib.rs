//! Outputs as something a user holds.
//!
//! Receives a product (for each platform a config, a chain of layers and what attests to them);
//! hands over images and indexes in a registry, an OCI layout, an archive for `docker load`, a
//! folder or a tar of files. Invariant: equal configs and layers give equal bytes; nothing has its
//! final name before it is complete.

#![forbid(unsafe_code)]

mod annotations;
mod archive;
mod engine;
mod error;
mod files;
mod folder;
mod history;
mod image;
mod product;
mod push;
mod rewrite;
mod writing;

pub use annotations::{Annotation, AnnotationLevel};
pub use archive::{ArchiveKind, ArchiveRequest, write_archive, write_images, write_layout};
pub use engine::{Engine, load};
pub use error::Error;
pub use files::{FilesRequest, FolderTarget, write_folder, write_tar};
pub use history::HistoryEntry;
pub use image::{Format, Image, Manifested};
pub use product::{
    Attestation, Document, Documents, ImageDocuments, PlatformImage, Product, Subject,
};
pub use push::{PushRequest, push};
pub use writing::{EpochChoice, Writing};
