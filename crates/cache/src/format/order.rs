//! The order of layers and records in a config, so that the same records give the same bytes.

use std::collections::{BTreeSet, HashMap};

use layer::{Chain, Layer};
use oci::{Descriptor, Digest};

use super::CacheContents;
use super::config::{
    CacheConfig, DIGITS, KilnFields, LayerEntry, LinkEntry, RecordEntry, ResultEntry,
};
use super::plan::{CacheInput, CachePlan};

/// The value of [`KilnFields::writer`].
const WRITER: &str = concat!("kiln ", env!("CARGO_PKG_VERSION"));

/// The time of an undated layer: Go refuses an empty string as a time.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// The contents to write for a plan, given each layer's blob by chain ID.
pub(crate) fn contents(plan: &CachePlan, blobs: &HashMap<Digest, Descriptor>) -> CacheContents {
    let order = Order::new(plan, blobs);
    let layer = |planned: &PlannedLayer<'_>| {
        let layer = Layer { blob: Some(planned.blob.clone()), ..planned.layer.clone() };
        (planned.blob.digest, layer)
    };
    CacheContents { config: order.config(), layers: order.layers.iter().map(layer).collect() }
}

/// A layer to be written.
struct PlannedLayer<'a> {
    id: Digest,
    below: Option<Digest>,
    layer: &'a Layer,
    blob: Descriptor,
}

struct Order<'a> {
    plan: &'a CachePlan,
    layers: Vec<PlannedLayer<'a>>,
    /// Indexes into the plan's records.
    records: Vec<usize>,
}

impl<'a> Order<'a> {
    fn new(plan: &'a CachePlan, blobs: &HashMap<Digest, Descriptor>) -> Self {
        let planned = |chain: &Chain| {
            let id = chain.id()?;
            let below = chain.below().and_then(Chain::id);
            Some(PlannedLayer { id, below, layer: plan.layer(id)?, blob: blobs.get(&id)?.clone() })
        };
        let mut layers: Vec<PlannedLayer<'_>> = plan.chains().iter().filter_map(planned).collect();
        layers.sort_by_key(|planned| (planned.blob.digest, planned.id));
        // Records with one digest can have other inputs, so the order takes those into account.
        let names = names(plan);
        let mut records: Vec<usize> = (0..plan.records.len()).collect();
        records.sort_by_key(|record| (plan.records[*record].digest, names[*record]));
        Self { plan, layers, records }
    }

    fn config(&self) -> CacheConfig {
        let layer_at: HashMap<Digest, i64> =
            self.layers.iter().map(|planned| planned.id).zip(0..).collect();
        let record_at: HashMap<usize, i64> = self.records.iter().copied().zip(0..).collect();
        let layer = |planned: &PlannedLayer<'_>| LayerEntry {
            blob: planned.blob.digest,
            parent: planned.below.and_then(|below| layer_at.get(&below).copied()).unwrap_or(-1),
            annotations: None,
        };
        let links = |links: &BTreeSet<CacheInput>| {
            let entry = |(selector, to): &CacheInput| LinkEntry {
                selector: *selector,
                link: record_at[to],
            };
            let mut links: Vec<LinkEntry> = links.iter().map(entry).collect();
            links.sort();
            links
        };
        let record = |index: &usize| {
            let record = &self.plan.records[*index];
            let output = record.output.iter().filter_map(|(chain, created)| {
                let created = if created.is_empty() { EPOCH } else { created };
                Some(ResultEntry { layer: *layer_at.get(chain)?, created_at: created.into() })
            });
            RecordEntry {
                layers: output.collect(),
                chains: Vec::new(),
                digest: record.digest,
                inputs: record.inputs.iter().map(links).collect(),
            }
        };
        let used = |record: &usize| self.plan.records[*record].used.unwrap_or(0);
        let used: Vec<u32> = self.records.iter().map(used).collect();
        let is_known = used.iter().any(|day| *day != 0);
        let sidecar = self.plan.sidecar;
        let begins = |planned: &PlannedLayer<'_>| planned.layer.diff_id.hex()[..DIGITS].to_owned();
        let extra = || KilnFields {
            writer: WRITER.into(),
            used: if is_known { used } else { Vec::new() },
            sidecar,
            layers: self.layers.iter().map(begins).collect(),
        };
        CacheConfig {
            layers: self.layers.iter().map(layer).collect(),
            records: self.records.iter().map(record).collect(),
            kiln: (is_known || sidecar.is_some()).then(extra),
        }
    }
}

/// A name for each record, made of its digest and its inputs' names.
fn names(plan: &CachePlan) -> Vec<Digest> {
    let mut names: Vec<Digest> = plan.records.iter().map(|record| record.digest).collect();
    for at in plan.order() {
        let record = &plan.records[at];
        let mut text = record.digest.to_string();
        for links in &record.inputs {
            let mut parts: Vec<String> =
                links.iter().map(|(selector, to)| format!("{selector:?} {}", names[*to])).collect();
            parts.sort();
            text.push_str(&format!("[{}]", parts.join(",")));
        }
        names[at] = Digest::of(text);
    }
    names
}
