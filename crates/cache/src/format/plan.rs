//! The content of a cache to be written: records and the chains of their outputs, merged from
//! several builds.
//!
//! Two records are the same if they have the same digest and share a link for each input: both say
//! "this was done to that", so what one knows of an input holds for the other (BuildKit's rule).
//! One exception, for commands with a different result each time: records that read other contents
//! and have other outputs stay apart.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use layer::{Chain, Layer};
use oci::Digest;

/// For each input, the records by which it is known, with the part that is read.
pub(crate) type RecordInputs = Vec<BTreeSet<CacheInput>>;

/// The part of an input that is read, and the record that the input is known by.
pub(crate) type CacheInput = (Option<Digest>, usize);

/// Days since 1970.
pub(crate) type Day = u32;

/// Days after which a use is noted again. Less often, because a build that changes nothing else
/// should send nothing.
const USE_IS_STALE: Day = 7;

/// Records, and every layer that they name.
#[derive(Clone, Debug, Default)]
pub(crate) struct CachePlan {
    pub(crate) records: Vec<PlannedRecord>,
    chains: Vec<Chain>,
    /// Indexes into `chains` by chain ID.
    chain_at: HashMap<Digest, usize>,
    roots: HashMap<Digest, usize>,
    /// Records by digest and a link of their first input.
    by_link: HashMap<(Digest, CacheInput), Vec<usize>>,
    /// The manifest of the sidecar.
    pub(crate) sidecar: Option<Digest>,
    /// True if anything was added since [`CachePlan::settle`].
    is_changed: bool,
}

/// A record to be written.
#[derive(Clone, Debug)]
pub(crate) struct PlannedRecord {
    pub(crate) digest: Digest,
    pub(crate) inputs: RecordInputs,
    /// Chain ID of the output, and its creation time in RFC 3339.
    pub(crate) output: Option<(Digest, String)>,
    /// The day it was last found or made, if known.
    pub(crate) used: Option<Day>,
}

/// A record to insert, with its output.
#[derive(Clone, Debug)]
pub(crate) struct RecordDraft<'a> {
    pub(crate) digest: Digest,
    pub(crate) inputs: RecordInputs,
    pub(crate) output: Option<(&'a Chain, String)>,
    pub(crate) used: Option<Day>,
}

impl CachePlan {
    /// Adds a record, or merges it into the same one. Returns its index.
    pub(crate) fn insert(&mut self, new: RecordDraft<'_>) -> usize {
        match self.same(&new) {
            Some(at) => {
                self.join(at, new);
                at
            }
            None => self.push(new),
        }
    }

    /// Adds a chain's layers, those below first. A known layer stays as it is unless it is in
    /// `replaced`.
    pub(crate) fn keep_chain(&mut self, chain: &Chain, replaced: &HashSet<Digest>) {
        let mut new = Vec::new();
        let mut at = chain;
        while let (Some(id), Some(below)) = (at.id(), at.below()) {
            match self.chain_at.get(&id) {
                Some(_) if !replaced.contains(&id) => break,
                _ => new.push((id, at.clone())),
            }
            at = below;
        }
        for (id, chain) in new.into_iter().rev() {
            match self.chain_at.get(&id) {
                Some(&place) => {
                    self.chains[place] = chain;
                    self.is_changed = true;
                }
                None => {
                    self.chain_at.insert(id, self.chains.len());
                    self.chains.push(chain);
                }
            }
        }
    }

    /// Removes outputs with a lost layer, which `is_lost` tells by chain ID and blob. Their records
    /// stay because others link to them.
    pub(crate) fn forget(&mut self, is_lost: impl Fn(Digest, Digest) -> bool) {
        let mut useless = HashSet::new();
        for chain in &self.chains {
            // `chains` is ordered from the bottom up.
            let below = chain.below().and_then(Chain::id);
            let is_on_useless = below.is_some_and(|below| useless.contains(&below));
            let blob = chain.top().and_then(|layer| layer.blob.as_ref());
            if let Some(id) = chain.id()
                && (is_on_useless || blob.is_some_and(|blob| is_lost(id, blob.digest)))
            {
                useless.insert(id);
            }
        }
        for record in &mut self.records {
            if record.output.as_ref().is_some_and(|(id, _)| useless.contains(id)) {
                record.output = None;
                self.is_changed = true;
            }
        }
    }

    /// Starts counting changes.
    pub(crate) fn settle(&mut self) {
        self.is_changed = false;
    }

