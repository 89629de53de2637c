//! A chain of layers: the output of a step.

use std::fmt;
use std::sync::Arc;

use oci::Digest;

use crate::{Assumptions, Layer};

/// Layers from the bottom up. Chains with a common base share it; cloning is cheap. The empty chain
/// is the empty tree.
///
/// A chain carries the assumptions under which it was made. They are no part of its identity: its
/// ID is that of its layers.
#[derive(Clone, Default)]
pub struct Chain {
    top: Option<Arc<Link>>,
    assumed: Assumptions,
}

struct Link {
    layer: Layer,
    below: Chain,
    id: Digest,
    dated_id: Digest,
    length: usize,
}

impl Chain {
    /// The empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns this chain with a layer on top.
    pub fn with(&self, layer: Layer) -> Self {
        let id = match &self.top {
            None => layer.diff_id,
            Some(top) => Digest::of(format!("{} {}", top.id, layer.diff_id)),
        };
        let below = self.dated_id().map(|id| id.to_string()).unwrap_or_default();
        let created = layer.created.as_deref().unwrap_or_default();
        let dated_id = Digest::of(format!("{below} {} {created}", layer.diff_id));
        let length = self.len() + 1;
        let link = Link { layer, below: self.clone(), id, dated_id, length };
        Self { top: Some(Arc::new(link)), assumed: self.assumed.clone() }
    }

    /// Returns this chain as one that was also made under other assumptions.
    #[must_use]
    pub fn assuming(mut self, assumed: &Assumptions) -> Self {
        self.assumed = self.assumed.and(assumed);
        self
    }

    /// Returns this chain as one that was made under these assumptions and no others.
    #[must_use]
    pub fn only_assuming(mut self, assumed: Assumptions) -> Self {
        self.assumed = assumed;
        self
    }

    /// The assumptions under which it was made.
    pub fn assumed(&self) -> &Assumptions {
        &self.assumed
    }

    /// OCI's chain ID (image-spec, config.md); none for the empty chain.
    pub fn id(&self) -> Option<Digest> {
        self.top.as_ref().map(|top| top.id)
    }

    /// Returns an ID of the layers and of the times at which they were made: steps can make the
    /// same layers at different times.
    pub fn dated_id(&self) -> Option<Digest> {
        self.top.as_ref().map(|top| top.dated_id)
    }

    /// The highest layer.
    pub fn top(&self) -> Option<&Layer> {
        self.top.as_ref().map(|top| &top.layer)
    }

    /// The chain below the highest layer.
    pub fn below(&self) -> Option<&Chain> {
        self.top.as_ref().map(|top| &top.below)
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.top.as_ref().map_or(0, |top| top.length)
    }

    /// True if there is no layer.
    pub fn is_empty(&self) -> bool {
        self.top.is_none()
    }

    /// The layers from the bottom up.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::with_capacity(self.len());
        let mut at = self;
        while let Some(top) = &at.top {
            layers.push(top.layer.clone());
            at = &top.below;
        }
        layers.reverse();
        layers
    }
}

impl FromIterator<Layer> for Chain {
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        layers.into_iter().fold(Self::new(), |chain, layer| chain.with(layer))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.layers().iter().map(|layer| layer.diff_id)).finish()
    }
}

impl Drop for Link {
    /// Drops a long chain link by link: the compiler's recursive drop would use a stack frame for
    /// each.
    fn drop(&mut self) {
        let mut below = self.below.top.take();
        while let Some(link) = below {
            below = Arc::into_inner(link).and_then(|mut link| link.below.top.take());
        }
    }
}
