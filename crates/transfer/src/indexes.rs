//! Indexes of layers, without the layers where that is possible.

use std::sync::Arc;

use futures_util::future::{self, BoxFuture};
use graph::{TaskEvent, TaskId};
use oci::Digest;
use store::{Layer, LayerIndex};

use crate::{Error, Transfer, all};

/// Knows indexes of layers that are not here.
pub trait IndexSource: Send + Sync {
    /// Those that it has of the layers. That it has none is no error.
    fn indexes<'a>(&'a self, wanted: &'a [Layer]) -> BoxFuture<'a, Lent>;
}

/// What a source has of some layers. Nothing proves that it is true.
#[derive(Debug, Default)]
pub struct Lent {
    /// The indexes.
    pub indexes: Vec<LentIndex>,
    /// What is to be said of those that are none.
    pub warnings: Vec<String>,
}

/// An index that somebody says is a layer's.
#[derive(Debug)]
pub struct LentIndex {
    /// The layer.
    pub diff_id: Digest,
    /// The index.
    pub index: LayerIndex,
    /// The cache that has it.
    pub cache: Arc<str>,
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
            let wanted: Vec<Layer> = missing.iter().map(|index| chain[*index].clone()).collect();
            if !wanted.is_empty() {
                let lent = source.indexes(&wanted).await;
                self.take(chain, lent);
            }
        }
        let missing = self.without_index(chain);
        let unpacked = missing.into_iter().map(|index| self.unpack_at(chain, index, task));
        all(future::join_all(unpacked).await).map(drop)
    }

    fn take(&self, chain: &[Layer], lent: Lent) {
        for LentIndex { diff_id, index, cache } in lent.indexes {
            if let Some(at) = chain.iter().position(|layer| layer.diff_id == diff_id) {
                self.store().lend_index(&chain[..=at], index, &cache);
            }
        }
        if lent.warnings.is_empty() {
            return;
        }
        let task = self.events().task("[internal] layer indexes of caches", Vec::new());
        self.events().send(task, TaskEvent::Started);
        for warning in lent.warnings {
            self.events().send(task, TaskEvent::Warning(warning.into()));
        }
        self.events().send(task, TaskEvent::Done);
    }

    /// Places in a chain of the layers that have no index here.
    fn without_index(&self, chain: &[Layer]) -> Vec<usize> {
        let missing = |index: &usize| !self.store().has_index(&chain[*index].diff_id);
        (0..chain.len()).filter(missing).collect()
    }
}
