//! The content of a registry.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use oci::Digest;

use super::Seen;
use super::auth::Auth;
use super::faults::Faults;

#[derive(Default)]
pub(super) struct State {
    pub blobs: HashMap<Digest, Bytes>,
    /// The blobs of each repository.
    pub links: HashSet<(String, Digest)>,
    /// Manifests by repository, and tag or digest.
    pub manifests: HashMap<(String, String), (String, Bytes)>,
    pub uploads: HashMap<u64, Vec<u8>>,
    pub next_upload: u64,
    pub seen: Vec<Seen>,
    pub auth: Auth,
    pub faults: Faults,
}

impl State {
    pub(super) fn add_blob(&mut self, repository: &str, bytes: Bytes) -> Digest {
        let digest = Digest::of(&bytes);
        self.blobs.insert(digest, bytes);
        self.links.insert((repository.into(), digest));
        digest
    }

    /// A blob, if the repository has it.
    pub(super) fn linked(&self, repository: &str, digest: &str) -> Option<(Digest, Bytes)> {
        let digest = digest.parse().ok()?;
        let linked = self.links.contains(&(repository.to_owned(), digest));
        linked.then(|| Some((digest, self.blobs.get(&digest)?.clone())))?
    }

    pub(super) fn open_upload(&mut self) -> u64 {
        self.next_upload += 1;
        self.uploads.insert(self.next_upload, Vec::new());
        self.next_upload
    }
}
