//! The trees of chains, each merged once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use layer::{Chain, LayerIndex};
use oci::Digest;
use store::Store;
use tree::Tree;

use crate::Error;

/// Merged trees by chain ID.
pub(crate) struct Trees {
    store: Store,
    known: Mutex<HashMap<Digest, Known>>,
}

/// A tree, and those of its layers whose indexes came from a cache unverified.
#[derive(Clone)]
struct Known {
    tree: Arc<Tree>,
    lent: Arc<[Digest]>,
}

impl Trees {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The tree of a chain whose layers' indexes are in the store. It is made of the nearest
    /// known tree below.
    pub(crate) fn tree(&self, chain: &Chain) -> Result<Arc<Tree>, Error> {
        let Some(id) = chain.id() else { return Ok(Arc::new(Tree::new())) };
        if let Some(known) = self.known(id) {
            return Ok(known.tree);
        }
        let mut above = Vec::new();
        let mut at = chain.clone();
        let mut tree = Tree::new();
        let mut lent = Vec::new();
        while let (Some(id), Some(layer), Some(below)) =
            (at.id(), at.top().cloned(), at.below().cloned())
        {
            if let Some(known) = self.known(id) {
                tree = Tree::clone(&known.tree);
                lent.extend(known.lent.iter().copied());
                break;
            }
            above.push(layer.diff_id);
            at = below;
        }
        for diff_id in above.into_iter().rev() {
            // Asked first: a layer that comes meanwhile makes the tree a new one, and not an old one.
            if self.store.is_lent(&diff_id) {
                lent.push(diff_id);
            }
            let index: Arc<LayerIndex> = self.store.index(&diff_id)?;
            tree.apply_layer(diff_id, &index)?;
        }
        let known = Known { tree: Arc::new(tree), lent: lent.into() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, known.clone());
        Ok(known.tree)
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

    /// A tree merged earlier. One that rests on an unverified index is merged again once the
    /// layer's own index is here.
    fn known(&self, id: Digest) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        known.filter(|known| known.lent.iter().all(|diff_id| self.store.is_lent(diff_id)))
    }
}
