//! Images as bases: from a name to a config and layers, without their bytes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use graph::ImageSource;
use layer::{Layer, Place};
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type};
use serde::de::DeserializeOwned;

use crate::layout::error::LayoutError;

/// Configs of real images are a few KiB; labels can make them larger.
const CONFIG_LIMIT: u64 = 8 << 20;

/// An image that a build stands on.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// The source that its key is computed from.
    pub source: ImageSource,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers from the bottom up; their bytes stay where they are.
    pub layers: Vec<Layer>,
}

/// An image with its documents as a registry has them.
#[derive(Clone, Debug)]
pub struct FetchedImage {
    /// Their contents.
    pub image: BaseImage,
    /// The digest behind the name: of an index, or of the manifest itself.
    pub root: Descriptor,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The config.
    pub config: Vec<u8>,
}

/// Why an image cannot be a base.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry does not have it.
    #[error("failed to resolve source metadata for {reference}: {reference}: not found")]
    NotFound {
        /// The image.
        reference: Reference,
    },
    /// The registry did not give it.
    #[error("failed to resolve source metadata for {reference}")]
    Registry {
        /// The image.
        reference: Reference,
        /// Why.
        source: Box<registry::Error>,
    },
    /// It has no manifest for the platform.
    #[error(
        "{reference}: no match for platform in manifest: not found (wanted `{wanted}`, there are: {there})"
    )]
    Platform {
        /// The image.
        reference: Reference,
        /// The requested platform.
        wanted: Platform,
        /// The image's platforms.
        there: String,
    },
    /// A document of it makes no sense.
    #[error("{reference}: its {name} cannot be read: {source}")]
    Document {
        /// The image.
        reference: Reference,
        /// The document.
        name: &'static str,
        /// The reason.
        source: serde_json::Error,
    },
    /// Its documents do not agree.
    #[error("{reference}: {source}")]
    Layers {
        /// The image.
        reference: Reference,
        /// The reason.
        source: LayerCountError,
    },
    /// The layout that it is in is damaged.
    #[error("{reference}: {source}")]
    Layout {
        /// The image.
        reference: Reference,
        /// The reason.
        source: LayoutError,
    },
    /// An image of a layout was asked for by name alone.
    #[error("{reference}: it has no digest")]
    NoDigest {
        /// The image.
        reference: Reference,
    },
}

/// A manifest and a config with different numbers of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its manifest has {manifest} layers and its config {config}")]
pub struct LayerCountError {
    /// The layers in the manifest.
    pub manifest: usize,
    /// The layers in the config.
    pub config: usize,
}

/// Finds images, each once.
pub struct Images {
    client: registry::Client,
    /// Layers by manifest, for the steps that stand on them.
    layers: Mutex<HashMap<Digest, Vec<Layer>>>,
}

impl Images {
    /// Images that `client` reaches.
    pub fn new(client: registry::Client) -> Self {
        Self { client, layers: Mutex::default() }
    }

    /// The image of a name, for a platform.
    ///
    /// # Errors
    /// If the registry does not give it, it is for other platforms, or makes no sense.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, ImageError> {
        self.fetch(reference, platform, false).await.map(|fetched| fetched.image)
    }

    /// Like [`Images::resolve`], with the documents. `insecure` is noted with its layers'
    /// locations.
    ///
    /// # Errors
    /// As [`Images::resolve`].
    pub async fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        insecure: bool,
    ) -> Result<FetchedImage, ImageError> {
        let (root, bytes) = self
            .client
            .manifest(reference)
            .await
            .map_err(|source| registry_error(reference, source))?;
        let (descriptor, bytes) = match is_index(&root, &bytes) {
            false => (root.clone(), bytes),
            true => {
                let chosen = choose(reference, &bytes, platform)?;
                let pinned =
                    Reference::new(reference.repository().clone(), None, Some(chosen.digest));
                self.client
                    .manifest(&pinned)
                    .await
                    .map_err(|source| registry_error(reference, source))?
            }
        };
        let manifest: Manifest = document(reference, "manifest", &bytes)?;
        let config_bytes = self
            .client
            .blob_bytes(reference.repository(), &manifest.config, CONFIG_LIMIT)
            .await
            .map_err(|source| registry_error(reference, source))?;
        let config: ImageConfig = document(reference, "config", &config_bytes)?;
        let place = Place::Registry { repository: reference.repository().clone(), insecure };
        let layers = layers(&manifest, &config, Some(&place))
            .map_err(|source| ImageError::Layers { reference: reference.clone(), source })?;
        let image = BaseImage {
            source: ImageSource {
                reference: reference.with_digest(root.digest),
                platform: platform.normalize(),
                manifest: descriptor.digest,
                diff_ids: config.rootfs.diff_ids.clone(),
            },
            config,
            layers,
        };
        self.remember(&image);
        Ok(FetchedImage {
            image,
            root,
            descriptor,
            manifest: bytes.to_vec(),
            config_descriptor: manifest.config,
            config: config_bytes.to_vec(),
        })
    }

    /// Makes an image known that was found elsewhere.
    pub fn remember(&self, image: &BaseImage) {
        self.layers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(image.source.manifest, image.layers.clone());
    }

    /// The layers of all images that were resolved or remembered.
    pub fn all_layers(&self) -> Vec<Layer> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.values().flatten().cloned().collect()
    }

    /// The layers of an image that was resolved or remembered before.
    pub fn layers(&self, source: &ImageSource) -> Option<Vec<Layer>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(&source.manifest).cloned()
    }
}

