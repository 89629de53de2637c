//! Listing a cache.

use std::collections::{BTreeMap, HashMap, HashSet};

use layer::Chain;
use oci::Digest;

use crate::backend::Backend;
use crate::explain::{FactBook, read_sidecar_facts};
use crate::format::plan::time;
use crate::{Error, RecordSet};

/// The content of a cache.
#[derive(Clone, Debug)]
pub struct Holdings {
    /// The back end's name.
    pub backend: String,
    /// Digest of its manifest, or of its config where there is no manifest.
    pub digest: Digest,
    /// Bytes of that document.
    pub manifest_size: u64,
    /// The version of kiln that wrote it last, such as `kiln 0.1.0`; none for other programs.
    pub writer: Option<String>,
    /// Records, the most recently used or made first.
    pub records: Vec<HeldRecord>,
    /// Layers, each blob once, the largest first.
    pub layers: Vec<HeldLayer>,
    /// Number of entries of its sidecar.
    pub sidecar_entries: usize,
    /// Bytes of the sidecar's blobs.
    pub sidecar_bytes: u64,
}

/// A record of a cache.
#[derive(Clone, Debug)]
pub struct HeldRecord {
    /// Its digest.
    pub digest: Digest,
    /// The step's name, such as `[build 2/5] RUN make`, if the sidecar has it.
    pub step: Option<String>,
    /// Creation time of its newest output in RFC 3339; none for a record without output.
    pub created: Option<String>,
    /// The day of its last use, counted from 1970, if known.
    pub used: Option<u32>,
    /// Number of layers of its output.
    pub layers: usize,
    /// Bytes of its own layers, those above the output of any record below it.
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
    /// Creation time in RFC 3339.
    pub created: Option<String>,
}

impl Holdings {
    /// Bytes of all layers, each blob counted once.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// Lists the content of a cache. No layer is read.
///
/// # Errors
/// If there is no cache, or it cannot be read.
pub async fn inspect(backend: &dyn Backend) -> Result<Holdings, Error> {
    let imported = backend.import().await?;
    let (mut sidecar_entries, mut sidecar_bytes) = (0, 0);
    let mut facts = FactBook::default();
    if let Some(sidecar) = &imported.sidecar {
        let catalogue = sidecar.catalogue().await;
        (sidecar_entries, sidecar_bytes) = (catalogue.len(), catalogue.bytes());
        facts = read_sidecar_facts(sidecar).await;
    }
    Ok(Holdings {
        backend: backend.name(),
        digest: imported.manifest,
        manifest_size: imported.bytes.len() as u64,
        writer: imported.records.writer().map(str::to_owned),
        records: records(&imported.records, &facts),
        layers: layers(&imported.records),
        sidecar_entries,
        sidecar_bytes,
    })
}

fn records(set: &RecordSet, facts: &FactBook) -> Vec<HeldRecord> {
    let mut known: Vec<_> = facts.facts().collect();
    known.sort_by_key(|fact| fact.time);
    let names: HashMap<&str, &str> =
        known.iter().map(|fact| (fact.record.as_str(), fact.step.as_str())).collect();
    let outputs: HashSet<Digest> =
        set.summaries().filter_map(|held| held.output.and_then(|(chain, _)| chain.id())).collect();
    let mut records: Vec<HeldRecord> = set
        .summaries()
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
