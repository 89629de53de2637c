//! Indexes from caches, lent to one build: they serve to look at trees only, and the results that
//! depend on them are recorded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use layer::{Assumption, Assumptions, Claim, Layer, LayerIndex};
use oci::Digest;

use crate::disk::lock;

/// The indexes that caches lent to a build.
#[derive(Default)]
pub(crate) struct Loans {
    lent: Mutex<HashMap<Digest, Loan>>,
    /// Contents that were computed with the help of lent indexes, by the digests of their records.
    contents: Mutex<HashMap<Digest, Assumptions>>,
    /// Assumptions that were found true or false.
    settled: Mutex<HashMap<Assumption, bool>>,
}

struct Loan {
    index: Arc<LayerIndex>,
    digest: Digest,
    /// The cache.
    from: Arc<str>,
    /// The layer, on top of those below it.
    chain: Arc<[Layer]>,
    /// Digests of files that were read by one of its seek tables.
    files: BTreeMap<Arc<[u8]>, Digest>,
}

impl Loan {
    fn assumptions(&self, diff_id: Digest) -> impl Iterator<Item = Assumption> {
        let index = std::iter::once(Claim::Index(self.digest));
        let files = self.files.iter();
        let files = files.map(|(path, digest)| Claim::File { path: path.clone(), digest: *digest });
        let cache = self.from.clone();
        index.chain(files).map(move |claim| Assumption { cache: cache.clone(), diff_id, claim })
    }
}

impl Loans {
    /// Adds the index that a cache has of the highest layer of `chain`. The first one stays.
    pub(crate) fn add(&self, chain: &[Layer], index: LayerIndex, from: &Arc<str>) {
        let Some(layer) = chain.last() else { return };
        lock(&self.lent).entry(layer.diff_id).or_insert_with(|| Loan {
            digest: index.digest(),
            index: Arc::new(index),
            from: from.clone(),
            chain: chain.into(),
            files: BTreeMap::new(),
        });
    }

    pub(crate) fn index(&self, diff_id: &Digest) -> Option<Arc<LayerIndex>> {
        lock(&self.lent).get(diff_id).map(|loan| loan.index.clone())
    }

    pub(crate) fn has(&self, diff_id: &Digest) -> bool {
        lock(&self.lent).contains_key(diff_id)
    }

    /// The layers, each on top of those below it.
    pub(crate) fn chains(&self) -> Vec<Arc<[Layer]>> {
        lock(&self.lent).values().map(|loan| loan.chain.clone()).collect()
    }

    /// The assumptions about some layers, proved or not.
    pub(crate) fn of_layers<'a>(
        &self,
        layers: impl IntoIterator<Item = &'a Layer>,
    ) -> Vec<Assumption> {
        let lent = lock(&self.lent);
        if lent.is_empty() {
            return Vec::new();
        }
        let of = |layer: &'a Layer| Some((layer.diff_id, lent.get(&layer.diff_id)?));
        let found = layers.into_iter().filter_map(of);
        found.flat_map(|(diff_id, loan)| loan.assumptions(diff_id)).collect()
    }

    /// All assumptions, proved or not.
    pub(crate) fn all(&self) -> Vec<Assumption> {
        let lent = lock(&self.lent);
        lent.iter().flat_map(|(diff_id, loan)| loan.assumptions(*diff_id)).collect()
    }

    /// True or false for an assumption that was settled before.
    pub(crate) fn settled(&self, assumption: &Assumption) -> Option<bool> {
        lock(&self.settled).get(assumption).copied()
    }

    pub(crate) fn settle(&self, assumption: Assumption, is_true: bool) {
        lock(&self.settled).insert(assumption, is_true);
    }

    /// Notes the digest of a file that was found by a seek table of a lent index.
    pub(crate) fn note_file(&self, diff_id: &Digest, path: &Arc<[u8]>, digest: Digest) {
        if let Some(loan) = lock(&self.lent).get_mut(diff_id) {
            loan.files.insert(path.clone(), digest);
        }
    }

    pub(crate) fn note_content(&self, record: Digest, assumptions: &Assumptions) {
        if assumptions.is_empty() {
            return;
        }
        let mut contents = lock(&self.contents);
        let known = contents.entry(record).or_default();
        *known = known.and(assumptions);
    }

    pub(crate) fn content(&self, record: &Digest) -> Assumptions {
        lock(&self.contents).get(record).cloned().unwrap_or_default()
    }
}
