//! The additions of a build to a sidecar.

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use oci::Digest;
use store::Store;

use crate::explain::{self, Fact};
use crate::sidecar::{
    Additions, Catalogue, CatalogueChange, LeftIndexes, ReadSet, ReadyMount, Sidecar, reads,
};

/// Indexes, facts, cache mounts and read sets of a build.
pub struct BuildAdditions {
    indexes: LeftIndexes,
    facts: Vec<Fact>,
    mounts: Vec<ReadyMount>,
    reads: Vec<(Digest, ReadSet)>,
}

impl BuildAdditions {
    /// The indexes of layers that are in the store, and missing in the sidecar or `missed`.
    pub fn indexes(store: &Store, layers: Vec<Digest>, missed: HashSet<Digest>) -> Self {
        let indexes = LeftIndexes {
            store: store.clone(),
            layers,
            missed,
            encoded: Mutex::default(),
            written: Mutex::default(),
        };
        Self { indexes, facts: Vec::new(), mounts: Vec::new(), reads: Vec::new() }
    }

    /// Adds facts, which explain later builds, and cache mounts.
    #[must_use]
    pub fn with(self, facts: Vec<Fact>, mounts: Vec<ReadyMount>) -> Self {
        Self { facts, mounts, ..self }
    }

    /// Adds what steps opened of their roots, which their next runs fetch before they start.
    #[must_use]
    pub fn with_reads(self, reads: Vec<(Digest, ReadSet)>) -> Self {
        Self { reads, ..self }
    }
}

impl Additions for BuildAdditions {
    fn is_news(&self) -> bool {
        let is_empty = self.facts.is_empty() && self.mounts.is_empty() && self.reads.is_empty();
        !is_empty || !self.indexes.missed.is_empty()
    }

    fn change<'a>(
        &'a self,
        sidecar: &'a Sidecar,
        there: &'a Catalogue,
    ) -> BoxFuture<'a, CatalogueChange> {
        Box::pin(async move {
            let mut change = self.indexes.change(there);
            if !self.facts.is_empty() {
                change.put.extend(explain::addition(sidecar, there, &self.facts).await);
            }
            for mount in &self.mounts {
                change.extend(mount.change(there));
            }
            change.extend(reads::change(&self.reads, there));
            change
        })
    }
}
