//! An inline cache: records in a field of an image's config, whose layers are the image's
//! (BuildKit `cache/remotecache/inline`).

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layer::{Chain, Layer, Place};
use oci::{Descriptor, Digest, ImageConfig, Manifest, media_type};
use solve::StepFacts;

use super::config::{CacheConfig, ChainEntry, LayerEntry, LinkEntry, RecordEntry, ResultEntry};
use super::json::parse;
use super::{CacheContents, CacheMode, Export};
use crate::Error;

/// The field of an image's config that holds its cache.
pub const INLINE_FIELD: &str = "moby.buildkit.cache.v0";

/// Encodes the records of a build for [`INLINE_FIELD`] of the image that has these layers. A result
/// with a layer that the image lacks is left out; its record stays, because others link to it.
///
/// Docker 20.10 reads inline caches too, but its BuildKit gives some steps other digests: `old` maps
/// today's digests to those, and records under them are written as well.
///
/// None where no result is left, since nothing could use that.
pub fn inline_cache(
    steps: &[StepFacts<Chain>],
    layers: &[Layer],
    old: &HashMap<Digest, Digest>,
) -> Option<String> {
    // The image's blobs are not known yet, so layers are named by their content.
    let export = Export::new(steps, &[], CacheMode::Max);
    let named = |chain: &Chain| {
        let diff_id = chain.top().map_or(Digest::of(""), |layer| layer.diff_id);
        Descriptor::new(media_type::OCI_LAYER, diff_id, 0)
    };
    let config = export.contents(named).config;
    let image: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let mut records = in_image(&config, &image);
    add_old(&mut records, old);
    let has_result = |record: &RecordEntry| !record.layers.is_empty() || !record.chains.is_empty();
    if !records.iter().any(has_result) {
        return None;
    }
    let text = serde_json::to_vec(&records).expect("records have no map");
    Some(STANDARD.encode(text))
}

/// Records whose layers are numbered as in an image, from the bottom up.
fn in_image(config: &CacheConfig, image: &[Digest]) -> Vec<RecordEntry> {
    let at: HashMap<Digest, i64> = image.iter().copied().zip(0..).collect();
    let mut records = config.records.clone();
    for record in &mut records {
        for result in std::mem::take(&mut record.layers) {
            let chain = chain_of(config, result.layer);
            if image.starts_with(&chain) {
                let layer = chain.len() as i64 - 1;
                record.layers.push(ResultEntry { layer, ..result });
            } else if let Some(layers) = chain.iter().map(|layer| at.get(layer).copied()).collect()
            {
                record.chains.push(ChainEntry { layers, created_at: result.created_at });
            }
        }
    }
    records
}

/// Adds records with old digests. Each link to a record gains a link to its old twin, and links of
/// the twins have no selector.
fn add_old(records: &mut Vec<RecordEntry>, old: &HashMap<Digest, Digest>) {
    let mut twins: HashMap<i64, i64> = HashMap::new();
    for at in 0..records.len() {
        if let Some(digest) = old.get(&records[at].digest) {
            twins.insert(at as i64, records.len() as i64);
            records.push(RecordEntry { digest: *digest, ..records[at].clone() });
        }
    }
    let old: HashSet<i64> = twins.values().copied().collect();
    for (at, record) in (0..).zip(records.iter_mut()) {
        for links in &mut record.inputs {
            let others: Vec<LinkEntry> = links
                .iter()
                .filter_map(|entry| Some(LinkEntry { link: *twins.get(&entry.link)?, ..*entry }))
                .collect();
            links.extend(others);
            if old.contains(&at) {
                links.iter_mut().for_each(|entry| entry.selector = None);
            }
        }
    }
}

/// Reads the inline caches of images: one image for each platform.
///
/// # Errors
/// If no image has one ([`Error::NoCache`]), or one is damaged.
pub(crate) fn read_inline(
    images: &[(Manifest, Vec<u8>)],
    place: &Place,
    digest: Digest,
) -> Result<CacheContents, Error> {
    let mut all = CacheContents::default();
    for (manifest, config) in images {
        let config: ImageConfig = parse(config, "image config")?;
        let field = config.other.get(INLINE_FIELD).and_then(|value| value.as_str());
        if let Some(text) = field {
            let records = decode_records(text)?;
            all.append(image_contents(records, manifest, &config, place)?);
        }
    }
    if all.config.records.is_empty() {
        return Err(Error::NoCache { digest });
    }
    Ok(all)
}

