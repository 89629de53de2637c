//! An image as documents: config and manifest.

use graph::TaskId;
use layer::Layer;
use oci::{Annotations, Descriptor, Digest, ImageConfig, Manifest, RootFs, media_type};
use serde_json::Value;
use transfer::{LayerFormat, Transfer};

use crate::{Error, history};

/// A config and the layers that it is for.
#[derive(Clone, Debug)]
pub struct Image {
    /// The config, without what the layers say.
    pub config: ImageConfig,
    /// Layers from the bottom up.
    pub layers: Vec<Layer>,
    /// No time in the config is after this one, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<i64>,
    /// The number of history entries from the base: their times stay.
    pub base_history: usize,
    /// The number of layers from the base: the times of their files stay.
    pub base_layers: usize,
    /// The layers above the base were written again with no file later than this, in seconds since
    /// 1970.
    pub rewritten: Option<i64>,
}

/// The format of an image's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its layers.
    pub layers: LayerFormat,
    /// OCI's media types, or Docker's.
    pub oci_mediatypes: bool,
}

/// The documents of an image, and the blobs they speak of.
#[derive(Clone, Debug)]
pub struct Manifested {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The config.
    pub config: Vec<u8>,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The layers as the manifest names them.
    pub layers: Vec<Descriptor>,
}

impl Image {
    /// Writes the config: keys in alphabetical order, as BuildKit's exporter does.
    fn config_bytes(&self) -> Vec<u8> {
        let mut config = self.config.clone();
        config.rootfs = RootFs {
            kind: "layers".into(),
            diff_ids: self.layers.iter().map(|layer| layer.diff_id).collect(),
        };
        config.history = history::complete(config.history, &self.layers);
        if let Some(epoch) =
            self.epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        {
            for entry in config.history.iter_mut().skip(self.base_history) {
                clamp(&mut entry.created, epoch);
            }
            if config.created.is_some() {
                clamp(&mut config.created, epoch);
            }
        }
        if config.created.is_none() {
            config.created = config.history.iter().rev().find_map(|entry| entry.created.clone());
        }
        sorted(&config)
    }

    /// Makes the documents, compressing layers that have no blob yet. The manifest gets the
    /// annotations.
    ///
    /// # Errors
    /// If a layer cannot be compressed.
    pub async fn manifest(
        &self,
        transfer: &Transfer,
        format: Format,
        annotations: Annotations,
        task: Option<TaskId>,
    ) -> Result<Manifested, Error> {
        let mut blobs = Vec::with_capacity(self.layers.len());
        for index in 0..self.layers.len() {
            blobs.push(transfer.describe(&self.layers, index, format.layers, task).await);
        }
        let blobs = transfer::all(blobs)?;
        let mut layers: Vec<Descriptor> =
            blobs.iter().map(|blob| plain_descriptor(blob, format.oci_mediatypes)).collect();
        // Docker's documents have no place for annotations.
        if let (Some(epoch), true) = (self.rewritten, format.oci_mediatypes) {
            for layer in layers.iter_mut().skip(self.base_layers) {
                layer.annotations.insert(REWRITTEN.into(), epoch.to_string());
            }
        }
        let config = self.config_bytes();
        let (manifest_type, config_type) = match format.oci_mediatypes {
            true => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
            false => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
        };
        let config_descriptor = Descriptor::of(config_type, &config);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(manifest_type.into()),
            artifact_type: None,
            config: config_descriptor.clone(),
            layers: layers.clone(),
            subject: None,
            annotations,
        };
        let manifest = serde_json::to_vec_pretty(&manifest)
            .expect("a manifest has no map with keys that are not texts");
        let descriptor = Descriptor::of(manifest_type, &manifest);
        Ok(Manifested { manifest, descriptor, config, config_descriptor, layers })
    }
}

/// BuildKit's annotation of a layer whose times were changed.
const REWRITTEN: &str = "buildkit/rewritten-timestamp";

/// A layer as an image's manifest names it: without the annotations that only caches need.
fn plain_descriptor(blob: &Descriptor, oci_mediatypes: bool) -> Descriptor {
    let name = match oci_mediatypes {
        true => media_type::layer_to_oci(&blob.media_type),
        false => media_type::layer_to_docker(&blob.media_type),
    };
    Descriptor::new(name, blob.digest, blob.size)
}

fn clamp(time: &mut Option<String>, epoch: jiff::Timestamp) {
    let later = time
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .is_none_or(|time| time > epoch);
    if later {
        *time = Some(epoch.to_string());
    }
}

/// JSON with the keys of the outermost object sorted.
fn sorted(config: &ImageConfig) -> Vec<u8> {
    let value =
        serde_json::to_value(config).expect("a config has no map with keys that are not texts");
    let Value::Object(fields) = value else { unreachable!("a config is an object") };
    let mut fields: Vec<(String, Value)> = fields.into_iter().collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    let fields: serde_json::Map<String, Value> = fields.into_iter().collect();
    serde_json::to_vec(&fields).expect("it was JSON before")
}

/// The identity of an image's config: what `docker images` calls its ID.
impl Manifested {
    /// Digest of the config.
    pub fn id(&self) -> Digest {
        self.config_descriptor.digest
    }
}
