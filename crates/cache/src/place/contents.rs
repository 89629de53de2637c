//! What a place keeps, whatever the place.

use std::collections::HashMap;

use oci::{Annotations, Descriptor, Digest, Index, Manifest, media_type};
use store::{Layer, Place};

use crate::Error;
use crate::config::{CacheConfig, LayerAnnotations};
use crate::import::moved;

/// The config of a cache, and what it needs to be told of its layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// Records and layers. The layers' annotations are none: a place that needs them writes them.
    pub config: CacheConfig,
    /// Layers by the digest of their blob. One that the config names and this does not know
    /// cannot be used.
    pub layers: HashMap<Digest, Layer>,
}

/// What document holds a cache together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI image manifest (BuildKit 0.12 and later).
    ImageManifest,
    /// An OCI index that lists blobs.
    OciIndex,
    /// A Docker manifest list that lists blobs.
    DockerList,
}

/// The documents of a cache, byte for byte.
#[derive(Clone, Debug)]
pub(crate) struct Documents {
    pub config: Vec<u8>,
    /// The manifest; none where a place has only the config.
    pub manifest: Option<(Descriptor, Vec<u8>)>,
    /// What names the cache: the manifest, else the config.
    pub descriptor: Descriptor,
}

impl Contents {
    /// Adds another cache to this one, beside what is there.
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
        let records = records.map(|record| moved(record, first_layer, first_record));
        self.config.records.extend(records);
        self.layers.extend(other.layers);
    }
}

/// What a config says where no manifest describes the layers. A layer of which it does not say
/// what it is cannot be used.
pub(crate) fn contents_of(mut config: CacheConfig, place: &Place) -> Contents {
    let mut layers = HashMap::new();
    for entry in &mut config.layers {
        let Some(said) = entry.annotations.take() else { continue };
        let Some(diff_id) = said.diff_id else { continue };
        let kind = media_type::layer_to_oci(&said.media_type);
        let layer = Layer {
            diff_id,
            blob: Some(Descriptor::new(kind, entry.blob, said.size)),
            created: Some(said.created_at).filter(|time| !matches!(time.as_str(), "" | NO_TIME)),
            places: vec![place.clone()],
        };
        layers.insert(entry.blob, layer);
    }
    Contents { config, layers }
}

/// How Go writes a time that is none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A config in which each layer says what it is.
///
/// # Errors
/// If nothing is known of a layer.
pub(crate) fn annotated_config(contents: &Contents) -> Result<Vec<u8>, Error> {
    let mut config = contents.config.clone();
    for entry in &mut config.layers {
        let layer = contents.layers.get(&entry.blob);
        let known = layer.and_then(|layer| Some((layer, layer.blob.as_ref()?)));
        let (layer, blob) = known
            .ok_or_else(|| Error::Damaged(format!("nothing is known of layer `{}`", entry.blob)))?;
        entry.annotations = Some(LayerAnnotations {
            media_type: media_type::layer_to_oci(&blob.media_type).into(),
            diff_id: Some(layer.diff_id),
            size: blob.size,
            created_at: layer.created.clone().unwrap_or_else(|| NO_TIME.into()),
        });
    }
    Ok(config_bytes(&config))
}

impl Documents {
    /// The config alone.
    pub fn config(config: Vec<u8>) -> Self {
        let descriptor = Descriptor::of(media_type::BUILDKIT_CACHE_CONFIG, &config);
        Self { config, manifest: None, descriptor }
    }

    /// A config and a manifest that names it and the layers.
    ///
    /// # Errors
    /// If the config names a layer that nothing is known of.
    pub fn with_manifest(contents: &Contents, form: Form) -> Result<Self, Error> {
        let config = config_bytes(&contents.config);
        let config_descriptor = Descriptor::of(media_type::BUILDKIT_CACHE_CONFIG, &config);
        let layers = contents
            .config
            .layers
            .iter()
            .map(|entry| {
                let layer = contents.layers.get(&entry.blob);
                layer.and_then(|layer| annotated(layer, form)).ok_or_else(|| {
                    Error::Damaged(format!("nothing is known of layer `{}`", entry.blob))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let kind = match form {
            Form::ImageManifest => media_type::OCI_MANIFEST,
            Form::OciIndex => media_type::OCI_INDEX,
            Form::DockerList => media_type::DOCKER_MANIFEST_LIST,
        };
        let manifest = match form {
            Form::ImageManifest => serde_json::to_vec(&Manifest {
                schema_version: 2,
                media_type: Some(kind.into()),
                artifact_type: None,
                config: config_descriptor,
                layers,
                subject: None,
                annotations: Annotations::new(),
            }),
            Form::OciIndex | Form::DockerList => serde_json::to_vec(&Index {
                schema_version: 2,
                media_type: Some(kind.into()),
                manifests: layers.into_iter().chain([config_descriptor]).collect(),
                annotations: Annotations::new(),
            }),
        };
        let manifest = manifest.expect("a manifest has no map with keys that are not texts");
        let descriptor = Descriptor::of(kind, &manifest);
        Ok(Self { config, manifest: Some((descriptor.clone(), manifest)), descriptor })
    }

    /// The config's descriptor.
    pub fn config_descriptor(&self) -> Descriptor {
        Descriptor::of(media_type::BUILDKIT_CACHE_CONFIG, &self.config)
    }

    /// The size of the larger document.
    pub fn largest(&self) -> usize {
        let manifest = self.manifest.as_ref().map_or(0, |(_, bytes)| bytes.len());
        self.config.len().max(manifest)
    }
}

pub(crate) fn config_bytes(config: &CacheConfig) -> Vec<u8> {
    serde_json::to_vec(config).expect("a config has no map with keys that are not texts")
}

/// A layer's descriptor with what an importer needs: BuildKit drops layers without the digest of
/// their uncompressed bytes.
fn annotated(layer: &Layer, form: Form) -> Option<Descriptor> {
    let blob = layer.blob.as_ref()?;
    let name = match form {
        Form::DockerList => media_type::layer_to_docker(&blob.media_type),
        Form::ImageManifest | Form::OciIndex => media_type::layer_to_oci(&blob.media_type),
    };
    let mut descriptor = Descriptor::new(name, blob.digest, blob.size);
    descriptor.annotations.insert("containerd.io/uncompressed".into(), layer.diff_id.to_string());
    if let Some(created) = &layer.created {
        descriptor.annotations.insert("buildkit/createdat".into(), created.clone());
    }
    Some(descriptor)
}
