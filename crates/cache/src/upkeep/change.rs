//! Less of a cache, and a cache elsewhere.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use oci::{Descriptor, Digest};
use store::Compression;
use transfer::{LayerFormat, Transfer};

use crate::order::contents;
use crate::place::{Form, Place};
use crate::plan::{Day, Plan};
use crate::prune::{self, Pruned};
use crate::write::{WriteRequest, form_of, write};
use crate::{Error, Export};

/// Another writer may come between so often.
const ATTEMPTS: u32 = 6;

/// What is to leave a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneRule {
    /// What was last used before this day, counted from 1970.
    pub before: Option<Day>,
    /// What was not used for longest, until the layers have at most so many bytes.
    pub most_bytes: Option<u64>,
    /// So many records that were used last stay. Alone: all others go.
    pub keep: Option<usize>,
}

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Records that are where they were copied to now.
    pub records: usize,
    /// Layers that the copied cache has.
    pub layers: usize,
    /// Bytes of their blobs.
    pub bytes: u64,
}

/// Takes out of a cache what a rule says. None if nothing goes. In a folder, blobs that no cache
/// in it needs any more are removed; a registry removes them when it collects garbage.
///
/// # Errors
/// If there is no cache, or the place does not give or take something.
pub async fn prune(
    transfer: &Transfer,
    place: &Place,
    rule: PruneRule,
) -> Result<Option<Pruned>, Error> {
    let client = transfer.client();
    let held = place.hold().await;
    for _ in 0..ATTEMPTS {
        let there = place.import(client).await?;
        let mut plan = there.records.plan();
        let blobs = blobs(&plan);
        let Some(pruned) = apply(&mut plan, &blobs, rule) else { return Ok(None) };
        let form = match form_of(&there.bytes) {
            Some(None) => return Err(Error::NoCache { digest: there.manifest }),
            Some(Some(form)) => form,
            None => Form::ImageManifest,
        };
        let contents = contents(&plan, &blobs);
        let documents = place.documents(&contents, form)?;
        if held.is_none() && place.digest(client).await? != Some(there.manifest) {
            continue;
        }
        place.put(transfer, &contents, &documents).await?;
        if held.is_some() {
            place.sweep().await?;
        }
        return Ok(Some(pruned));
    }
    Err(Error::Contended { place: place.name(), attempts: ATTEMPTS })
}

fn blobs(plan: &Plan) -> HashMap<Digest, Descriptor> {
    let chains = plan.chains();
    let blob = |chain: &store::Chain| Some((chain.id()?, chain.top()?.blob.clone()?));
    chains.iter().filter_map(blob).collect()
}

fn apply(plan: &mut Plan, blobs: &HashMap<Digest, Descriptor>, rule: PruneRule) -> Option<Pruned> {
    let uses = prune::last_uses(plan);
    let mut rank = vec![0; plan.records.len()];
    for (place, at) in plan.order().into_iter().enumerate() {
        rank[at] = place;
    }
    // The last used first; what stands on others goes before them.
    let mut by_use: Vec<usize> = (0..plan.records.len()).collect();
    by_use.sort_by_key(|at| (Reverse(uses[*at]), rank[*at]));
    let kept = rule.keep.unwrap_or(0).min(by_use.len());
    let old = &by_use[kept..];
    let mut gone: Vec<usize> = match (rule.before, rule.most_bytes) {
        (None, None) if rule.keep.is_some() => old.to_vec(),
        (None, _) => Vec::new(),
        (Some(day), _) => {
            old.iter().copied().filter(|at| uses[*at].is_none_or(|used| used < day)).collect()
        }
    };
    if let Some(most) = rule.most_bytes {
        let without = |gone: &[usize]| {
            let gone: HashSet<usize> = gone.iter().copied().collect();
            let mut smaller = plan.clone();
            smaller.retain(&(0..plan.records.len()).filter(|at| !gone.contains(at)).collect());
            prune::kept_blobs(&smaller, blobs).values().sum::<u64>()
        };
        // The fewest of the oldest that are enough.
        let oldest: Vec<usize> = old.iter().rev().copied().collect();
        let (mut low, mut high) = (0, oldest.len());
        while low < high {
            let middle = low.midpoint(high);
            match without(&oldest[..middle]) <= most {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        gone.extend(&oldest[..low]);
    }
    prune::take_out(plan, &gone, &uses, blobs)
}

/// Adds the records and layers of a cache to another place. Registries take layers of their own
/// repositories without seeing a byte of them.
///
/// # Errors
/// If there is no cache, or a place does not give or take something.
pub async fn copy(transfer: &Transfer, from: &Place, to: &Place) -> Result<Copied, Error> {
    let there = from.import(transfer.client()).await?;
    let plan = there.records.plan();
    let blobs = prune::kept_blobs(&plan, &blobs(&plan));
    let request = WriteRequest {
        // Layers stay as they are.
        format: LayerFormat { compression: Compression::Gzip(None), force: false },
        form: form_of(&there.bytes).flatten().unwrap_or(Form::ImageManifest),
        known: None,
        beside: None,
        task: None,
    };
    let written = write(&Export::of_plan(plan), transfer, to, &request).await?;
    let bytes = blobs.values().sum();
    Ok(Copied { records: written.records, layers: blobs.len(), bytes })
}
