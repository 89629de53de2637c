//! The records of an imported cache, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use layer::{Chain, Layer};
use oci::Digest;
use solve::FoundOutput;

use super::config::{CacheConfig, DIGITS, RecordEntry};
use super::plan::{CachePlan, Day, RecordDraft, RecordInputs, parents_first, time};
use crate::Error;

/// Layers of a result. No image that runs has more (overlayfs takes fewer).
const LONGEST_CHAIN: usize = 1000;
/// Layers that all results list. Two bytes of a document list a layer that costs hundreds of bytes in
/// memory, hence a bound.
const LISTED_LAYERS: usize = 1 << 18;

/// The records of one cache.
#[derive(Debug)]
pub struct RecordSet {
    name: Arc<str>,
    writer: Option<String>,
    sidecar: SidecarRef,
    records: Vec<CachedRecord>,
    roots: HashMap<Digest, Vec<usize>>,
    children: HashMap<(usize, Digest, usize, Option<Digest>), Vec<usize>>,
}

/// A cache's reference to its sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SidecarRef {
    /// Nothing: there is no cache, or another program wrote it.
    #[default]
    None,
    /// kiln wrote the cache before it named sidecars: there may be one, but nothing ties it to the
    /// cache's writer.
    Unnamed,
    /// The sidecar with this digest.
    Artifact(Digest),
}

impl SidecarRef {
    /// The digest of the sidecar.
    pub(crate) fn artifact(self) -> Option<Digest> {
        match self {
            Self::Artifact(digest) => Some(digest),
            Self::None | Self::Unnamed => None,
        }
    }
}

/// A record without its links.
pub(crate) struct RecordSummary<'a> {
    pub(crate) digest: Digest,
    /// The newest output and its creation time.
    pub(crate) output: Option<(&'a Chain, &'a str)>,
    pub(crate) used: Option<Day>,
}

#[derive(Debug)]
struct CachedRecord {
    digest: Digest,
    inputs: Vec<Vec<(Option<Digest>, usize)>>,
    results: Vec<(Chain, String)>,
    used: Option<Day>,
}

impl RecordSet {
    /// Reads a cache config. `layers` has the layers by the digests of their blobs; a result with a
    /// layer that is missing there is left out.
    ///
    /// # Errors
    /// If the config contradicts itself. Like BuildKit, kiln then uses nothing of it.
    pub(crate) fn new(
        name: &str,
        config: &CacheConfig,
        layers: &HashMap<Digest, Layer>,
    ) -> Result<Self, Error> {
        let listed: usize = config
            .records
            .iter()
            .flat_map(|record| record.chains.iter().map(|result| result.layers.len()))
            .sum();
        if listed > LISTED_LAYERS {
            return Err(damaged(format!("results list {listed} layers")));
        }
        agree(config, layers)?;
        let chains = chains(config, layers)?;
        let mut set = Self {
            name: name.into(),
            writer: config.kiln.as_ref().map(|extra| extra.writer.clone()),
            sidecar: match &config.kiln {
                None => SidecarRef::None,
                Some(extra) => extra.sidecar.map_or(SidecarRef::Unnamed, SidecarRef::Artifact),
            },
            records: Vec::with_capacity(config.records.len()),
            roots: HashMap::new(),
            children: HashMap::new(),
        };
        for (index, entry) in config.records.iter().enumerate() {
            let used = config.kiln.as_ref().and_then(|extra| extra.used.get(index).copied());
            let used = used.filter(|day| *day != 0);
            let record = CachedRecord { used, ..read(entry, config, &chains, layers)? };
            if record.inputs.is_empty() {
                set.roots.entry(record.digest).or_default().push(index);
            }
            for (input, links) in record.inputs.iter().enumerate() {
                for (selector, parent) in links {
                    set.children
                        .entry((*parent, record.digest, input, *selector))
                        .or_default()
                        .push(index);
                }
            }
            set.records.push(record);
        }
        set.refuse_loops()?;
        Ok(set)
    }

