//! The parts of an executor that fetch sources from servers.

use layer::Time;
use solve::Tasks;
use store::ScratchFolder;
use transfer::{Transfer, blocking};

use crate::Error;
use crate::cache_mount::CacheMounts;
use crate::credentials::BuildCredentials;

/// Fetches sources from servers, without a memory of earlier ones: `http.rs` and `git.rs` have a
/// method for each kind, and [`Sources`](crate::Sources) calls them once for each source.
pub(crate) struct SourceFetcher<'a> {
    pub(crate) transfer: &'a Transfer,
    pub(crate) credentials: &'a BuildCredentials,
    /// The folders of bare repositories.
    pub(crate) cache_mounts: &'a CacheMounts,
    pub(crate) tasks: &'a Tasks,
    /// The largest file that is downloaded, in bytes.
    pub(crate) download_limit: u64,
    /// The time that new files get.
    pub(crate) now: Time,
}

impl SourceFetcher<'_> {
    pub(crate) async fn scratch_folder(&self) -> Result<ScratchFolder, Error> {
        let store = self.transfer.store().clone();
        Ok(blocking(move || store.scratch_folder()).await?)
    }
}
