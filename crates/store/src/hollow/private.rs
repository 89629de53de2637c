//! Folders of layers that one build alone uses.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use oci::Digest;

use super::HollowLayer;
use crate::disk::{TemporaryFolder, lock};
use crate::folder::open_root;
use crate::layer_roots::LayerRoot;
use crate::{Result, Store};

/// A folder for the overlays of one build: of a hollow layer, or of a layer that was unpacked with
/// the help of a lent index, on which the headers of some of its folders rest.
pub(crate) struct PrivateLayer {
    pub(crate) root: Arc<LayerRoot>,
    pub(crate) folder: Arc<OwnedFd>,
    pub(crate) hollow: Option<Arc<HollowLayer>>,
    _files: TemporaryFolder,
}

impl PrivateLayer {
    pub(crate) fn new(
        files: TemporaryFolder,
        path: PathBuf,
        hollow: Option<Arc<HollowLayer>>,
        prefix: Option<&str>,
    ) -> Result<Self> {
        let folder = Arc::new(open_root(&path)?);
        Ok(Self { root: Arc::new(LayerRoot::read(path, prefix)?), folder, hollow, _files: files })
    }
}

/// The private layers of a build.
#[derive(Default)]
pub(crate) struct PrivateLayers(Mutex<HashMap<Digest, Arc<PrivateLayer>>>);

impl PrivateLayers {
    pub(crate) fn get(&self, diff_id: &Digest) -> Option<Arc<PrivateLayer>> {
        lock(&self.0).get(diff_id).cloned()
    }

    pub(crate) fn insert(&self, diff_id: Digest, layer: PrivateLayer) {
        lock(&self.0).insert(diff_id, Arc::new(layer));
    }

    fn hollow_layers(&self) -> Vec<Arc<HollowLayer>> {
        lock(&self.0).values().filter_map(|layer| layer.hollow.clone()).collect()
    }

    fn has_hollow(&self) -> bool {
        lock(&self.0).values().any(|layer| layer.hollow.is_some())
    }

    /// A layer that is whole.
    pub(crate) fn whole(&self, diff_id: &Digest) -> Option<Arc<PrivateLayer>> {
        self.get(diff_id).filter(|layer| layer.hollow.is_none())
    }
}

impl Store {
    /// True if this build has hollow layers.
    pub fn has_hollow_layers(&self) -> bool {
        self.private.has_hollow()
    }

    /// Bytes of the blobs of hollow layers that this build never read.
    pub fn unread_bytes(&self) -> u64 {
        let unread = |hollow: &HollowLayer| {
            let (read, size) = hollow.progress();
            let is_whole = self.is_unpacked(&hollow.diff_id()).unwrap_or(true)
                || self.has_blob(&hollow.blob_digest()).unwrap_or(true);
            if is_whole { 0 } else { size.saturating_sub(read) }
        };
        self.private.hollow_layers().iter().map(|hollow| unread(hollow)).sum()
    }

    /// Returns a layer of this build that is hollow.
    pub fn hollow_layer(&self, diff_id: &Digest) -> Option<Arc<HollowLayer>> {
        self.private.get(diff_id)?.hollow.clone()
    }
}
