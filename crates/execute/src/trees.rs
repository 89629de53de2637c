//! The trees of chains, each merged once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Digest;
use store::{Chain, LayerIndex, Store, Tree};

use crate::Error;

/// Merged trees by chain ID.
pub(crate) struct Trees {
    store: Store,
    known: Mutex<HashMap<Digest, Arc<Tree>>>,
}

impl Trees {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The tree of a chain whose layers' indexes are in the store. It is made of the nearest
    /// known tree below.
    pub(crate) fn tree(&self, chain: &Chain) -> Result<Arc<Tree>, Error> {
        let Some(id) = chain.id() else { return Ok(Arc::new(Tree::new())) };
        if let Some(tree) = self.known(id) {
            return Ok(tree);
        }
        let mut above = Vec::new();
        let mut at = chain.clone();
        let mut tree = Tree::new();
        while let (Some(id), Some(layer), Some(below)) =
            (at.id(), at.top().cloned(), at.below().cloned())
        {
            if let Some(known) = self.known(id) {
                tree = Tree::clone(&known);
                break;
            }
            above.push(layer.diff_id);
            at = below;
        }
        for diff_id in above.into_iter().rev() {
            let index: Arc<LayerIndex> = self.store.index(&diff_id)?;
            tree.apply_layer(diff_id, &index)?;
        }
        let tree = Arc::new(tree);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tree.clone());
        Ok(tree)
    }

    /// The layers of a chain, from the top down, that are above the nearest known tree.
    pub(crate) fn without_tree(&self, chain: &Chain) -> Vec<Digest> {
        let mut above = Vec::new();
        let mut at = chain;
        while let (Some(id), Some(layer), Some(below)) = (at.id(), at.top(), at.below())
            && self.known(id).is_none()
        {
            above.push(layer.diff_id);
            at = below;
        }
        above
    }

    fn known(&self, id: Digest) -> Option<Arc<Tree>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}
