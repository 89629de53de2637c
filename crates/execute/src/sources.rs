//! Sources from servers, fetched once in a build for all of its graphs.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use graph::{GitSource, HttpSource, LocalSource, StepId};
use oci::Digest;
use store::ScratchFolder;
use tokio::sync::OnceCell;
use tree::Tree;

use crate::client::BroughtFolder;
use crate::git::{GitRemote, Resolved};
use crate::http::Download;
use crate::source_fetcher::SourceFetcher;
use crate::{Error, StepOutput};

/// Sources from servers. A build uses one graph to find its Dockerfile and another one to build,
/// and both must see the same content.
#[derive(Default)]
pub struct Sources {
    downloads: Once<HttpSource, Download>,
    remotes: Once<GitSource, GitRemote>,
    commits: Once<GitSource, Resolved>,
    checkouts: Once<GitSource, Arc<Tree>>,
    /// Folders of clients, which stay as they are.
    pub(crate) brought: Once<LocalSource, BroughtFolder>,
    /// Checkouts' folders, which trees read until the build ends.
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

    /// The record digests of a download. One that is pinned is not downloaded for it.
    pub(crate) async fn http_digests(
        &self,
        fetcher: &SourceFetcher<'_>,
        id: StepId,
        source: &HttpSource,
    ) -> Result<Vec<Digest>, Error> {
        if let Some(checksum) = source.checksum {
            return Ok(vec![solve::http_record(source, checksum, None)]);
        }
        Ok(vec![self.download(fetcher, id, source).await?.record(source)])
    }

    /// The tree of a download.
    pub(crate) async fn http_tree(
        &self,
        fetcher: &SourceFetcher<'_>,
        id: StepId,
        source: &HttpSource,
    ) -> Result<StepOutput, Error> {
        let tree = self.download(fetcher, id, source).await?.into_tree(source)?;
        Ok(StepOutput::Context(Arc::new(tree)))
    }

    async fn download(
        &self,
        fetcher: &SourceFetcher<'_>,
        id: StepId,
        source: &HttpSource,
    ) -> Result<Download, Error> {
        let cell = self.downloads.of(source);
        cell.get_or_try_init(|| fetcher.download(id, source)).await.cloned()
    }

    /// The record digests of a checkout.
    pub(crate) async fn git_digests(
        &self,
        fetcher: &SourceFetcher<'_>,
        source: &GitSource,
    ) -> Result<Vec<Digest>, Error> {
        Ok(vec![self.resolved(fetcher, source).await?.record(source)])
    }

    /// The tree of a checkout.
    pub(crate) async fn git_tree(
        &self,
        fetcher: &SourceFetcher<'_>,
        source: &GitSource,
    ) -> Result<StepOutput, Error> {
        let cell = self.checkouts.of(source);
        let tree = cell.get_or_try_init(|| self.check_out(fetcher, source)).await?;
        Ok(StepOutput::Context(tree.clone()))
    }

    async fn check_out(
        &self,
        fetcher: &SourceFetcher<'_>,
        source: &GitSource,
    ) -> Result<Arc<Tree>, Error> {
        let found = self.resolved(fetcher, source).await?;
        let remote = self.remote(fetcher, source).await?;
        let checkout = fetcher.check_out(source, &remote, &found).await?;
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).push(checkout.folder);
        Ok(Arc::new(checkout.tree))
    }

    async fn resolved(
        &self,
        fetcher: &SourceFetcher<'_>,
        source: &GitSource,
    ) -> Result<Resolved, Error> {
        let resolve = || async {
            match Resolved::of_commit(source)? {
                Some(known) => Ok(known),
                None => fetcher.resolve(source, &self.remote(fetcher, source).await?).await,
            }
        };
        self.commits.of(source).get_or_try_init(resolve).await.cloned()
    }

    async fn remote(
        &self,
        fetcher: &SourceFetcher<'_>,
        source: &GitSource,
    ) -> Result<GitRemote, Error> {
        let cell = self.remotes.of(source);
        cell.get_or_try_init(|| GitRemote::of(fetcher, source)).await.cloned()
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
