//! What a build took from a cache although nothing proves it: claims of layers that were not read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use oci::Digest;

/// Something that a cache says of a layer, and that only the layer's bytes can prove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assumption {
    /// How people call the cache.
    pub cache: Arc<str>,
    /// The layer.
    pub diff_id: Digest,
    /// What it says.
    pub claim: Claim,
}

/// What a cache says of a layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// The digest of its index ([`LayerIndex::digest`](crate::LayerIndex::digest)).
    Index(Digest),
    /// The bytes of a file of it, found by a seek table.
    File {
        /// The file, as the index has it.
        path: Arc<[u8]>,
        /// Digest of the bytes.
        digest: Digest,
    },
}

/// What something stands on: none of it was proved when it was noted. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Assumptions(Option<Arc<BTreeSet<Assumption>>>);

impl Assumptions {
    /// Whether nothing is assumed.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Assumption> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// These and others.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        match (&self.0, &others.0) {
            (_, None) => self.clone(),
            (None, _) => others.clone(),
            (Some(own), Some(more)) if more.is_subset(own) => self.clone(),
            _ => self.iter().chain(others.iter()).cloned().collect(),
        }
    }

    /// Those of which something is true.
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
