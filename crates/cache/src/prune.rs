//! A cache that many builds add to is kept small enough for BuildKit to read: what was not used
//! for longest goes first.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use oci::{Descriptor, Digest};

use crate::plan::{Day, Plan, time};

/// BuildKit reads no config and no manifest that is larger, in bytes.
pub(crate) const BUILDKIT_LIMIT: usize = 1 << 20;

/// Room that is made beyond what is needed, in bytes: not every build is to prune.
const ROOM: usize = BUILDKIT_LIMIT / 8;

/// What went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// How many records.
    pub records: usize,
    /// How many layers, and their bytes as blobs.
    pub layers: usize,
    /// Bytes of those layers.
    pub bytes: u64,
    /// The last use of the records that were used last, in days since 1970; none if nobody knows.
    pub unused_since: Option<Day>,
}

/// When each record was last of use, by what stands on it too: what is known of a record that is
/// used is worth nothing without those that lead to it.
pub(crate) fn last_uses(plan: &Plan) -> Vec<Option<Day>> {
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

/// Takes out the records that were not used for longest until the larger document is small
/// enough; `measure` gives its size in bytes. Records of `today` stay, whatever their number, and
/// all of them where nobody knows the day. None if nothing goes.
///
/// # Errors
/// If the size cannot be measured.
pub(crate) fn fit<E>(
    plan: &mut Plan,
    blobs: &HashMap<Digest, Descriptor>,
    today: Option<Day>,
    measure: impl Fn(&Plan) -> Result<usize, E>,
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
    // What stands on others goes before them.
    let is_old = |at: &usize| uses[*at] < Some(today);
    let mut oldest: Vec<usize> = (0..plan.records.len()).filter(is_old).collect();
    oldest.sort_by_key(|at| (uses[*at], Reverse(place[*at])));
    let without = |count: usize| {
        let gone: HashSet<usize> = oldest[..count].iter().copied().collect();
        let mut smaller = plan.clone();
        smaller.retain(&(0..plan.records.len()).filter(|at| !gone.contains(at)).collect());
        smaller
    };
    // The smallest number that is enough; all that may go, if not even that is.
    let (mut low, mut high) = (0, oldest.len());
    while low < high {
        let middle = low.midpoint(high);
        match measure(&without(middle))? <= BUILDKIT_LIMIT - ROOM {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Ok(take_out(plan, &oldest[..low], &uses, blobs))
}

pub(crate) fn take_out(
    plan: &mut Plan,
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
pub(crate) fn kept_blobs(plan: &Plan, blobs: &HashMap<Digest, Descriptor>) -> HashMap<Digest, u64> {
    let chains = plan.chains();
    let blobs = chains.iter().filter_map(|chain| blobs.get(&chain.id()?));
    blobs.map(|blob| (blob.digest, blob.size)).collect()
}

impl Pruned {
    /// What went and why, in one sentence.
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
