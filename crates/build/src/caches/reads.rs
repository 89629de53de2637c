//! Read sets of steps, from the sidecars of caches.

use cache::Sidecar;
use cache::sidecar::read_set;
use execute::{OpenedFiles, ReadSource};
use futures_util::future::BoxFuture;
use oci::Digest;

/// The sidecars of a build's caches. Nothing is read before a command has a root that fills.
pub(crate) struct SidecarReads(pub(crate) Vec<Sidecar>);

impl ReadSource for SidecarReads {
    fn find(&self, step: Digest) -> BoxFuture<'_, Option<OpenedFiles>> {
        Box::pin(async move {
            for sidecar in &self.0 {
                if let Some(set) = read_set(sidecar, &step).await {
                    return Some(set.layers);
                }
            }
            None
        })
    }
}
