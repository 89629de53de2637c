//! Indexes of layers, without the layers where that is possible.

use std::sync::Arc;

use futures_util::future::{self, BoxFuture};
use graph::TaskId;
use oci::Digest;
use store::{Layer, LayerIndex};

use crate::{Error, Transfer, all};

/// Knows indexes of layers that are not here.
pub trait IndexSource: Send + Sync {
    /// Those that it has of the layers, by diffID. That it has none is no error.
    fn indexes<'a>(&'a self, wanted: &'a [Digest]) -> BoxFuture<'a, Vec<(Digest, LayerIndex)>>;
}

impl Transfer {
    /// With somebody who is asked for indexes before layers are fetched for them. The first one
    /// stays.
    #[must_use]
    pub fn with_indexes(self, source: Arc<dyn IndexSource>) -> Self {
        let _ = self.shared.indexes.set(source);
        self
    }

    /// Brings the indexes of a chain's layers here: alone where somebody has them, else with their
    /// layers.
    ///
    /// # Errors
    /// As [`Transfer::unpack`].
    pub async fn indexes(&self, chain: &[Layer], task: Option<TaskId>) -> Result<(), Error> {
        if self.without_index(chain).is_empty() {
            return Ok(());
        }
        if let Some(source) = self.shared.indexes.get() {
            let _gate = self.shared.index_gate.lock().await;
            let missing = self.without_index(chain);
            let wanted: Vec<Digest> = missing.iter().map(|index| chain[*index].diff_id).collect();
            if !wanted.is_empty() {
                for (diff_id, index) in source.indexes(&wanted).await {
                    self.store().lend_index(&diff_id, index);
                }
            }
        }
        let missing = self.without_index(chain);
        let unpacked = missing.into_iter().map(|index| self.unpack_at(chain, index, task));
        all(future::join_all(unpacked).await).map(drop)
    }

    /// Places in a chain of the layers that have no index here.
    fn without_index(&self, chain: &[Layer]) -> Vec<usize> {
        let missing = |index: &usize| !self.store().has_index(&chain[*index].diff_id);
        (0..chain.len()).filter(missing).collect()
    }
}
