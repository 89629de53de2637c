//! BuildKit's cache config, `application/vnd.buildkit.cacheconfig.v0` (interop reference, 1.1).

use oci::Digest;
use serde::{Deserialize, Serialize};

/// The whole document. Keys are written in BuildKit's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheConfig {
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub layers: Vec<LayerEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub records: Vec<RecordEntry>,
    /// What only kiln reads; BuildKit leaves out what it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kiln: Option<Extra>,
}

/// What kiln adds to a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extra {
    /// Who wrote it last.
    #[serde(default)]
    pub writer: String,
    /// For each record, the day of its last use, counted from 1970; 0 where nobody knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub used: Vec<u32>,
    /// The manifest of what kiln left beside the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Digest>,
    /// For each layer, how its diffID begins, in hex: so that the manifest, which says the same, can
    /// be held against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub layers: Vec<String>,
}

/// So many digits of a diffID.
pub(crate) const DIGITS: usize = 16;

/// A layer and the one below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerEntry {
    pub blob: Digest,
    /// Index of the layer below; -1 for none. 0 is not written, so absent is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parent: i64,
    /// What a place without a manifest says of the layer (interop reference, 1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<LayerAnnotations>,
}

/// A layer where no manifest describes it: in object stores and GitHub's cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerAnnotations {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(rename = "diffID", default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub created_at: String,
}

/// A key and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordEntry {
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
pub(crate) struct ResultEntry {
    pub layer: i64,
    #[serde(default)]
    pub created_at: String,
}

/// A result as a list of layers from the bottom up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChainEntry {
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<i64>,
    #[serde(default)]
    pub created_at: String,
}

/// Another record by which an input is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LinkEntry {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_empty")]
    pub selector: Option<Digest>,
    pub link: i64,
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

/// A selector that cannot be read is an error, never "no selector": that would match more.
fn maybe_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Digest>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    match text.filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}
