//! Writing BuildKit's cache format.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::future::try_join_all;
use graph::{StepId, TaskId};
use oci::{Descriptor, Digest};
use solve::StepFacts;
use store::{Chain, Layer};
use transfer::{LayerFormat, Transfer};

use crate::Error;
use crate::config::{CacheConfig, LayerEntry, LinkEntry, RecordEntry, ResultEntry};
use crate::place::{Contents, Documents, Form, Place};

/// BuildKit reads no config and no manifest that is larger.
const BUILDKIT_LIMIT: usize = 1 << 20;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The layers of the result; records of all steps.
    Min,
    /// The layers of all steps.
    Max,
}

/// The records of a build, ready to be written.
#[derive(Debug)]
pub struct Export {
    records: Vec<PlannedRecord>,
    /// Every layer that records name, below those that stand on it, by chain ID.
    chains: Vec<Chain>,
}

/// An export that is put together.
#[derive(Default)]
struct Plan {
    records: Vec<PlannedRecord>,
    /// Places of records, by what makes them the same.
    places: HashMap<(Digest, Inputs), usize>,
    chains: Vec<Chain>,
    /// IDs of the chains.
    kept: HashSet<Digest>,
}

/// For each input, the records by which it is known, with the part that is read.
type Inputs = Vec<BTreeSet<(Option<Digest>, usize)>>;

#[derive(Debug)]
struct PlannedRecord {
    digest: Digest,
    inputs: Inputs,
    /// Chain ID of the output.
    output: Option<Digest>,
}

/// A cache that was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its manifest.
    pub descriptor: Descriptor,
    /// Something that the user should know.
    pub note: Option<String>,
    /// How many records it has.
    pub records: usize,
}

impl Export {
    /// One record for each step that records can have: its inputs by every key that is known of
    /// them, its output where the mode keeps it.
    pub fn new(steps: &[StepFacts<Chain>], result: &Chain, mode: Mode) -> Self {
        let kept = Kept::new(result, mode);
        let mut plan = Plan::default();
        let mut of_step: HashMap<StepId, Vec<usize>> = HashMap::new();
        let mut contents: HashMap<Digest, usize> = HashMap::new();
        for step in steps {
            let inputs: Inputs = step
                .inputs
                .iter()
                .map(|input| {
                    let by_record = of_step
                        .get(&input.step)
                        .into_iter()
                        .flatten()
                        .map(|record| (input.selector, *record));
                    let mut links: BTreeSet<_> = by_record.collect();
                    for content in &input.contents {
                        let record = *contents
                            .entry(*content)
                            .or_insert_with(|| plan.add(*content, Vec::new(), None));
                        links.insert((None, record));
                    }
                    links
                })
                .collect();
            if inputs.iter().any(BTreeSet::is_empty) {
                continue;
            }
            // A source is found again by its key alone, so its layers are not kept for it.
            let output =
                step.output.as_ref().filter(|output| !step.inputs.is_empty() && kept.keeps(output));
            let output = output.and_then(|output| plan.keep_chain(output));
            for digest in &step.digests {
                let record = plan.add(*digest, inputs.clone(), output);
                of_step.entry(step.id).or_default().push(record);
            }
        }
        Self { records: plan.records, chains: plan.chains }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Every layer that the cache names, with the chain that it is the top of.
    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    fn exported(&self, documents: &Documents) -> Exported {
        let large = documents.largest();
        let note = (large > BUILDKIT_LIMIT).then(|| {
            format!("the cache has {} records and a document of {large} bytes: kiln reads it, BuildKit reads at most {BUILDKIT_LIMIT}", self.records.len())
        });
        Exported { descriptor: documents.descriptor.clone(), note, records: self.records.len() }
    }

    /// The config, given what each layer's blob is, in the order of the chains.
    pub(crate) fn contents(&self, blobs: &[Descriptor]) -> Contents {
        let order = Order::new(self, blobs);
        let layer = |chain: &usize| {
            let layer = self.chains[*chain].top()?;
            let blob = blobs[*chain].clone();
            Some((blob.digest, Layer { blob: Some(blob), ..layer.clone() }))
        };
        Contents {
            config: order.config(self, blobs),
            layers: order.layers.iter().filter_map(layer).collect(),
        }
    }
}

impl Plan {
    fn add(&mut self, digest: Digest, inputs: Inputs, output: Option<Digest>) -> usize {
        let place = self.places.entry((digest, inputs)).or_insert_with_key(|(digest, inputs)| {
            let inputs = inputs.clone();
            self.records.push(PlannedRecord { digest: *digest, inputs, output: None });
            self.records.len() - 1
        });
        let known = &mut self.records[*place].output;
        *known = known.or(output);
        *place
    }

    fn keep_chain(&mut self, chain: &Chain) -> Option<Digest> {
        let first = self.chains.len();
        let mut at = chain;
        while let (Some(id), Some(below)) = (at.id(), at.below()) {
            if !self.kept.insert(id) {
                break;
            }
            self.chains.push(at.clone());
            at = below;
        }
        self.chains[first..].reverse();
        chain.id()
    }
}

/// Which outputs a mode keeps.
enum Kept {
    All,
    Chains(BTreeSet<Digest>),
}

impl Kept {
    fn new(result: &Chain, mode: Mode) -> Self {
        if mode == Mode::Max {
            return Self::All;
        }
        let mut ids = BTreeSet::new();
        let mut at = Some(result);
        while let Some(chain) = at {
            ids.extend(chain.id());
            at = chain.below();
        }
        Self::Chains(ids)
    }

