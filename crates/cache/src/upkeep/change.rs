//! Pruning and copying caches.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use layer::Compression;
use oci::{Descriptor, Digest};
use transfer::{LayerFormat, Transfer};

use crate::backend::Backend;
use crate::format::manifest::StoredForm;
use crate::format::order::contents;
use crate::format::plan::Day;
use crate::format::{CachePlan, Form, Pruned, prune};
use crate::write::{WriteRequest, write};
use crate::{Error, Export};

/// Attempts, between each two of which another writer came.
const ATTEMPTS: u32 = 6;

/// The records to remove from a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneRule {
    /// Removes records that were last used before this day, counted from 1970.
    pub before: Option<Day>,
    /// Removes the least recently used records until the layers have at most this number of bytes.
    pub most_bytes: Option<u64>,
    /// Keeps this number of the most recently used records. Without another rule, all others are
    /// removed.
    pub keep: Option<usize>,
}

/// The result of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Records of the target after the copy.
    pub records: usize,
    /// Layers of the copied cache.
    pub layers: usize,
    /// Bytes of those layers' blobs.
    pub bytes: u64,
}

/// Removes records from a cache. `None` if there is nothing to remove. In a folder, blobs that no
/// cache needs any more are deleted; a registry deletes them when it collects garbage.
///
/// # Errors
/// If there is no cache, or a request to the back end fails.
pub async fn prune(
    transfer: &Transfer,
    backend: &dyn Backend,
    rule: PruneRule,
) -> Result<Option<Pruned>, Error> {
    let lock = backend.lock().await;
    for _ in 0..ATTEMPTS {
        let there = backend.import().await?;
        let mut plan = there.records.plan();
        let blobs = blobs(&plan);
        let Some(pruned) = apply(&mut plan, &blobs, rule) else { return Ok(None) };
        let form = match StoredForm::of(&there.bytes) {
            StoredForm::Image => return Err(Error::NoCache { digest: there.manifest }),
            StoredForm::Cache(form) => form,
            StoredForm::ConfigAlone => Form::ImageManifest,
        };
        let contents = contents(&plan, &blobs);
        let documents = backend.documents(&contents, form)?;
        if lock.is_none() && backend.current_digest().await? != Some(there.manifest) {
            continue;
        }
        backend.put(transfer.store(), &contents, &documents).await?;
        if lock.is_some() {
            backend.sweep().await?;
        }
        return Ok(Some(pruned));
    }
    Err(Error::Contended { backend: backend.name(), attempts: ATTEMPTS })
}

fn blobs(plan: &CachePlan) -> HashMap<Digest, Descriptor> {
    let chains = plan.chains();
    let blob = |chain: &layer::Chain| Some((chain.id()?, chain.top()?.blob.clone()?));
    chains.iter().filter_map(blob).collect()
}

fn apply(
    plan: &mut CachePlan,
    blobs: &HashMap<Digest, Descriptor>,
    rule: PruneRule,
) -> Option<Pruned> {
    let uses = prune::last_uses(plan);
    let mut rank = vec![0; plan.records.len()];
    for (position, at) in plan.order().into_iter().enumerate() {
        rank[at] = position;
    }
    // The most recently used first; within one use, a record comes after those that it links to.
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
        // The smallest number of the oldest records that is enough.
        let oldest: Vec<usize> = old.iter().rev().copied().collect();
        let (mut low, mut high) = (0, oldest.len());
        while low < high {
            let middle = low.midpoint(high);
            if without(&oldest[..middle]) <= most {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        gone.extend(&oldest[..low]);
    }
    prune::take_out(plan, &gone, &uses, blobs)
}

/// Adds the records and layers of a cache to another back end. Within a registry, layers are mounted
/// instead of sent.
///
/// # Errors
/// If there is no cache, or a request to a back end fails.
pub async fn copy(
    transfer: &Transfer,
    from: &dyn Backend,
    to: &dyn Backend,
) -> Result<Copied, Error> {
    let there = from.import().await?;
    let plan = there.records.plan();
    let blobs = prune::kept_blobs(&plan, &blobs(&plan));
    let request = WriteRequest {
        // Only for a layer without a blob, which an imported cache does not have.
        format: LayerFormat { compression: Compression::Gzip(None), force: false },
        form: match StoredForm::of(&there.bytes) {
            StoredForm::Cache(form) => form,
            StoredForm::ConfigAlone | StoredForm::Image => Form::ImageManifest,
        },
        known: None,
        sidecar: None,
        task: None,
    };
    let written = write(&Export::of_plan(plan), transfer, to, &request).await?;
    let bytes = blobs.values().sum();
    Ok(Copied { records: written.records, layers: blobs.len(), bytes })
}
