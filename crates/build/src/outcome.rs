//! The result of a build.

use oci::{Descriptor, Digest};

use crate::reason::Explained;

/// A build that ended well.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The image, where one was made.
    pub image: Option<BuiltImage>,
    /// Steps that were found.
    pub cached: usize,
    /// Steps that ran.
    pub ran: usize,
    /// Bytes and requests.
    pub traffic: Traffic,
    /// Bytes of layers that commands ran on and that did not have to come.
    pub not_needed: u64,
    /// The cache's manifest, where one was left in a registry or folder; the last one of several.
    pub cache_manifest: Option<Descriptor>,
    /// Why steps ran, where that was asked.
    pub explained: Option<Vec<Explained>>,
    /// Warnings about the Dockerfile and the arguments.
    pub warnings: Vec<String>,
}

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its manifest, or its index.
    pub descriptor: Descriptor,
    /// Its config; an index has none of its own.
    pub config: Option<Digest>,
    /// Its names.
    pub names: Vec<String>,
}

impl BuiltImage {
    /// Docker's image ID: the digest of its config, or of its index.
    pub fn id(&self) -> Digest {
        self.config.unwrap_or(self.descriptor.digest)
    }
}

/// Traffic with registries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests to registries.
    pub requests: u64,
    /// Bytes received in bodies.
    pub down: u64,
    /// Bytes sent in bodies.
    pub up: u64,
}
