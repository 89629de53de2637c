//! Claims of caches about layers that were not read: builds used them, and nothing has proved them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use oci::Digest;

/// A claim of a cache about a layer, which only the layer's bytes can prove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assumption {
    /// The cache's name, as users know it.
    pub cache: Arc<str>,
    /// The layer.
    pub diff_id: Digest,
    /// The claim.
    pub claim: Claim,
}

/// A cache's claim about a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// The digest of its index ([`LayerIndex::digest`](crate::LayerIndex::digest)).
    Index(Digest),
    /// The bytes of one of its files, found by a seek table.
    File {
        /// The file's path in the index.
        path: Arc<[u8]>,
        /// The digest of the bytes.
        digest: Digest,
    },
}

/// The assumptions that something stands on, none of them proved when they were noted. Cheap to
/// clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Assumptions(Option<Arc<BTreeSet<Assumption>>>);

impl Assumptions {
    /// True if nothing is assumed.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns each assumption.
    pub fn iter(&self) -> impl Iterator<Item = &Assumption> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// Returns these assumptions and others together.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        match (&self.0, &others.0) {
            (_, None) => self.clone(),
            (None, _) => others.clone(),
            (Some(own), Some(more)) if more.is_subset(own) => self.clone(),
            _ => self.iter().chain(others.iter()).cloned().collect(),
        }
    }

    /// Returns the assumptions for which `keep` is true.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Assumption) -> bool) -> Self {
        match self.iter().all(&keep) {
            true => self.clone(),
            false => self.iter().filter(|assumption| keep(assumption)).cloned().collect(),
        }
    }
}

impl FromIterator<Assumption> for Assumptions {
    fn from_iter<I: IntoIterator<Item = Assumption>>(assumptions: I) -> Self {
        let all: BTreeSet<Assumption> = assumptions.into_iter().collect();
        Self((!all.is_empty()).then(|| Arc::new(all)))
    }
}

impl fmt::Debug for Assumptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
