//! Layer indexes, without their layers where possible.

use std::sync::Arc;

use futures_util::future::{self, BoxFuture};
use graph::{TaskEvent, TaskId};
use layer::{Layer, LayerIndex};
use oci::Digest;

use crate::{Error, Transfer, all};

/// A source of layer indexes that this store does not have.
pub trait IndexSource: Send + Sync {
    /// The indexes that it has of some layers. An empty result is not an error.
    fn indexes<'a>(&'a self, wanted: &'a [Layer]) -> BoxFuture<'a, Lent>;
}

/// Indexes lent by a source. Nothing proves that they are right.
#[derive(Debug, Default)]
pub struct Lent {
    /// The indexes.
    pub indexes: Vec<LentIndex>,
    /// Warnings about indexes that cannot be used.
    pub warnings: Vec<String>,
}

/// An index that a cache says is a layer's.
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
    /// Sets the source that is asked for indexes before layers are fetched for them. Only the first
    /// call has an effect.
    #[must_use]
    pub fn with_indexes(self, source: Arc<dyn IndexSource>) -> Self {
        let _ = self.shared.indexes.set(source);
        self
    }

    /// Brings the indexes of a chain's layers into the store: from the source of indexes where it
    /// has them, otherwise by unpacking the layers.
    ///
    /// # Errors
    /// As [`Transfer::unpack`].
    pub async fn indexes(&self, chain: &[Layer], task: Option<TaskId>) -> Result<(), Error> {
        if self.without_index(chain).is_empty() {
            return Ok(());
        }
        self.lend_indexes(chain).await;
        let missing = self.without_index(chain);
        let unpacked = missing.into_iter().map(|index| self.unpack_at(chain, index, task));
        all(future::join_all(unpacked).await).map(drop)
    }

    /// Has the source of indexes lend those of a chain's layers that are not here.
    pub(crate) async fn lend_indexes(&self, chain: &[Layer]) {
        let Some(source) = self.shared.indexes.get() else { return };
        let _gate = self.shared.index_gate.lock().await;
        let missing = self.without_index(chain);
        let wanted: Vec<Layer> = missing.iter().map(|index| chain[*index].clone()).collect();
        if !wanted.is_empty() {
            let lent = source.indexes(&wanted).await;
            self.take(chain, lent);
        }
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

    /// The positions of the layers in a chain that have no index in the store.
    fn without_index(&self, chain: &[Layer]) -> Vec<usize> {
        let missing = |index: &usize| !self.store().has_index(&chain[*index].diff_id);
        (0..chain.len()).filter(missing).collect()
    }
}
