//! The document that holds a cache together: an image manifest, or a list of blobs.

use layer::Layer;
use oci::{Annotations, Descriptor, Index, Manifest, media_type};
use serde::Deserialize;

use super::CacheContents;
use super::contents::{CREATED, UNCOMPRESSED};
use super::json::parse;
use crate::Error;

/// The kind of document that holds a cache together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI image manifest (BuildKit 0.12 and later).
    ImageManifest,
    /// An OCI index that lists blobs.
    OciIndex,
    /// A Docker manifest list that lists blobs.
    DockerList,
}

impl Form {
    /// The document's media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::ImageManifest => media_type::OCI_MANIFEST,
            Self::OciIndex => media_type::OCI_INDEX,
            Self::DockerList => media_type::DOCKER_MANIFEST_LIST,
        }
    }
}

/// A manifest, by what it names: like BuildKit, its own media type is ignored.
pub(crate) enum ManifestKind {
    /// A cache: its config, and the layers that the config refers to.
    Cache { config: Box<Descriptor>, layers: Vec<Descriptor> },
    /// An image, perhaps with an inline cache.
    Image(Box<Manifest>),
    /// Images for several platforms.
    Images(Vec<Descriptor>),
}

pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<ManifestKind, Error> {
    let is_config =
        |descriptor: &Descriptor| descriptor.media_type == media_type::BUILDKIT_CACHE_CONFIG;
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        return Ok(if is_config(&manifest.config) {
            ManifestKind::Cache { config: Box::new(manifest.config), layers: manifest.layers }
        } else {
            ManifestKind::Image(Box::new(manifest))
        });
    }
    let index: Index = parse(bytes, "manifest")?;
    let (configs, others): (Vec<Descriptor>, Vec<Descriptor>) =
        index.manifests.into_iter().partition(is_config);
    Ok(match configs.into_iter().next_back() {
        Some(config) => ManifestKind::Cache { config: Box::new(config), layers: others },
        None => ManifestKind::Images(
            others
                .into_iter()
                .filter(|manifest| !media_type::is_index(&manifest.media_type))
                .collect(),
        ),
    })
}

/// The fields that tell documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentOutline {
    media_type: Option<String>,
    config: Option<Descriptor>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// A stored document, by what holds the cache together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredForm {
    /// A config without a manifest.
    ConfigAlone,
    /// A cache's manifest.
    Cache(Form),
    /// An image's manifest.
    Image,
}

impl StoredForm {
    pub fn of(bytes: &[u8]) -> Self {
        let Ok(outline) = serde_json::from_slice::<DocumentOutline>(bytes) else {
            return Self::ConfigAlone;
        };
        let is_list = outline.media_type.as_deref() == Some(media_type::DOCKER_MANIFEST_LIST);
        match (&outline.config, &outline.manifests) {
            (Some(config), _) if config.media_type == media_type::BUILDKIT_CACHE_CONFIG => {
                Self::Cache(Form::ImageManifest)
            }
            (Some(_), _) => Self::Image,
            (None, Some(_)) if is_list => Self::Cache(Form::DockerList),
            (None, Some(_)) => Self::Cache(Form::OciIndex),
            (None, None) => Self::ConfigAlone,
        }
    }
}

/// The documents of a cache, byte for byte.
#[derive(Clone, Debug)]
pub struct CacheDocuments {
    /// The config.
    pub config: Vec<u8>,
    /// The manifest; none where a back end keeps the config alone.
    pub manifest: Option<(Descriptor, Vec<u8>)>,
    /// The descriptor of the document that names the cache: the manifest, else the config.
    pub descriptor: Descriptor,
}

impl CacheDocuments {
    /// The config alone.
    pub fn config(config: Vec<u8>) -> Self {
        let descriptor = Descriptor::of(media_type::BUILDKIT_CACHE_CONFIG, &config);
        Self { config, manifest: None, descriptor }
    }

    /// A config and a manifest that names it and the layers.
    ///
    /// # Errors
    /// If the config names a layer without a description.
    pub fn with_manifest(contents: &CacheContents, form: Form) -> Result<Self, Error> {
        let config = contents.config.to_bytes();
        let config_descriptor = Descriptor::of(media_type::BUILDKIT_CACHE_CONFIG, &config);
        let entries = contents.config.layers.iter();
        let layers = entries
            .map(|entry| contents.layer(entry.blob))
            .map(|found| found.map(|(layer, blob)| annotated(layer, blob, form)))
            .collect::<Result<Vec<_>, _>>()?;
        let kind = form.media_type();
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
        let manifest = manifest.expect("a manifest's maps have strings as keys");
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

/// A layer's descriptor with what an importer needs: BuildKit drops layers without the digest of
/// their uncompressed bytes.
fn annotated(layer: &Layer, blob: &Descriptor, form: Form) -> Descriptor {
    let name = match form {
        Form::DockerList => media_type::layer_to_docker(&blob.media_type),
        Form::ImageManifest | Form::OciIndex => media_type::layer_to_oci(&blob.media_type),
    };
    let mut descriptor = Descriptor::new(name, blob.digest, blob.size);
    descriptor.annotations.insert(UNCOMPRESSED.into(), layer.diff_id.to_string());
    if let Some(created) = &layer.created {
        descriptor.annotations.insert(CREATED.into(), created.clone());
    }
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_document_is_told_by_what_it_names() {
        let of = |json: serde_json::Value| StoredForm::of(&serde_json::to_vec(&json).unwrap());
        let descriptor = |kind: &str| Descriptor::of(kind, b"");
        let cache = serde_json::json!({"config": descriptor(media_type::BUILDKIT_CACHE_CONFIG)});
        assert_eq!(of(cache), StoredForm::Cache(Form::ImageManifest));
        let image = serde_json::json!({"config": descriptor(media_type::OCI_CONFIG)});
        assert_eq!(of(image), StoredForm::Image);
        let index = serde_json::json!({"manifests": []});
        assert_eq!(of(index), StoredForm::Cache(Form::OciIndex));
        assert_eq!(of(serde_json::json!({"records": []})), StoredForm::ConfigAlone);
    }
}
