//! The assumptions of a build, and their proof by the bytes of layers.

use std::sync::Arc;

use layer::{Assumption, Assumptions, Claim, Layer, LayerIndex, digest_of};
use oci::Digest;

use crate::Store;

impl Store {
    /// Adds to this build an index that a cache has of the highest layer of `chain`: nothing proves
    /// that it is the layer's. It is never written to the disk, serves to look at trees only, and
    /// is replaced by the layer's own when the layer comes. The first one stays.
    pub fn lend_index(&self, chain: &[Layer], index: LayerIndex, from: &Arc<str>) {
        self.loans.add(chain, index, from);
    }

    /// True if a cache lent the index of a layer. Results that were found meanwhile must not be
    /// remembered for other builds.
    pub fn was_lent(&self, diff_id: &Digest) -> bool {
        self.loans.has(diff_id)
    }

    /// True if a layer's index came from a cache and its own is not in the store.
    pub fn is_lent(&self, diff_id: &Digest) -> bool {
        self.was_lent(diff_id) && !self.has_own_index(diff_id)
    }

    /// Returns the layers of which an index was lent, each on top of those below it.
    pub fn lent_chains(&self) -> Vec<Arc<[Layer]>> {
        self.loans.chains()
    }

    /// Returns the assumptions about some layers that are not proved yet.
    pub fn assumptions<'a>(&self, layers: impl IntoIterator<Item = &'a Layer>) -> Assumptions {
        let all: Assumptions = self.loans.of_layers(layers).into_iter().collect();
        self.unproved(&all)
    }

    /// Returns the assumptions that no bytes of layers have proved.
    #[must_use]
    pub fn unproved(&self, assumptions: &Assumptions) -> Assumptions {
        assumptions.filtered(|assumption| self.proof(assumption) != Some(true))
    }

    /// Returns true or false if the layer's bytes decide an assumption; `None` if the layer was not
    /// read.
    pub fn proof(&self, assumption: &Assumption) -> Option<bool> {
        if let Some(known) = self.loans.settled(assumption) {
            return Some(known);
        }
        let found = self.look_for_proof(assumption)?;
        self.loans.settle(assumption.clone(), found);
        Some(found)
    }

    fn look_for_proof(&self, assumption: &Assumption) -> Option<bool> {
        let Assumption { diff_id, claim, .. } = assumption;
        match claim {
            Claim::Index(digest) => Some(self.own_index(diff_id).ok()?.digest() == *digest),
            Claim::File { path, digest } => {
                if !self.is_unpacked(diff_id).ok()? {
                    return None;
                }
                // A path that is really a link or a folder cannot be opened.
                let actual = self.open_file(diff_id, path).and_then(digest_of);
                Some(actual.is_ok_and(|actual| actual == *digest))
            }
        }
    }

    /// Returns the caches that lent something that turned out to be false.
    pub fn false_lenders(&self) -> Vec<Arc<str>> {
        let mut caches: Vec<Arc<str>> = self
            .loans
            .all()
            .into_iter()
            .filter(|assumption| self.proof(assumption) == Some(false))
            .map(|assumption| assumption.cache)
            .collect();
        caches.sort();
        caches.dedup();
        caches
    }

    /// Notes the assumptions of a content, by the digest of its record: a step that is found by
    /// that content or kept under it depends on them.
    pub fn note_content(&self, record: Digest, assumptions: &Assumptions) {
        self.loans.note_content(record, assumptions);
    }

    /// Returns the assumptions of a content, by the digest of its record.
    pub fn content_assumptions(&self, record: &Digest) -> Assumptions {
        self.loans.content(record)
    }
}
