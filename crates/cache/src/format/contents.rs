//! The content of a cache, independent of the document that holds it together.

use std::collections::HashMap;

use layer::{Layer, Place};
use oci::{Descriptor, Digest, media_type};

use super::config::{CacheConfig, LayerAnnotations};
use super::json::parse;
use crate::Error;

/// The time that Go writes for an unset one.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Annotations by which a manifest describes a layer.
pub(crate) const UNCOMPRESSED: &str = "containerd.io/uncompressed";
pub(crate) const CREATED: &str = "buildkit/createdat";

/// A cache's config and the descriptions of its layers.
#[derive(Clone, Debug, Default)]
pub struct CacheContents {
    /// Records and layers. The layers' annotations are unset: a back end that needs them writes
    /// them ([`CacheContents::annotated_config`]).
    pub config: CacheConfig,
    /// Layers by the digest of their blob. A layer that the config names and this map lacks cannot
    /// be used.
    pub layers: HashMap<Digest, Layer>,
}

impl CacheContents {
    /// Reads a config whose layers a manifest describes.
    ///
    /// # Errors
    /// If the config cannot be read.
    pub fn described(
        config: &[u8],
        descriptors: &[Descriptor],
        place: &Place,
    ) -> Result<Self, Error> {
        let mut config: CacheConfig = parse(config, "config")?;
        config.layers.iter_mut().for_each(|layer| layer.annotations = None);
        let layers = descriptors
            .iter()
            .filter_map(|descriptor| Some((descriptor.digest, described_layer(descriptor, place)?)))
            .collect();
        Ok(Self { config, layers })
    }

    /// Reads a config that describes its layers itself. A layer without a diffID cannot be used.
    ///
    /// # Errors
    /// If the config cannot be read.
    pub fn annotated(config: &[u8], place: &Place) -> Result<Self, Error> {
        let mut config: CacheConfig = parse(config, "config")?;
        let mut layers = HashMap::new();
        for entry in &mut config.layers {
            let Some(annotations) = entry.annotations.take() else { continue };
            let Some(diff_id) = annotations.diff_id else { continue };
            let kind = media_type::layer_to_oci(&annotations.media_type);
            let is_set = |time: &String| !matches!(time.as_str(), "" | NO_TIME);
            let layer = Layer {
                diff_id,
                blob: Some(Descriptor::new(kind, entry.blob, annotations.size)),
                created: Some(annotations.created_at).filter(is_set),
                places: vec![place.clone()],
            };
            layers.insert(entry.blob, layer);
        }
        Ok(Self { config, layers })
    }

    /// Adds the records and layers of another cache.
    pub fn append(&mut self, other: Self) {
        let first_layer = self.config.layers.len() as i64;
        let first_record = self.config.records.len() as i64;
        self.config.layers.extend(other.config.layers.into_iter().map(|mut layer| {
            if layer.parent >= 0 {
                layer.parent += first_layer;
            }
            layer
        }));
        let records = other.config.records.into_iter();
        let records = records.map(|record| record.shifted(first_layer, first_record));
        self.config.records.extend(records);
        self.layers.extend(other.layers);
    }

    /// The description of a layer of the config.
    ///
    /// # Errors
    /// If there is none.
    pub fn layer(&self, blob: Digest) -> Result<(&Layer, &Descriptor), Error> {
        let layer = self.layers.get(&blob);
        layer
            .and_then(|layer| Some((layer, layer.blob.as_ref()?)))
            .ok_or_else(|| Error::Damaged(format!("nothing is known of layer `{blob}`")))
    }

    /// The config with a description of each layer.
    ///
    /// # Errors
    /// If the config names a layer without a description.
    pub fn annotated_config(&self) -> Result<Vec<u8>, Error> {
        let mut config = self.config.clone();
        for entry in &mut config.layers {
            let (layer, blob) = self.layer(entry.blob)?;
            entry.annotations = Some(LayerAnnotations {
                media_type: media_type::layer_to_oci(&blob.media_type).into(),
                diff_id: Some(layer.diff_id),
                size: blob.size,
                created_at: layer.created.clone().unwrap_or_else(|| NO_TIME.into()),
            });
        }
        Ok(config.to_bytes())
    }
}

/// The layer of a descriptor. BuildKit too drops a layer without the digest of its uncompressed
/// bytes.
fn described_layer(descriptor: &Descriptor, place: &Place) -> Option<Layer> {
    let diff_id = descriptor.annotations.get(UNCOMPRESSED)?.parse().ok()?;
    Some(Layer {
        diff_id,
        blob: Some(Descriptor::new(
            media_type::layer_to_oci(&descriptor.media_type),
            descriptor.digest,
            descriptor.size,
        )),
        created: descriptor.annotations.get(CREATED).cloned(),
        places: vec![place.clone()],
    })
}
