//! Writing BuildKit's cache format.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use futures_util::future::try_join_all;
use graph::{StepId, TaskId};
use oci::{Annotations, Descriptor, Digest, Index, Manifest, Reference, media_type};
use solve::StepFacts;
use store::{Chain, Layer};
use transfer::{LayerFormat, LayoutContent, LayoutFile, Target, Transfer, Upload};

use crate::Error;
use crate::config::{CacheConfig, LayerEntry, LinkEntry, RecordEntry, ResultEntry};

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

/// What document holds the cache together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI image manifest (BuildKit 0.12 and later).
    ImageManifest,
    /// An OCI index that lists blobs.
    OciIndex,
    /// A Docker manifest list that lists blobs.
    DockerList,
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

/// The documents of a cache.
struct Documents {
    config: Vec<u8>,
    config_descriptor: Descriptor,
    manifest: Vec<u8>,
    descriptor: Descriptor,
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

    /// Writes config and manifest, given what each layer's blob is, in the order of the chains.
    fn documents(&self, blobs: &[Descriptor], form: Form) -> Documents {
        let order = Order::new(self, blobs);
        let config = serde_json::to_vec(&order.config(self, blobs))
            .expect("a config has no map with keys that are not texts");
        let config_descriptor = Descriptor::of(media_type::BUILDKIT_CACHE_CONFIG, &config);
        let layers: Vec<Descriptor> = order
            .layers
            .iter()
            .map(|chain| annotated(&blobs[*chain], &self.chains[*chain], form))
            .collect();
        let manifest_type = match form {
            Form::ImageManifest => media_type::OCI_MANIFEST,
            Form::OciIndex => media_type::OCI_INDEX,
            Form::DockerList => media_type::DOCKER_MANIFEST_LIST,
        };
        let manifest = match form {
            Form::ImageManifest => serde_json::to_vec(&Manifest {
                schema_version: 2,
                media_type: Some(manifest_type.into()),
                artifact_type: None,
                config: config_descriptor.clone(),
                layers,
                subject: None,
                annotations: Annotations::new(),
            }),
            Form::OciIndex | Form::DockerList => serde_json::to_vec(&Index {
                schema_version: 2,
                media_type: Some(manifest_type.into()),
                manifests: layers.into_iter().chain([config_descriptor.clone()]).collect(),
                annotations: Annotations::new(),
            }),
        };
        let manifest = manifest.expect("a manifest has no map with keys that are not texts");
        let descriptor = Descriptor::of(manifest_type, &manifest);
        Documents { config, config_descriptor, manifest, descriptor }
    }

    fn exported(&self, documents: &Documents) -> Exported {
        let large = documents.config.len().max(documents.manifest.len());
        let note = (large > BUILDKIT_LIMIT).then(|| {
            format!("the cache has {} records and a document of {large} bytes: kiln reads it, BuildKit reads at most {BUILDKIT_LIMIT}", self.records.len())
        });
        Exported { descriptor: documents.descriptor.clone(), note, records: self.records.len() }
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

/// A layer's descriptor with what an importer needs: BuildKit drops layers without the digest of
/// their uncompressed bytes.
fn annotated(blob: &Descriptor, chain: &Chain, form: Form) -> Descriptor {
    let name = match form {
        Form::DockerList => media_type::layer_to_docker(&blob.media_type),
        Form::ImageManifest | Form::OciIndex => media_type::layer_to_oci(&blob.media_type),
    };
    let mut descriptor = Descriptor::new(name, blob.digest, blob.size);
    if let Some(layer) = chain.top() {
        descriptor
            .annotations
            .insert("containerd.io/uncompressed".into(), layer.diff_id.to_string());
        if let Some(created) = &layer.created {
            descriptor.annotations.insert("buildkit/createdat".into(), created.clone());
        }
    }
    descriptor
}

/// Writes a cache to a registry. `known` is the manifest that the reference had when the build
/// began: if nothing is new, nothing is sent.
///
/// # Errors
/// If a layer is nowhere, or the registry refuses.
pub async fn push(
    export: &Export,
    transfer: &Transfer,
    reference: &Reference,
    request: &PushRequest,
) -> Result<Exported, Error> {
    let target = Target { repository: reference.repository().clone(), insecure: request.insecure };
    let describe = export.chains.iter().map(|chain| async move {
        let layers = needed_layers(chain, request.format);
        transfer.describe(&layers, layers.len() - 1, request.format, request.task).await
    });
    let blobs = try_join_all(describe).await?;
    let documents = export.documents(&blobs, request.form);
    if request.known == Some(documents.descriptor.digest) {
        return Ok(export.exported(&documents));
    }
    let uploads = export.chains.iter().map(|chain| async {
        let layers = needed_layers(chain, request.format);
        transfer
            .upload(
                &layers,
                layers.len() - 1,
                request.format,
                Upload { target: &target, task: request.task },
            )
            .await
    });
    try_join_all(uploads).await?;
    let client = transfer.client().for_host(reference.repository().host(), request.insecure);
    client
        .push_bytes(
            reference.repository(),
            &documents.config_descriptor,
            documents.config.clone().into(),
        )
        .await?;
    client
        .put_manifest(
            reference,
            &documents.descriptor.media_type,
            documents.manifest.clone().into(),
        )
        .await?;
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

/// How a cache is sent to a registry.
pub struct PushRequest {
    /// How layers are written.
    pub format: LayerFormat,
    /// What holds it together.
    pub form: Form,
    /// Whether plain HTTP or a certificate that nobody vouches for is accepted.
    pub insecure: bool,
    /// The manifest that the reference is known to have.
    pub known: Option<Digest>,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// Writes a cache to a folder in the OCI layout, under a tag, beside others that are there.
///
/// # Errors
/// If a layer is nowhere, or the folder cannot be written.
pub async fn write_folder(
    export: &Export,
    transfer: &Transfer,
    folder: &Path,
    tag: &str,
    request: &PushRequest,
) -> Result<Exported, Error> {
    let fetch = export.chains.iter().map(|chain| async move {
        let layers = needed_layers(chain, request.format);
        transfer.blob(&layers, layers.len() - 1, request.format, request.task).await
    });
    let blobs = try_join_all(fetch).await?;
    let documents = export.documents(&blobs, request.form);
    let blob = |digest, bytes: &[u8]| LayoutFile::blob(digest, LayoutContent::Bytes(bytes.into()));
    let mut files = vec![LayoutFile::marker()];
    let mut seen = HashSet::new();
    for layer in blobs.iter().filter(|layer| seen.insert(layer.digest)) {
        let path = transfer.store().blob_path(&layer.digest);
        files.push(LayoutFile::blob(layer.digest, LayoutContent::Blob(path, layer.size)));
    }
    files.push(blob(documents.config_descriptor.digest, &documents.config));
    files.push(blob(documents.descriptor.digest, &documents.manifest));
    let mut entry = documents.descriptor.clone();
    entry.annotations.insert(transfer::REF_NAME.into(), tag.into());
    let folder = folder.to_owned();
    transfer::blocking(move || transfer::write_layout(&folder, &files, vec![entry])).await?;
    Ok(export.exported(&documents))
}
