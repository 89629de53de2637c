//! Conversion between a cache and the entries of a map.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use layer::{Layer, Place};
use oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

use super::RawEntries;
use crate::format::CacheContents;
use crate::format::config::{
    CacheConfig, KilnFields, LayerEntry, LinkEntry, RecordEntry, ResultEntry,
};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Entries by their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct MapEntries(BTreeMap<String, MapEntry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MapEntry {
    /// The last use by a build, in seconds since 1970.
    #[serde(default)]
    used: u64,
    #[serde(flatten)]
    body: EntryBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EntryBody {
    Layer(MapLayer),
    Record(RecordText),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MapLayer {
    blob: Digest,
    media_type: String,
    size: u64,
    #[serde(rename = "diffID")]
    diff_id: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    /// The key of the layer below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordText {
    digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<LinkText>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    results: Vec<ResultText>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct LinkText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<Digest>,
    record: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultText {
    layer: String,
    #[serde(default)]
    created_at: String,
}

impl MapEntries {
    /// Parses the entries of a store. An unreadable entry is ignored.
    pub fn parse(raw: RawEntries) -> Self {
        let entry =
            |(key, value): (String, Vec<u8>)| Some((key, serde_json::from_slice(&value).ok()?));
        Self(raw.into_iter().filter_map(entry).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values.
    pub fn raw(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.0.iter().map(|(key, entry)| {
            (key.as_str(), serde_json::to_vec(entry).expect("an entry has no map"))
        })
    }

    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("keys are texts")
    }

    /// The entries that were used within `ttl`.
    pub fn fresh(mut self, now: u64, ttl: Duration) -> Self {
        self.0.retain(|_, entry| entry.used.saturating_add(ttl.as_secs()) >= now);
        self
    }

    /// Keys of the entries that were not used within `ttl` and are not `wanted`.
    pub fn expired(&self, now: u64, ttl: Duration, wanted: &Self) -> Vec<String> {
        let is_old = |entry: &MapEntry| entry.used.saturating_add(ttl.as_secs()) < now;
        let old = self.0.iter().filter(|(_, entry)| is_old(entry)).map(|(key, _)| key);
        old.filter(|key| !wanted.0.contains_key(*key)).cloned().collect()
    }

    /// The entries that `there` lacks, has with another body, or has with a use older than `refresh`.
    pub fn newer_than(mut self, there: &Self, refresh: Duration) -> Self {
        self.0.retain(|key, entry| match there.0.get(key) {
            Some(known) => {
                known.body != entry.body
                    || known.used.saturating_add(refresh.as_secs()) < entry.used
            }
            None => true,
        });
        self
    }

    /// The entries of a cache, used `now`; 0 leaves the time of use open.
    pub fn of(contents: &CacheContents, now: u64) -> Self {
        let config = &contents.config;
        let mut entries = BTreeMap::new();
        let mut layers: HashMap<usize, String> = HashMap::new();
        for index in 0..config.layers.len() {
            add_layer(contents, index, &mut layers, &mut entries);
        }
        let mut records: HashMap<usize, String> = HashMap::new();
        let mut open: Vec<usize> = (0..config.records.len()).collect();
        // A record's key is made of the keys of its links, which come in any order.
        while !open.is_empty() {
            let before = open.len();
            open.retain(|index| {
                let Some((key, record)) = record_text(config, *index, &layers, &records) else {
                    return true;
                };
                let used = used_at(config, *index, now);
                use_layers(&record, used, &mut entries);
                let used = entries.get(&key).map_or(used, |entry: &MapEntry| entry.used.max(used));
                entries.insert(key.clone(), MapEntry { used, body: EntryBody::Record(record) });
                records.insert(*index, key);
                false
            });
            if open.len() == before {
                break;
            }
        }
        Self(entries)
    }

    /// The cache that the entries describe, without entries that refer to missing ones.
    pub fn contents(&self, place: &Place) -> CacheContents {
        let mut contents = CacheContents::default();
        let mut layer_at: HashMap<&str, i64> = HashMap::new();
        let mut waiting: Vec<(&str, &MapLayer)> = Vec::new();
        let mut records: Vec<(&str, &RecordText)> = Vec::new();
        let mut used: Vec<u32> = Vec::new();
        for (key, entry) in &self.0 {
            match &entry.body {
                EntryBody::Layer(layer) => waiting.push((key, layer)),
                EntryBody::Record(record) => records.push((key, record)),
            }
        }
        loop {
            let before = waiting.len();
            waiting.retain(|(key, layer)| {
                let parent = match &layer.below {
                    None => -1,
                    Some(below) => match layer_at.get(below.as_str()) {
                        Some(at) => *at,
                        None => return true,
                    },
                };
                layer_at.insert(key, contents.config.layers.len() as i64);
                let entry = LayerEntry { blob: layer.blob, parent, annotations: None };
                contents.config.layers.push(entry);
                contents.layers.insert(layer.blob, layer.layer(place));
                false
            });
            if waiting.len() == before {
                break;
            }
        }
        let mut record_at: HashMap<&str, i64> = HashMap::new();
        loop {
            let before = records.len();
            // Links to these may still be resolved in a later round.
            let open: BTreeSet<&str> = records.iter().map(|(key, _)| *key).collect();
            records.retain(|(key, record)| {
                let links = record.inputs.iter().flatten();
                if links.clone().any(|link| open.contains(link.record.as_str())) {
                    return true;
                }
                let inputs: Vec<Vec<LinkEntry>> = record
                    .inputs
                    .iter()
                    .map(|links| {
                        let link = |link: &LinkText| {
                            let at = *record_at.get(link.record.as_str())?;
                            Some(LinkEntry { selector: link.selector, link: at })
                        };
                        links.iter().filter_map(link).collect()
                    })
                    .collect();
                if inputs.iter().any(Vec::is_empty) {
                    return false;
                }
                let result = |result: &ResultText| {
                    let layer = *layer_at.get(result.layer.as_str())?;
                    Some(ResultEntry { layer, created_at: result.created_at.clone() })
                };
                record_at.insert(key, contents.config.records.len() as i64);
                let day = self.0.get(*key).map_or(0, |entry| entry.used / DAY);
                used.push(u32::try_from(day).unwrap_or(0));
                contents.config.records.push(RecordEntry {
                    layers: record.results.iter().filter_map(result).collect(),
                    chains: Vec::new(),
                    digest: record.digest,
                    inputs,
                });
                false
            });
            if records.len() == before {
                break;
            }
        }
        contents.config.kiln = Some(KilnFields { used, ..KilnFields::default() });
        contents
    }
}

impl MapLayer {
    fn layer(&self, place: &Place) -> Layer {
        Layer {
            diff_id: self.diff_id,
            blob: Some(Descriptor::new(self.media_type.as_str(), self.blob, self.size)),
            created: self.created_at.clone(),
            places: vec![place.clone()],
        }
    }
}

/// The last use of a record: the cache's day for it if that is past, else now.
fn used_at(config: &CacheConfig, record: usize, now: u64) -> u64 {
    let days = config.kiln.as_ref().and_then(|extra| extra.used.get(record)).copied();
    match days.map(u64::from) {
        Some(day) if day > 0 && day < now / DAY => day * DAY,
        _ => now,
    }
}

/// Marks a record's layers as used with it.
fn use_layers(record: &RecordText, used: u64, entries: &mut BTreeMap<String, MapEntry>) {
    for result in &record.results {
        let mut at = Some(result.layer.clone());
        while let Some(key) = at.take() {
            let Some(entry) = entries.get_mut(&key) else { break };
            // The layers below were marked together with this one.
            if entry.used >= used {
                break;
            }
            entry.used = used;
            if let EntryBody::Layer(layer) = &entry.body {
                at = layer.below.clone();
            }
        }
    }
}

/// Adds a layer and those below it.
fn add_layer(
    contents: &CacheContents,
    index: usize,
    keys: &mut HashMap<usize, String>,
    entries: &mut BTreeMap<String, MapEntry>,
) {
    let mut path = Vec::new();
    let mut at = Some(index);
    // A damaged config may have a loop, at which the search ends.
    while let Some(index) = at.filter(|index| !keys.contains_key(index) && !path.contains(index)) {
        path.push(index);
        at = usize::try_from(contents.config.layers[index].parent)
            .ok()
            .filter(|parent| *parent < contents.config.layers.len());
    }
    for index in path.into_iter().rev() {
        let entry = &contents.config.layers[index];
        let Some(layer) = contents.layers.get(&entry.blob) else { continue };
        let Some(blob) = &layer.blob else { continue };
        let below = match usize::try_from(entry.parent) {
            Err(_) => None,
            Ok(parent) => match keys.get(&parent) {
                Some(key) => Some(key.clone()),
                None => continue,
            },
        };
        let text = MapLayer {
            blob: blob.digest,
            media_type: oci::media_type::layer_to_oci(&blob.media_type).into(),
            size: blob.size,
            diff_id: layer.diff_id,
            created_at: layer.created.clone(),
            below,
        };
        let name = format!("{:?} {} {}", text.below, text.blob, text.diff_id);
        let key = format!("l.{}", Digest::of(name).hex());
        entries.insert(key.clone(), MapEntry { used: 0, body: EntryBody::Layer(text) });
        keys.insert(index, key);
    }
}

/// A record and its key; none while a record that it links to has no key.
fn record_text(
    config: &CacheConfig,
    index: usize,
    layers: &HashMap<usize, String>,
    records: &HashMap<usize, String>,
) -> Option<(String, RecordText)> {
    let record = &config.records[index];
    let mut inputs = Vec::with_capacity(record.inputs.len());
    for links in &record.inputs {
        let link = |entry: &LinkEntry| {
            let record = records.get(&usize::try_from(entry.link).ok()?)?.clone();
            Some(LinkText { selector: entry.selector, record })
        };
        let mut links: Vec<LinkText> = links.iter().map(link).collect::<Option<_>>()?;
        links.sort();
        inputs.push(links);
    }
    let result = |result: &ResultEntry| {
        let layer = layers.get(&usize::try_from(result.layer).ok()?)?.clone();
        Some(ResultText { layer, created_at: result.created_at.clone() })
    };
    let results = record.layers.iter().filter_map(result).collect();
    let name = serde_json::to_string(&(record.digest, &inputs)).ok()?;
    let key = format!("r.{}", Digest::of(name).hex());
    Some((key, RecordText { digest: record.digest, inputs, results }))
}
