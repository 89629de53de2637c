//! Caches in registries, folders and images: written, read, and written again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod buckets;
mod forms;
mod github;
mod hostile;
mod maps;
mod merge;
mod sidecar;
mod warm;
mod world;
