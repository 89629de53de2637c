//! All that a build leaves beside a cache, as one change.

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use oci::Digest;
use store::Store;

use super::indexes::LeftIndexes;
use super::{Additions, Beside, Catalogue, Change, ReadyMount};
use crate::explain::{self, Fact};

/// What a build leaves beside a cache.
pub struct Leaving {
    indexes: LeftIndexes,
    facts: Vec<Fact>,
    mounts: Vec<ReadyMount>,
}

impl Leaving {
    /// The indexes of layers, as far as they are in the store and not there yet, or were `missed`.
    pub fn indexes(store: &Store, layers: Vec<Digest>, missed: HashSet<Digest>) -> Self {
        let indexes = LeftIndexes {
            store: store.clone(),
            layers,
            missed,
            encoded: Mutex::default(),
            written: Mutex::default(),
        };
        Self { indexes, facts: Vec::new(), mounts: Vec::new() }
    }

    /// With what explains later builds, and with cache mounts.
    #[must_use]
    pub fn with(self, facts: Vec<Fact>, mounts: Vec<ReadyMount>) -> Self {
        Self { facts, mounts, ..self }
    }
}

impl Additions for Leaving {
    fn is_news(&self) -> bool {
        !self.facts.is_empty() || !self.mounts.is_empty() || !self.indexes.missed.is_empty()
    }

    fn change<'a>(&'a self, beside: &'a Beside, there: &'a Catalogue) -> BoxFuture<'a, Change> {
        Box::pin(async move {
            let mut change = self.indexes.change(there);
            if !self.facts.is_empty() {
                change.put.extend(explain::addition(beside, there, &self.facts).await);
            }
            for mount in &self.mounts {
                change.extend(mount.change(there));
            }
            change
        })
    }
}
