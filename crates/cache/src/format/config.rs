//! BuildKit's cache config, `application/vnd.buildkit.cacheconfig.v0`
//! (BuildKit `cache/remotecache/v1/spec.go`).

use oci::Digest;
use serde::{Deserialize, Serialize};

/// The whole document. Keys are written in BuildKit's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheConfig {
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub layers: Vec<LayerEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub records: Vec<RecordEntry>,
    /// Fields that only kiln reads; BuildKit ignores unknown fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kiln: Option<KilnFields>,
}

/// The fields that kiln adds to a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KilnFields {
    /// The program that wrote the cache last.
    #[serde(default)]
    pub writer: String,
    /// For each record, the day of its last use, counted from 1970; 0 where it is unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub used: Vec<u32>,
    /// The manifest of the sidecar.
    #[serde(rename = "beside", default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Digest>,
    /// For each layer, the first [`DIGITS`] hex digits of its diffID, as a check on the manifest's
    /// annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub layers: Vec<String>,
}

/// Hex digits of a diffID that [`KilnFields::layers`] keeps.
pub(crate) const DIGITS: usize = 16;

/// A layer and the one below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEntry {
    pub blob: Digest,
    /// Index of the layer below; -1 for none. 0 is not written, so absent is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parent: i64,
    /// Set where no manifest describes the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<LayerAnnotations>,
}

/// The description of a layer where there is no manifest: in object stores and GitHub's cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerAnnotations {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(rename = "diffID", default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub created_at: String,
}

/// A cache key, its inputs and its results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub layers: Vec<ResultEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub chains: Vec<ChainEntry>,
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub inputs: Vec<Vec<LinkEntry>>,
}

/// A result: the top of a chain of parents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultEntry {
    pub layer: i64,
    #[serde(default)]
    pub created_at: String,
}

/// A result as a list of layers from the bottom up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainEntry {
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<i64>,
    #[serde(default)]
    pub created_at: String,
}

/// Another record by which an input is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkEntry {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_empty")]
    pub selector: Option<Digest>,
    pub link: i64,
}

impl CacheConfig {
    /// The document.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a config has no map")
    }
}

impl RecordEntry {
    /// The record with its indexes moved, for a config in which other entries come first.
    pub fn shifted(mut self, layers: i64, records: i64) -> Self {
        for result in &mut self.layers {
            result.layer += layers;
        }
        for ChainEntry { layers: chain, .. } in &mut self.chains {
            chain.iter_mut().for_each(|layer| *layer += layers);
        }
        for link in self.inputs.iter_mut().flatten() {
            link.link += records;
        }
        self
    }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes `null` for an empty list.
fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An unreadable selector is an error: taken for an absent one, the link would match more keys.
fn maybe_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Digest>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    match text.filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}