    /// Refuses records that link to themselves: a search along their links would not end.
    fn refuse_loops(&self) -> Result<(), Error> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.records.len()];
        for start in 0..self.records.len() {
            let mut open = vec![(start, false)];
            while let Some((at, leaving)) = open.pop() {
                match (leaving, marks[at]) {
                    (true, _) => marks[at] = Mark::Done,
                    (false, Mark::New) => {
                        marks[at] = Mark::Open;
                        open.push((at, true));
                        open.extend(
                            self.records[at]
                                .inputs
                                .iter()
                                .flatten()
                                .map(|(_, parent)| (*parent, false)),
                        );
                    }
                    (false, Mark::Open) => return Err(damaged("records that stand on themselves")),
                    (false, Mark::Done) => (),
                }
            }
        }
        Ok(())
    }

    /// A plan with these records. Of several outputs of a record it has the newest, which is the one
    /// that readers take.
    pub(crate) fn plan(&self) -> CachePlan {
        let mut plan = CachePlan::default();
        plan.sidecar = self.sidecar.artifact();
        let mut planned = vec![0; self.records.len()];
        let parents = |record: usize| -> Vec<usize> {
            self.records[record].inputs.iter().flatten().map(|(_, parent)| *parent).collect()
        };
        for at in parents_first(self.records.len(), parents) {
            let record = &self.records[at];
            let inputs: RecordInputs = record
                .inputs
                .iter()
                .map(|links| links.iter().map(|(part, to)| (*part, planned[*to])).collect())
                .collect();
            let newest = record.results.iter().max_by_key(|(_, created)| time(created));
            planned[at] = plan.insert(RecordDraft {
                digest: record.digest,
                inputs,
                output: newest.map(|(chain, created)| (chain, created.clone())),
                used: record.used,
            });
        }
        plan.settle();
        plan
    }

    /// The reference to the sidecar.
    pub fn sidecar(&self) -> SidecarRef {
        self.sidecar
    }

    /// The layers that the cache says its blobs are, by the digests of the blobs.
    pub fn claims(&self) -> BTreeMap<Digest, Layer> {
        let mut claims = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (chain, _) in self.records.iter().flat_map(|record| &record.results) {
            let mut at = chain;
            while let (Some(id), Some(layer), Some(below)) = (at.id(), at.top(), at.below())
                && seen.insert(id)
            {
                if let Some(blob) = &layer.blob {
                    claims.entry(blob.digest).or_insert_with(|| layer.clone());
                }
                at = below;
            }
        }
        claims
    }

    /// The version of kiln that wrote it last; none for other programs.
    pub(crate) fn writer(&self) -> Option<&str> {
        self.writer.as_deref()
    }

    /// All records, for display.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = RecordSummary<'_>> {
        self.records.iter().map(|record| RecordSummary {
            digest: record.digest,
            output: record
                .results
                .iter()
                .max_by_key(|(_, created)| time(created))
                .map(|(chain, created)| (chain, created.as_str())),
            used: record.used,
        })
    }

    /// The cache's name in messages.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn roots(&self, digest: Digest) -> &[usize] {
        self.roots.get(&digest).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn linked(
        &self,
        parent: usize,
        digest: Digest,
        input: usize,
        selector: Option<Digest>,
    ) -> &[usize] {
        self.children.get(&(parent, digest, input, selector)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn results(&self, record: usize) -> Vec<FoundOutput<Chain>> {
        let results = self.records.get(record).map_or(&[][..], |record| &record.results);
        results
            .iter()
            .map(|(chain, created)| FoundOutput {
                chain: chain.clone(),
                created: created.clone(),
                source: self.name.clone(),
            })
            .collect()
    }

    pub(crate) fn content_links(&self, record: usize, input: usize) -> Vec<Digest> {
        let Some(links) = self.records.get(record).and_then(|record| record.inputs.get(input))
        else {
            return Vec::new();
        };
        let roots = links.iter().filter(|(selector, parent)| {
            selector.is_none() && self.records[*parent].inputs.is_empty()
        });
        roots.map(|(_, parent)| self.records[*parent].digest).collect()
    }
}

/// Refuses a cache whose manifest and config disagree on a layer's diffID. Only kiln writes it to
/// both.
fn agree(config: &CacheConfig, layers: &HashMap<Digest, Layer>) -> Result<(), Error> {
    let begins = config.kiln.iter().flat_map(|extra| &extra.layers);
    for (entry, begin) in config.layers.iter().zip(begins) {
        if let Some(layer) = layers.get(&entry.blob)
            && (begin.len() != DIGITS || !layer.diff_id.hex().starts_with(begin))
        {
            return Err(damaged(format!("two diffIDs of layer `{}`", entry.blob)));
        }
    }
    Ok(())
}

fn read(
    entry: &RecordEntry,
    config: &CacheConfig,
    chains: &[Option<Chain>],
    layers: &HashMap<Digest, Layer>,
) -> Result<CachedRecord, Error> {
    let count = config.records.len();
    let link = |link: i64| {
        usize::try_from(link)
            .ok()
            .filter(|link| *link < count)
            .ok_or_else(|| damaged(format!("link {link} of {count} records")))
    };
    let mut inputs = Vec::with_capacity(entry.inputs.len());
    for links in &entry.inputs {
        if links.is_empty() {
            return Err(damaged("a record with an input that nothing leads to"));
        }
        inputs.push(
            links
                .iter()
                .map(|entry| Ok((entry.selector, link(entry.link)?)))
                .collect::<Result<Vec<_>, Error>>()?,
        );
    }
    let layer = |index: i64| {
        let count = config.layers.len();
        usize::try_from(index)
            .ok()
            .filter(|index| *index < count)
            .ok_or_else(|| damaged(format!("layer {index} of {count}")))
    };
    if entry.chains.iter().any(|result| result.layers.len() > LONGEST_CHAIN) {
        return Err(damaged(format!("a result of more than {LONGEST_CHAIN} layers")));
    }
    let mut results = Vec::new();
    for result in &entry.layers {
        if let Some(chain) = &chains[layer(result.layer)?] {
            results.push((chain.clone(), result.created_at.clone()));
        }
    }
    for result in &entry.chains {
        let indexes =
            result.layers.iter().map(|index| layer(*index)).collect::<Result<Vec<_>, Error>>()?;
        let chain: Option<Chain> = indexes
            .into_iter()
            .map(|index| layers.get(&config.layers[index].blob).cloned())
            .collect();
        results.extend(
            chain.filter(|chain| !chain.is_empty()).map(|chain| (chain, result.created_at.clone())),
        );
    }
    Ok(CachedRecord { digest: entry.digest, inputs, results, used: None })
}

/// The chain that ends in each layer; none if a layer of it has no description.
fn chains(
    config: &CacheConfig,
    layers: &HashMap<Digest, Layer>,
) -> Result<Vec<Option<Chain>>, Error> {
    let mut chains: Vec<Option<Option<Chain>>> = vec![None; config.layers.len()];
    for start in 0..config.layers.len() {
        let mut path = Vec::new();
        let mut seen = BTreeSet::new();
        let mut at = start;
        let mut below = loop {
            if let Some(chain) = &chains[at] {
                break chain.clone();
            }
            if !seen.insert(at) {
                return Err(damaged("layers that stand on themselves"));
            }
            path.push(at);
            match config.layers[at].parent {
                -1 => break Some(Chain::new()),
                parent => {
                    at = usize::try_from(parent)
                        .ok()
                        .filter(|parent| *parent < config.layers.len())
                        .ok_or_else(|| damaged(format!("layer {parent} as a parent")))?
                }
            }
        };
        for index in path.into_iter().rev() {
            let layer = layers.get(&config.layers[index].blob);
            below = below.zip(layer).map(|(below, layer)| below.with(layer.clone()));
            chains[index] = Some(below.clone());
        }
    }
    Ok(chains.into_iter().map(Option::flatten).collect())
}

fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text)
    }

    fn set(json: serde_json::Value) -> Result<RecordSet, Error> {
        let config: CacheConfig =
            serde_json::from_value(json).map_err(|error| damaged(error.to_string()))?;
        let layers = ["a", "b", "c"].map(|name| {
            let layer = Layer {
                diff_id: digest(&format!("diff {name}")),
                blob: None,
                created: None,
                places: Vec::new(),
            };
            (digest(name), layer)
        });
        RecordSet::new("test", &config, &layers.into())
    }

    #[test]
    fn results_are_chains_of_parents() {
        let set = set(serde_json::json!({
            "layers": [{"blob": digest("b"), "parent": 1}, {"blob": digest("a"), "parent": -1}, {"blob": digest("c")}],
            "records": [{"digest": digest("r"), "layers": [{"layer": 2, "createdAt": "2026-01-01T00:00:00Z"}]}],
        }))
        .unwrap();
        let record = set.roots(digest("r"))[0];
        let diff_ids: Vec<Digest> =
            set.results(record)[0].chain.layers().iter().map(|layer| layer.diff_id).collect();
        assert_eq!(diff_ids, [digest("diff a"), digest("diff b"), digest("diff c")]);
    }

    #[test]
    fn a_layer_that_is_not_known_takes_only_its_results() {
        let set = set(serde_json::json!({
            "layers": [{"blob": digest("unknown"), "parent": -1}, {"blob": digest("a")}],
            "records": [{"digest": digest("r"), "layers": [{"layer": 1, "createdAt": ""}]}, {"digest": digest("s"), "inputs": [[{"link": 0}]]}],
        }))
        .unwrap();
        assert!(set.results(0).is_empty());
        assert_eq!(set.linked(0, digest("s"), 0, None), [1]);
    }

    #[test]
    fn results_can_list_their_layers() {
        let set = set(serde_json::json!({
            "layers": [{"blob": digest("a"), "parent": -1}, {"blob": digest("b")}, {"blob": digest("x")}],
            "records": [{"digest": digest("r"), "layers": null, "chains": [{"layers": [1, 0], "createdAt": "t"}, {"layers": [2]}, {"layers": null}]}],
        }))
        .unwrap();
        let results = set.results(0);
        let diff_ids: Vec<Digest> =
            results[0].chain.layers().iter().map(|layer| layer.diff_id).collect();
        assert_eq!((diff_ids, results.len()), (vec![digest("diff b"), digest("diff a")], 1));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for json in [
            serde_json::json!({"records": [{"digest": digest("r"), "inputs": [[{"link": 0}]]}]}),
            serde_json::json!({"records": [{"digest": digest("r"), "inputs": [[]]}]}),
            serde_json::json!({"records": [{"digest": digest("r"), "inputs": [[{"link": 7}]]}]}),
            serde_json::json!({"records": [{"digest": digest("r"), "inputs": [[{"link": -1}]]}]}),
            serde_json::json!({"records": [{"digest": digest("r"), "inputs": [[{"link": 0, "selector": "x"}]]}]}),
            serde_json::json!({"records": [{"digest": digest("r"), "layers": [{"layer": 0}]}]}),
            serde_json::json!({"layers": [{"blob": digest("a"), "parent": 0}]}),
            serde_json::json!({"layers": [{"blob": digest("a"), "parent": 9}]}),
            serde_json::json!({"layers": [{"blob": digest("a"), "parent": -2}]}),
            serde_json::json!({"layers": [{"blob": digest("a"), "parent": 1}, {"blob": digest("b")}]}),
            serde_json::json!({"records": [{"digest": digest("r"), "inputs": [[{"link": 1}]]}, {"digest": digest("s"), "inputs": [[{"link": 0}]]}]}),
            serde_json::json!({"records": [{"digest": "sha256:0"}]}),
            serde_json::json!({"layers": [{"blob": digest("a"), "parent": -1}], "records": [{"digest": digest("r"), "chains": [{"layers": [0, 1]}]}]}),
            serde_json::json!({"layers": [{"blob": digest("a"), "parent": -1}], "records": [{"digest": digest("r"), "chains": [{"layers": vec![0; 2000]}]}]}),
            serde_json::json!({"layers": [{"blob": digest("a"), "parent": -1}], "records": vec![serde_json::json!({"digest": digest("r"), "chains": [{"layers": vec![0; 1000]}]}); 300]}),
        ] {
            assert!(set(json.clone()).is_err(), "{:.200}", json.to_string());
        }
    }
}