/// The layers that a manifest and a config describe.
///
/// # Errors
/// If they do not agree on the number.
pub fn layers(
    manifest: &Manifest,
    config: &ImageConfig,
    place: Option<&Place>,
) -> Result<Vec<Layer>, LayerCountError> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let (manifest, config) = (manifest.layers.len(), diff_ids.len());
        return Err(LayerCountError { manifest, config });
    }
    let mut times =
        config.history.iter().filter(|entry| !entry.empty_layer).map(|entry| entry.created.clone());
    let layer = |(blob, diff_id): (&Descriptor, &Digest)| Layer {
        diff_id: *diff_id,
        blob: Some(Descriptor::new(
            media_type::layer_to_oci(&blob.media_type),
            blob.digest,
            blob.size,
        )),
        created: times.next().flatten().or_else(|| config.created.clone()),
        places: place.cloned().into_iter().collect(),
    };
    Ok(manifest.layers.iter().zip(diff_ids).map(layer).collect())
}

fn document<T: DeserializeOwned>(
    reference: &Reference,
    name: &'static str,
    bytes: &[u8],
) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| {
        let reference = reference.clone();
        ImageError::Document { reference, name, source }
    })
}

/// The type that the registry names, or, where it names another, the shape.
pub(crate) fn is_index(root: &Descriptor, bytes: &[u8]) -> bool {
    media_type::is_index(&root.media_type)
        || serde_json::from_slice::<Index>(bytes).is_ok_and(|index| !index.manifests.is_empty())
}

/// The manifest for a platform: the same variant first, then older ones of the same processor
/// (an arm/v7 machine runs arm/v6), as containerd chooses.
pub(crate) fn choose(
    reference: &Reference,
    bytes: &[u8],
    platform: &Platform,
) -> Result<Descriptor, ImageError> {
    let index: Index = document(reference, "index", bytes)?;
    let wanted = platform.normalize();
    let serves = |candidate: &Descriptor| {
        candidate.platform.as_ref().is_some_and(|platform| platform.serves(&wanted))
    };
    if let Some(found) = index.manifests.iter().find(|candidate| serves(candidate)) {
        return Ok(found.clone());
    }
    let older = |candidate: &&Descriptor| {
        candidate.platform.as_ref().map(Platform::normalize).is_some_and(|platform| {
            platform.os == wanted.os
                && platform.architecture == wanted.architecture
                && platform.variant < wanted.variant
        })
    };
    let best = index.manifests.iter().filter(older).max_by_key(|candidate| {
        candidate.platform.as_ref().map(|platform| platform.normalize().variant)
    });
    best.cloned().ok_or_else(|| {
        let there: Vec<String> = index
            .manifests
            .iter()
            .filter_map(|manifest| manifest.platform.as_ref())
            .map(ToString::to_string)
            .collect();
        ImageError::Platform { reference: reference.clone(), wanted, there: there.join(", ") }
    })
}

fn registry_error(reference: &Reference, source: registry::Error) -> ImageError {
    let reference = reference.clone();
    match source.is_not_found() {
        true => ImageError::NotFound { reference },
        false => ImageError::Registry { reference, source: Box::new(source) },
    }
}