    fn keeps(&self, chain: &Chain) -> bool {
        match self {
            Self::All => true,
            Self::Chains(ids) => chain.id().is_some_and(|id| ids.contains(&id)),
        }
    }
}

/// The order in which layers and records are written: the same records, the same bytes.
struct Order {
    /// Places in `Export::chains`.
    layers: Vec<usize>,
    /// Places in `Export::records`.
    records: Vec<usize>,
}

impl Order {
    fn new(export: &Export, blobs: &[Descriptor]) -> Self {
        let mut layers: Vec<usize> = (0..export.chains.len()).collect();
        layers.sort_by_key(|chain| (blobs[*chain].digest, export.chains[*chain].id()));
        // A record's digest says nothing of its inputs: their digests do, all the way down.
        let names = names(export);
        let mut records: Vec<usize> = (0..export.records.len()).collect();
        records.sort_by_key(|record| (export.records[*record].digest, names[*record]));
        Self { layers, records }
    }

    fn config(&self, export: &Export, blobs: &[Descriptor]) -> CacheConfig {
        let layer_at: HashMap<Digest, i64> = self
            .layers
            .iter()
            .zip(0..)
            .filter_map(|(chain, at)| Some((export.chains[*chain].id()?, at)))
            .collect();
        let record_at: BTreeMap<usize, i64> = self.records.iter().copied().zip(0..).collect();
        let layer = |chain: &usize| {
            let below = export.chains[*chain].below().and_then(Chain::id);
            LayerEntry {
                blob: blobs[*chain].digest,
                parent: below.map_or(-1, |below| layer_at[&below]),
                annotations: None,
            }
        };
        let created: HashMap<Digest, String> = export
            .chains
            .iter()
            .filter_map(|chain| {
                Some((
                    chain.id()?,
                    chain
                        .top()
                        .and_then(|layer| layer.created.clone())
                        .unwrap_or_else(|| EPOCH.into()),
                ))
            })
            .collect();
        let record = |index: &usize| {
            let record = &export.records[*index];
            let links = |links: &BTreeSet<(Option<Digest>, usize)>| {
                let mut links: Vec<LinkEntry> = links
                    .iter()
                    .map(|(selector, to)| LinkEntry { selector: *selector, link: record_at[to] })
                    .collect();
                links.sort();
                links
            };
            RecordEntry {
                layers: record
                    .output
                    .iter()
                    .map(|output| ResultEntry {
                        layer: layer_at[output],
                        created_at: created[output].clone(),
                    })
                    .collect(),
                chains: Vec::new(),
                digest: record.digest,
                inputs: record.inputs.iter().map(links).collect(),
            }
        };
        CacheConfig {
            layers: self.layers.iter().map(layer).collect(),
            records: self.records.iter().map(record).collect(),
        }
    }
}

/// For a layer that nobody has dated: Go reads no empty text as a time.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// A name for each record that is made of its digest and its inputs' names.
fn names(export: &Export) -> Vec<Digest> {
    let mut names: Vec<Digest> = Vec::with_capacity(export.records.len());
    // Records are added after those that they link to.
    for record in &export.records {
        let mut text = record.digest.to_string();
        for links in &record.inputs {
            let mut parts: Vec<String> =
                links.iter().map(|(selector, to)| format!("{selector:?} {}", names[*to])).collect();
            parts.sort();
            text.push_str(&format!("[{}]", parts.join(",")));
        }
        names.push(Digest::of(text));
    }
    names
}

/// Writes a cache to a place. If nothing is new there, nothing is sent.
///
/// # Errors
/// If a layer is nowhere, or the place does not take something.
pub async fn write(
    export: &Export,
    transfer: &Transfer,
    place: &Place,
    request: &WriteRequest,
) -> Result<Exported, Error> {
    let describe = export.chains.iter().map(|chain| async move {
        let layers = needed_layers(chain, request.format);
        transfer.describe(&layers, layers.len() - 1, request.format, request.task).await
    });
    let blobs = try_join_all(describe).await?;
    let contents = export.contents(&blobs);
    let documents = place.documents(&contents, request.form)?;
    if request.known == Some(documents.descriptor.digest) {
        return Ok(export.exported(&documents));
    }
    let uploads = export.chains.iter().map(|chain| async {
        let layers = needed_layers(chain, request.format);
        place.send_layer(transfer, &layers, request.format, request.task).await
    });
    try_join_all(uploads).await?;
    place.put(transfer, &contents, &documents).await?;
    Ok(export.exported(&documents))
}

/// A chain, as far as it is needed to write its highest layer: those below only help to unpack one
/// that is to be compressed.
fn needed_layers(chain: &Chain, format: LayerFormat) -> Vec<Layer> {
    match chain.top() {
        Some(top) if Transfer::known_blob(top, format).is_some() => vec![top.clone()],
        _ => chain.layers(),
    }
}

/// How a cache is written.
pub struct WriteRequest {
    /// How layers are written.
    pub format: LayerFormat,
    /// What holds it together, where the place leaves a choice.
    pub form: Form,
    /// What the place is known to hold ([`Imported::manifest`](crate::Imported)).
    pub known: Option<Digest>,
    /// The task that shows it.
    pub task: Option<TaskId>,
}