fn decode_records(field: &str) -> Result<Vec<RecordEntry>, Error> {
    let bytes = STANDARD
        .decode(field)
        .map_err(|error| Error::Damaged(format!("its inline cache is not base64: {error}")))?;
    parse(&bytes, "inline cache")
}

/// Records of an image, with the image's layers as one chain.
fn image_contents(
    records: Vec<RecordEntry>,
    manifest: &Manifest,
    config: &ImageConfig,
    place: &Place,
) -> Result<CacheContents, Error> {
    let diff_ids = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        return Err(Error::Damaged("its manifest and config do not name the same layers".into()));
    }
    let mut contents = CacheContents::default();
    let history = config.history.iter().filter(|entry| !entry.empty_layer);
    let mut times = history.map(|entry| entry.created.clone());
    for (parent, (blob, diff_id)) in (-1..).zip(manifest.layers.iter().zip(diff_ids)) {
        contents.config.layers.push(LayerEntry { blob: blob.digest, parent, annotations: None });
        let kind = media_type::layer_to_oci(&blob.media_type);
        let layer = Layer {
            diff_id: *diff_id,
            blob: Some(Descriptor::new(kind, blob.digest, blob.size)),
            created: times.next().flatten(),
            places: vec![place.clone()],
        };
        contents.layers.insert(blob.digest, layer);
    }
    contents.config.records = records;
    Ok(contents)
}

/// A layer of a config and all below it, from the bottom up.
fn chain_of(config: &CacheConfig, top: i64) -> Vec<Digest> {
    let mut chain = Vec::new();
    let mut at = top;
    while let Some(entry) = usize::try_from(at).ok().and_then(|at| config.layers.get(at)) {
        chain.push(entry.blob);
        at = entry.parent;
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> CacheConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn results_are_counted_in_the_image() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(Digest::of);
        let result = |layer: i64| serde_json::json!([{"layer": layer, "createdAt": "t"}]);
        // The image is a, b, c; c was made beside the others, as COPY --link does; d is not in it.
        let config = config(serde_json::json!({
            "layers": [{"blob": b, "parent": 1}, {"blob": a, "parent": -1},
                {"blob": c, "parent": -1}, {"blob": d, "parent": 1}, {"blob": c}],
            "records": [{"digest": a, "layers": result(1)}, {"digest": b, "layers": result(0)},
                {"digest": c, "layers": result(2)}, {"digest": d, "layers": result(3)},
                {"digest": Digest::of("all"), "layers": result(4), "inputs": [[{"link": 1}], [{"link": 2}]]}],
        }));
        let records = in_image(&config, &[a, b, c]);
        assert_eq!(
            serde_json::to_value(&records).unwrap(),
            serde_json::json!([
                {"layers": result(0), "digest": a},
                {"layers": result(1), "digest": b},
                {"chains": [{"layers": [2], "createdAt": "t"}], "digest": c},
                {"digest": d},
                {"layers": result(2), "digest": Digest::of("all"), "inputs": [[{"link": 1}], [{"link": 2}]]},
            ])
        );
    }

    #[test]
    fn old_records_stand_beside_todays() {
        let [base, run, old, copy] = ["base", "run", "old", "copy"].map(Digest::of);
        let selector = Digest::of("/");
        let mut records: Vec<RecordEntry> = serde_json::from_value(serde_json::json!([
            {"digest": base}, {"digest": copy, "inputs": [[{"link": 2}]]},
            {"digest": run, "inputs": [[{"selector": selector, "link": 0}]]},
        ]))
        .unwrap();
        add_old(&mut records, &HashMap::from([(run, old)]));
        assert_eq!(
            serde_json::to_value(&records).unwrap(),
            serde_json::json!([
                {"digest": base}, {"digest": copy, "inputs": [[{"link": 2}, {"link": 3}]]},
                {"digest": run, "inputs": [[{"selector": selector, "link": 0}]]},
                {"digest": old, "inputs": [[{"link": 0}]]},
            ])
        );
    }
}
