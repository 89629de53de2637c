//! BuildKit's cache format as it is read: a manifest, a config, and no layer.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, media_type};
use serde::Deserialize;
use store::{Layer, Place};

use crate::config::{CacheConfig, ChainEntry, LayerEntry, RecordEntry};
use crate::place::{Contents, INLINE_FIELD};
use crate::{Error, RecordSet};

/// BuildKit reads at most 1 MiB. Larger caches that others wrote are still worth reading.
pub(crate) const CONFIG_LIMIT: u64 = 16 << 20;
/// An index of more images than this is no cache.
pub(crate) const INLINE_IMAGES: usize = 16;

/// A cache that was read.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Its records.
    pub records: Arc<RecordSet>,
    /// Its manifest; its config where the place has no manifest.
    pub manifest: Digest,
    /// What that says, to see whether a new one says the same.
    pub bytes: Vec<u8>,
}

/// Reads a manifest and the config that it names, for the fuzzer.
#[cfg(fuzzing)]
pub fn read_hostile(manifest: &[u8], config: &[u8]) {
    let place = Place::Layout("/nowhere".into());
    let read = |contents: Result<Contents, Error>| {
        let _ = contents.and_then(|c| crate::RecordSet::new("fuzzed", &c.config, &c.layers));
    };
    let layers = match shape(manifest) {
        Ok(Shape::Cache { layers, .. }) => layers,
        Ok(Shape::Image(image)) => {
            let digest = image.config.digest;
            read(inline(&[(*image, config.to_vec())], &place, digest));
            Vec::new()
        }
        Ok(Shape::Images(_)) | Err(_) => Vec::new(),
    };
    read(cache(config, &layers, &place));
}

/// What a manifest is, by what it names: BuildKit does not look at its media type.
pub(crate) enum Shape {
    /// A cache: its config, and the layers that the config speaks of.
    Cache { config: Box<Descriptor>, layers: Vec<Descriptor> },
    /// An image, perhaps with an inline cache.
    Image(Box<Manifest>),
    /// Images for several platforms.
    Images(Vec<Descriptor>),
}

pub(crate) fn shape(bytes: &[u8]) -> Result<Shape, Error> {
    let is_config =
        |descriptor: &Descriptor| descriptor.media_type == media_type::BUILDKIT_CACHE_CONFIG;
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        return Ok(match is_config(&manifest.config) {
            true => Shape::Cache { config: Box::new(manifest.config), layers: manifest.layers },
            false => Shape::Image(Box::new(manifest)),
        });
    }
    let index: Index = parse(bytes, "manifest")?;
    let (configs, others): (Vec<Descriptor>, Vec<Descriptor>) =
        index.manifests.into_iter().partition(is_config);
    Ok(match configs.into_iter().next_back() {
        Some(config) => Shape::Cache { config: Box::new(config), layers: others },
        None => Shape::Images(
            others
                .into_iter()
                .filter(|manifest| !media_type::is_index(&manifest.media_type))
                .collect(),
        ),
    })
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Damaged(format!("its {what} cannot be read: {error}")))
}

/// A cache's config and what its manifest says of the layers.
pub(crate) fn cache(
    config: &[u8],
    descriptors: &[Descriptor],
    place: &Place,
) -> Result<Contents, Error> {
    let mut config: CacheConfig = parse(config, "config")?;
    // The manifest describes the layers.
    config.layers.iter_mut().for_each(|layer| layer.annotations = None);
    let layers = descriptors
        .iter()
        .filter_map(|descriptor| Some((descriptor.digest, layer(descriptor, place)?)))
        .collect();
    Ok(Contents { config, layers })
}

/// A layer without the digest of its uncompressed bytes cannot be used (BuildKit drops it too).
fn layer(descriptor: &Descriptor, place: &Place) -> Option<Layer> {
    let diff_id = descriptor.annotations.get("containerd.io/uncompressed")?.parse().ok()?;
    Some(Layer {
        diff_id,
        blob: Some(Descriptor::new(
            media_type::layer_to_oci(&descriptor.media_type),
            descriptor.digest,
            descriptor.size,
        )),
        created: descriptor.annotations.get("buildkit/createdat").cloned(),
        places: vec![place.clone()],
    })
}

/// The field of an image's config that holds an inline cache (interop reference, 1.4): records
/// whose layers are those of the image.
pub(crate) fn inline(
    images: &[(Manifest, Vec<u8>)],
    place: &Place,
    digest: Digest,
) -> Result<Contents, Error> {
    let mut all = CacheConfig::default();
    let mut layers = HashMap::new();
    for (manifest, config) in images {
        let config: ImageConfig = parse(config, "image config")?;
        let Some(text) = config.other.get(INLINE_FIELD).and_then(|value| value.as_str()) else {
            continue;
        };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| Error::Damaged(format!("its inline cache is not base64: {error}")))?;
        let records: Vec<RecordEntry> = parse(&bytes, "inline cache")?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::Damaged(
                "its manifest and config do not name the same layers".into(),
            ));
        }
        let first_layer = all.layers.len() as i64;
        let first_record = all.records.len() as i64;
        let mut times = config
            .history
            .iter()
            .filter(|entry| !entry.empty_layer)
            .map(|entry| entry.created.clone());
        for (index, (blob, diff_id)) in
            (0..).zip(manifest.layers.iter().zip(&config.rootfs.diff_ids))
        {
            all.layers.push(LayerEntry {
                blob: blob.digest,
                parent: if index == 0 { -1 } else { first_layer + index - 1 },
                annotations: None,
            });
            let blob_descriptor =
                Descriptor::new(media_type::layer_to_oci(&blob.media_type), blob.digest, blob.size);
            layers.insert(
                blob.digest,
                Layer {
                    diff_id: *diff_id,
                    blob: Some(blob_descriptor),
                    created: times.next().flatten(),
                    places: vec![place.clone()],
                },
            );
        }
        all.records
            .extend(records.into_iter().map(|record| moved(record, first_layer, first_record)));
    }
    match all.records.is_empty() {
        true => Err(Error::NoCache { digest }),
        false => Ok(Contents { config: all, layers }),
    }
}

/// A record whose indexes begin elsewhere.
pub(crate) fn moved(mut record: RecordEntry, first_layer: i64, first_record: i64) -> RecordEntry {
    for result in &mut record.layers {
        result.layer += first_layer;
    }
    for ChainEntry { layers, .. } in &mut record.chains {
        layers.iter_mut().for_each(|layer| *layer += first_layer);
    }
    for link in record.inputs.iter_mut().flatten() {
        link.link += first_record;
    }
    record
}
