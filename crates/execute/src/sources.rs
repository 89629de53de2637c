//! Sources from servers, fetched once in a build for all of its graphs.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use graph::{GitSource, HttpSource};
use oci::Digest;
use store::{ScratchFolder, Tree};
use tokio::sync::OnceCell;

use crate::git::{GitRemote, Resolved};
use crate::http::Download;

/// Sources from servers. A build uses one graph to find its Dockerfile and another one to build,
/// and both must see the same content.
#[derive(Default)]
pub struct Sources {
    pub(crate) downloads: Once<HttpSource, Download>,
    pub(crate) remotes: Once<GitSource, GitRemote>,
    pub(crate) commits: Once<GitSource, Resolved>,
    pub(crate) checkouts: Once<GitSource, Arc<Tree>>,
    /// Checkouts' folders, which trees read.
    folders: Mutex<Vec<ScratchFolder>>,
}

impl Sources {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a file known as what a source names: no server is asked for it.
    pub fn lend(&self, source: &HttpSource, digest: Digest, size: u64, file: File) {
        let download = Download { digest, size, file: Arc::new(file), modified: None };
        // An earlier caller has set it to the same.
        let _ = self.downloads.of(source).set(download);
    }

    /// The digest of a download, where it is known.
    pub fn digest(&self, source: &HttpSource) -> Option<Digest> {
        let known = self.downloads.of(source).get().map(|download| download.digest);
        source.checksum.or(known)
    }

    /// The commit of a checkout, where it is known.
    pub fn commit(&self, source: &GitSource) -> Option<String> {
        self.commits.of(source).get().map(|resolved| resolved.commit.clone())
    }

    /// Keeps a folder that a tree reads until the build ends.
    pub(crate) fn keep(&self, folder: ScratchFolder) {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
    }
}

/// Values that are computed once for each key.
pub(crate) struct Once<K, T>(Mutex<HashMap<K, Arc<OnceCell<T>>>>);

impl<K, T> Default for Once<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, T> Once<K, T> {
    pub(crate) fn of(&self, key: &K) -> Arc<OnceCell<T>> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match cells.get(key) {
            Some(cell) => cell.clone(),
            None => cells.entry(key.clone()).or_default().clone(),
        }
    }
}
