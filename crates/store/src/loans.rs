//! Indexes from caches, lent to one build: they serve to look at trees only, and the results that
//! depend on them are recorded.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use oci::{Digest, Hasher};

use crate::partial::Parts;
use crate::store::lock;
use crate::{Assumption, Assumptions, Claim, Layer, LayerIndex, Store};

/// The indexes that caches lent to a build.
#[derive(Default)]
pub(crate) struct Loans {
    lent: Mutex<HashMap<Digest, Loan>>,
    /// Contents that were computed with the help of lent indexes, by the digests of their records.
    contents: Mutex<HashMap<Digest, Assumptions>>,
    /// Assumptions that were found true or false.
    settled: Mutex<HashMap<Assumption, bool>>,
    /// Files of layers that are not unpacked.
    pub(crate) parts: Parts,
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

impl Store {
    /// Returns the same root for a build of its own, to which nothing was lent.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { loans: Arc::default(), ..self.clone() }
    }

    /// Adds to this build an index that a cache has of the highest layer of `chain`: nothing proves
    /// that it is the layer's. It is never written to the disk, serves to look at trees only, and
    /// is replaced by the layer's own when the layer comes. The first one stays.
    pub fn lend_index(&self, chain: &[Layer], index: LayerIndex, from: &Arc<str>) {
        let Some(layer) = chain.last() else { return };
        lock(&self.loans.lent).entry(layer.diff_id).or_insert_with(|| Loan {
            digest: index.digest(),
            index: Arc::new(index),
            from: from.clone(),
            chain: chain.into(),
            files: BTreeMap::new(),
        });
    }

    pub(crate) fn lent_index(&self, diff_id: &Digest) -> Option<Arc<LayerIndex>> {
        lock(&self.loans.lent).get(diff_id).map(|loan| loan.index.clone())
    }

    /// True if a cache lent the index of a layer. Results that were found meanwhile must not be
    /// remembered for other builds.
    pub fn was_lent(&self, diff_id: &Digest) -> bool {
        lock(&self.loans.lent).contains_key(diff_id)
    }

    /// True if a layer's index came from a cache and its own is not in the store.
    pub fn is_lent(&self, diff_id: &Digest) -> bool {
        lock(&self.loans.lent).contains_key(diff_id) && !self.has_own_index(diff_id)
    }

    /// Returns the assumptions about some layers that are not proved yet.
    pub fn assumptions<'a>(&self, layers: impl IntoIterator<Item = &'a Layer>) -> Assumptions {
        let lent = lock(&self.loans.lent);
        if lent.is_empty() {
            return Assumptions::default();
        }
        let of = |layer: &'a Layer| Some((layer.diff_id, lent.get(&layer.diff_id)?));
        let all: Vec<Assumption> = layers
            .into_iter()
            .filter_map(of)
            .flat_map(|(diff_id, loan)| loan.assumptions(diff_id))
            .collect();
        drop(lent);
        self.unproved(&all.into_iter().collect())
    }

    /// Returns the assumptions that no bytes of layers have proved.
    #[must_use]
    pub fn unproved(&self, assumptions: &Assumptions) -> Assumptions {
        assumptions.filtered(|assumption| self.proof(assumption) != Some(true))
    }

    /// Returns true or false if the layer's bytes decide an assumption; `None` if the layer was not
    /// read.
    pub fn proof(&self, assumption: &Assumption) -> Option<bool> {
        if let Some(known) = lock(&self.loans.settled).get(assumption) {
            return Some(*known);
        }
        let found = self.look_for_proof(assumption)?;
        lock(&self.loans.settled).insert(assumption.clone(), found);
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
                Some(self.file_digest(diff_id, path).is_ok_and(|actual| actual == *digest))
            }
        }
    }

    /// Returns the caches that lent something that turned out to be false.
    pub fn false_lenders(&self) -> Vec<Arc<str>> {
        let lent = lock(&self.loans.lent);
        let all: Vec<Assumption> =
            lent.iter().flat_map(|(diff_id, loan)| loan.assumptions(*diff_id)).collect();
        drop(lent);
        let mut caches: Vec<Arc<str>> = all
            .into_iter()
            .filter(|assumption| self.proof(assumption) == Some(false))
            .map(|assumption| assumption.cache)
            .collect();
        caches.sort();
        caches.dedup();
        caches
    }

    /// Returns the layers of which an index was lent, each on top of those below it.
    pub fn lent_chains(&self) -> Vec<Arc<[Layer]>> {
        lock(&self.loans.lent).values().map(|loan| loan.chain.clone()).collect()
    }

    /// Notes the assumptions of a content, by the digest of its record: a step that is found by
    /// that content or kept under it depends on them.
    pub fn note_content(&self, record: Digest, assumptions: &Assumptions) {
        if assumptions.is_empty() {
            return;
        }
        let mut contents = lock(&self.loans.contents);
        let known = contents.entry(record).or_default();
        *known = known.and(assumptions);
    }

    /// Returns the assumptions of a content, by the digest of its record.
    pub fn content_assumptions(&self, record: &Digest) -> Assumptions {
        lock(&self.loans.contents).get(record).cloned().unwrap_or_default()
    }

    /// Notes the digest of a file that was found by a seek table of a lent index.
    pub(crate) fn note_part(&self, diff_id: &Digest, path: &Arc<[u8]>, digest: Digest) {
        if let Some(loan) = lock(&self.loans.lent).get_mut(diff_id) {
            loan.files.insert(path.clone(), digest);
        }
    }

    fn file_digest(&self, diff_id: &Digest, path: &[u8]) -> io::Result<Digest> {
        digest_of(self.open_file(diff_id, path)?)
    }
}

/// Returns the digest of a reader's bytes.
pub(crate) fn digest_of(mut reader: impl io::Read) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
