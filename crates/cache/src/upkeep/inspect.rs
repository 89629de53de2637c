//! What a cache holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use oci::Digest;
use store::Chain;

use crate::explain::{FactBook, read_beside};
use crate::place::Place;
use crate::plan::time;
use crate::{Error, RecordSet};

/// What a cache holds.
#[derive(Clone, Debug)]
pub struct Holdings {
    /// How people call the place.
    pub place: String,
    /// What holds it together: its manifest, or its config where there is none.
    pub digest: Digest,
    /// Bytes of that document.
    pub manifest_size: u64,
    /// Who wrote it last, as `kiln 0.1.0`; none where BuildKit or another tool did.
    pub writer: Option<String>,
    /// Records, those that were used or made last first.
    pub records: Vec<HeldRecord>,
    /// Layers, each blob once, the largest first.
    pub layers: Vec<HeldLayer>,
    /// Entries and bytes of what kiln left beside it.
    pub beside: (usize, u64),
}

/// A record of a cache.
#[derive(Clone, Debug)]
pub struct HeldRecord {
    /// Its digest.
    pub digest: Digest,
    /// The step, where kiln kept its name: `[build 2/5] RUN make`.
    pub step: Option<String>,
    /// When its newest output was made, RFC 3339; none for a record without output.
    pub created: Option<String>,
    /// The day of its last use, counted from 1970, as far as anybody wrote it down.
    pub used: Option<u32>,
    /// How many layers its output has.
    pub layers: usize,
    /// Bytes of the layers that are its own: those that no record below it has.
    pub bytes: u64,
}

/// A layer of a cache.
#[derive(Clone, Debug)]
pub struct HeldLayer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the archive in it.
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Media type.
    pub media_type: String,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
}

impl Holdings {
    /// Bytes of all layers, each blob counted once.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// Reads what a cache holds, and no layer.
///
/// # Errors
/// If there is no cache, or it cannot be read.
pub async fn inspect(client: &registry::Client, place: &Place) -> Result<Holdings, Error> {
    let imported = place.import(client).await?;
    let (mut beside, mut facts) = ((0, 0), FactBook::default());
    if let Some(found) = place.beside(client, imported.records.beside()) {
        let catalogue = found.catalogue().await;
        beside = (catalogue.len(), catalogue.bytes());
        facts = read_beside(&found).await;
    }
    Ok(Holdings {
        place: place.name(),
        digest: imported.manifest,
        manifest_size: imported.bytes.len() as u64,
        writer: imported.records.writer().map(str::to_owned),
        records: records(&imported.records, &facts),
        layers: layers(&imported.records),
        beside,
    })
}

fn records(set: &RecordSet, facts: &FactBook) -> Vec<HeldRecord> {
    let mut known: Vec<_> = facts.facts().collect();
    known.sort_by_key(|fact| fact.time);
    let names: HashMap<&str, &str> =
        known.iter().map(|fact| (fact.record.as_str(), fact.step.as_str())).collect();
    let outputs: HashSet<Digest> =
        set.held().filter_map(|held| held.output.and_then(|(chain, _)| chain.id())).collect();
    let mut records: Vec<HeldRecord> = set
        .held()
        .map(|held| {
            let chain = held.output.map(|(chain, _)| chain);
            HeldRecord {
                digest: held.digest,
                step: names.get(&held.digest.hex()[..16]).map(|step| (*step).to_owned()),
                created: held.output.map(|(_, created)| created.to_owned()),
                used: held.used,
                layers: chain.map_or(0, Chain::len),
                bytes: chain.map_or(0, |chain| own_bytes(chain, &outputs)),
            }
        })
        .collect();
    records.sort_by_key(|record| {
        (record.used, record.created.as_deref().and_then(time), record.digest)
    });
    records.reverse();
    records
}

/// Bytes of a chain above the nearest output of another record.
fn own_bytes(chain: &Chain, outputs: &HashSet<Digest>) -> u64 {
    let mut bytes = 0;
    let mut at = Some(chain);
    while let Some(chain) = at
        && let (Some(id), Some(layer)) = (chain.id(), chain.top())
    {
        if bytes > 0 && outputs.contains(&id) {
            break;
        }
        bytes += layer.blob.as_ref().map_or(0, |blob| blob.size);
        at = chain.below();
    }
    bytes
}

/// Layers of all outputs, each blob once.
pub(super) fn layers(set: &RecordSet) -> Vec<HeldLayer> {
    let mut layers: BTreeMap<Digest, HeldLayer> = BTreeMap::new();
    for chain in set.plan().chains() {
        if let Some(layer) = chain.top()
            && let Some(blob) = &layer.blob
        {
            layers.entry(blob.digest).or_insert_with(|| HeldLayer {
                digest: blob.digest,
                diff_id: layer.diff_id,
                size: blob.size,
                media_type: blob.media_type.clone(),
                created: layer.created.clone(),
            });
        }
    }
    let mut layers: Vec<HeldLayer> = layers.into_values().collect();
    layers.sort_by_key(|layer| std::cmp::Reverse((layer.size, layer.digest)));
    layers
}
