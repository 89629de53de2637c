//! Pruning: a cache that many builds add to stays small enough for BuildKit to read. The least
//! recently used records are removed first.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use oci::{Descriptor, Digest};

use super::plan::{CachePlan, Day, time};

/// The largest config or manifest that BuildKit reads, in bytes.
pub(crate) const BUILDKIT_LIMIT: usize = 1 << 20;

/// Bytes freed beyond what is needed, so that the next builds need not prune again.
const ROOM: usize = BUILDKIT_LIMIT / 8;

/// The records and layers that were removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Number of records.
    pub records: usize,
    /// Number of layers.
    pub layers: usize,
    /// Bytes of those layers' blobs.
    pub bytes: u64,
    /// The latest use of any removed record, in days since 1970, if known.
    pub unused_since: Option<Day>,
}

/// The last use of each record, including uses of records that link to it, directly or not: a record
/// is found only by way of those that it links to.
pub(crate) fn last_uses(plan: &CachePlan) -> Vec<Option<Day>> {
    let mut uses: Vec<Option<Day>> = plan
        .records
        .iter()
        .map(|record| {
            let made = record.output.as_ref().and_then(|(_, created)| time(created));
            let made =
                made.and_then(|time| Day::try_from(time.as_second().div_euclid(86_400)).ok());
            record.used.max(made)
        })
        .collect();
    for at in plan.order().into_iter().rev() {
        let last = uses[at];
        for (_, parent) in plan.records[at].inputs.iter().flatten() {
            uses[*parent] = uses[*parent].max(last);
        }
    }
    uses
}

/// Removes the least recently used records until the larger document, whose size in bytes `measure`
/// returns, is small enough. Records used `today` always stay, and all records where the day is
/// unknown. Returns `None` if nothing is removed.
///
/// # Errors
/// The errors of `measure`.
pub(crate) fn fit<E>(
    plan: &mut CachePlan,
    blobs: &HashMap<Digest, Descriptor>,
    today: Option<Day>,
    measure: impl Fn(&CachePlan) -> Result<usize, E>,
) -> Result<Option<Pruned>, E> {
    let Some(today) = today else { return Ok(None) };
    if measure(plan)? <= BUILDKIT_LIMIT {
        return Ok(None);
    }
    let uses = last_uses(plan);
    let mut place = vec![0; plan.records.len()];
    for (rank, at) in plan.order().into_iter().enumerate() {
        place[at] = rank;
    }
    // A record is removed before those that it links to.
    let is_old = |at: &usize| uses[*at] < Some(today);
    let mut oldest: Vec<usize> = (0..plan.records.len()).filter(is_old).collect();
    oldest.sort_by_key(|at| (uses[*at], Reverse(place[*at])));
    let without = |count: usize| {
        let gone: HashSet<usize> = oldest[..count].iter().copied().collect();
        let mut smaller = plan.clone();
        smaller.retain(&(0..plan.records.len()).filter(|at| !gone.contains(at)).collect());
        smaller
    };
    // The smallest number that is enough, or all candidates if even that is not enough.
    let (mut low, mut high) = (0, oldest.len());
    while low < high {
        let middle = low.midpoint(high);
        if measure(&without(middle))? <= BUILDKIT_LIMIT - ROOM {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(take_out(plan, &oldest[..low], &uses, blobs))
}

pub(crate) fn take_out(
    plan: &mut CachePlan,
    gone: &[usize],
    uses: &[Option<Day>],
    blobs: &HashMap<Digest, Descriptor>,
) -> Option<Pruned> {
    let before = (plan.records.len(), kept_blobs(plan, blobs));
    let unused_since = gone.iter().filter_map(|at| uses[*at]).max();
    let gone: HashSet<usize> = gone.iter().copied().collect();
    plan.retain(&(0..plan.records.len()).filter(|at| !gone.contains(at)).collect());
    let after = kept_blobs(plan, blobs);
    let lost = before.1.iter().filter(|(digest, _)| !after.contains_key(*digest));
    let pruned = Pruned {
        records: before.0 - plan.records.len(),
        layers: lost.clone().count(),
        bytes: lost.map(|(_, size)| size).sum(),
        unused_since,
    };
    (pruned.records > 0).then_some(pruned)
}

/// Sizes of the blobs that a plan needs, by digest.
pub(crate) fn kept_blobs(
    plan: &CachePlan,
    blobs: &HashMap<Digest, Descriptor>,
) -> HashMap<Digest, u64> {
    let chains = plan.chains();
    let blobs = chains.iter().filter_map(|chain| blobs.get(&chain.id()?));
    blobs.map(|blob| (blob.digest, blob.size)).collect()
}

impl Pruned {
    /// A sentence for the user.
    pub fn note(&self, today: Option<Day>) -> String {
        let age = match (self.unused_since, today) {
            (Some(since), Some(today)) if since < today => {
                format!(", not used for {} days or more", today - since)
            }
            _ => ", which were not used for longest".into(),
        };
        format!(
            "{} records and {} layers ({} bytes) left the cache{age}: BuildKit reads documents of at most {BUILDKIT_LIMIT} bytes",
            self.records, self.layers, self.bytes,
        )
    }
}

#[cfg(test)]
mod tests;