    /// True if a record, a link, an output or a use was added since [`CachePlan::settle`].
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The chain that ends in each layer that an output needs, from the bottom up.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        let mut needed: HashSet<Digest> = HashSet::new();
        for (output, _) in self.records.iter().filter_map(|record| record.output.as_ref()) {
            let mut at = self.chain_at.get(output).map(|place| &self.chains[*place]);
            while let Some(chain) = at
                && let Some(id) = chain.id()
                && needed.insert(id)
            {
                at = chain.below();
            }
        }
        let is_needed = |chain: &&Chain| chain.id().is_some_and(|id| needed.contains(&id));
        self.chains.iter().filter(is_needed).cloned().collect()
    }

    /// The top layer of a chain, as it will be written.
    pub(crate) fn layer(&self, chain: Digest) -> Option<&Layer> {
        self.chain_at.get(&chain).and_then(|place| self.chains[*place].top())
    }

    /// Record indexes, each after those that it links to.
    pub(crate) fn order(&self) -> Vec<usize> {
        parents_first(self.records.len(), |record| {
            self.records[record].inputs.iter().flatten().map(|(_, parent)| *parent).collect()
        })
    }

    /// Keeps some records and removes links to others. A record that loses all links of an input is
    /// removed too.
    pub(crate) fn retain(&mut self, keep: &HashSet<usize>) {
        let mut at: BTreeMap<usize, usize> = BTreeMap::new();
        let mut kept = Self {
            chains: std::mem::take(&mut self.chains),
            chain_at: std::mem::take(&mut self.chain_at),
            sidecar: self.sidecar,
            is_changed: true,
            ..Self::default()
        };
        for old in self.order() {
            let record = &self.records[old];
            let moved = |links: &BTreeSet<CacheInput>| -> BTreeSet<CacheInput> {
                links.iter().filter_map(|(part, to)| Some((*part, *at.get(to)?))).collect()
            };
            let inputs: RecordInputs = record.inputs.iter().map(moved).collect();
            if keep.contains(&old) && !inputs.iter().any(BTreeSet::is_empty) {
                at.insert(old, kept.records.len());
                kept.add(PlannedRecord { inputs, ..record.clone() });
            }
        }
        *self = kept;
    }

    fn push(&mut self, new: RecordDraft<'_>) -> usize {
        let output = new.output.and_then(|(chain, created)| {
            self.keep_chain(chain, &HashSet::new());
            Some((chain.id()?, created))
        });
        self.is_changed = true;
        self.add(PlannedRecord { digest: new.digest, inputs: new.inputs, output, used: new.used })
    }

    fn add(&mut self, record: PlannedRecord) -> usize {
        let at = self.records.len();
        match record.inputs.first() {
            None => {
                self.roots.entry(record.digest).or_insert(at);
            }
            Some(links) => {
                for link in links {
                    self.by_link.entry((record.digest, *link)).or_default().push(at);
                }
            }
        }
        self.records.push(record);
        at
    }

    /// The record that is the same as a new one.
    fn same(&self, new: &RecordDraft<'_>) -> Option<usize> {
        let Some(first) = new.inputs.first() else {
            return self.roots.get(&new.digest).copied();
        };
        let candidates: BTreeSet<usize> = first
            .iter()
            .filter_map(|link| self.by_link.get(&(new.digest, *link)))
            .flatten()
            .copied()
            .collect();
        candidates.into_iter().find(|candidate| {
            let there = &self.records[*candidate];
            let is_other_output = match (&there.output, &new.output) {
                (Some((there, _)), Some((new, _))) => new.id() != Some(*there),
                _ => false,
            };
            there.inputs.len() == new.inputs.len()
                && std::iter::zip(&there.inputs, &new.inputs).all(|(there, new)| {
                    let (known, read) = (self.contents(there), self.contents(new));
                    let agree = if is_other_output {
                        known == read
                    } else {
                        known.is_empty() || read.is_empty() || !known.is_disjoint(&read)
                    };
                    agree && !there.is_disjoint(new)
                })
        })
    }

    /// Links to contents that were read and to images: whole inputs whose records have no inputs.
    fn contents(&self, links: &BTreeSet<CacheInput>) -> BTreeSet<usize> {
        let is_root =
            |(part, to): &&CacheInput| part.is_none() && self.records[*to].inputs.is_empty();
        links.iter().filter(is_root).map(|(_, to)| *to).collect()
    }

    fn join(&mut self, at: usize, new: RecordDraft<'_>) {
        for (input, links) in new.inputs.iter().enumerate() {
            for link in links {
                // Readers refuse a cache with a loop.
                if self.records[at].inputs[input].contains(link) || self.stands_on(link.1, at) {
                    continue;
                }
                self.records[at].inputs[input].insert(*link);
                if input == 0 {
                    self.by_link.entry((new.digest, *link)).or_default().push(at);
                }
                self.is_changed = true;
            }
        }
        let record = &mut self.records[at];
        if let Some(day) = new.used {
            self.is_changed |= record.used.is_some_and(|used| used + USE_IS_STALE <= day);
            record.used = record.used.max(Some(day));
        }
        let Some((chain, created)) = new.output else { return };
        let Some(id) = chain.id() else { return };
        // The same output is not a change even if its time differs: two steps can make one layer,
        // and a cache keeps one time for it.
        let replaces = match &self.records[at].output {
            None => true,
            Some((known, there)) => *known != id && time(&created) > time(there),
        };
        self.keep_chain(chain, &HashSet::new());
        if replaces {
            self.records[at].output = Some((id, created));
            self.is_changed = true;
        }
    }

    /// True if a record is another one, or links to it directly or indirectly.
    fn stands_on(&self, record: usize, other: usize) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![record];
        while let Some(at) = open.pop() {
            if at == other {
                return true;
            }
            if seen.insert(at) {
                open.extend(self.records[at].inputs.iter().flatten().map(|(_, parent)| *parent));
            }
        }
        false
    }
}

/// The numbers below `count`, each after its parents. The order within a loop is arbitrary.
pub(crate) fn parents_first(count: usize, parents: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    let mut seen = vec![false; count];
    let mut order = Vec::with_capacity(count);
    for start in 0..count {
        let mut open = vec![(start, false)];
        while let Some((at, leaving)) = open.pop() {
            if leaving {
                order.push(at);
            } else if !std::mem::replace(&mut seen[at], true) {
                open.push((at, true));
                open.extend(parents(at).into_iter().map(|parent| (parent, false)));
            }
        }
    }
    order
}

/// Parses a time; `None`, which sorts first, if it cannot be read.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests;
