//! Images that are kept on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use execute::BaseImage;
use export::Manifested;
use graph::ImageSource;
use oci::{Descriptor, Digest, ImageConfig, Manifest, Platform, Reference, Repository};
use serde::{Deserialize, Serialize};
use store::{Layer, Place, Store};

/// Under which kind of memo the places of an image's layers are remembered.
const PLACES: &str = "image places";

/// An image of this machine.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its names, in their order; none for one that was built without a name, or lost its name to
    /// another.
    pub names: Vec<Reference>,
    /// What its manifest is.
    pub manifest: Descriptor,
    /// Digest of its config: its ID.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers.
    pub layers: Vec<Layer>,
}

impl Kept {
    /// Bytes of its layers as they are stored or sent.
    pub fn size(&self) -> u64 {
        self.layer_sizes().sum()
    }

    /// Bytes of each layer as it is stored or sent, from the bottom up.
    pub fn layer_sizes(&self) -> impl Iterator<Item = u64> {
        self.layers.iter().map(|layer| layer.blob.as_ref().map_or(0, |blob| blob.size))
    }

    /// Its manifest and config, byte for byte.
    pub(crate) fn documents(&self, store: &Store) -> Result<Manifested, store::Error> {
        let manifest_bytes = store.read_blob(&self.manifest.digest)?;
        // It was read as one when this was made.
        let manifest: Manifest = serde_json::from_slice(&manifest_bytes)
            .map_err(|_| store::Error::NoBlob(self.manifest.digest))?;
        Ok(Manifested {
            manifest: manifest_bytes,
            descriptor: self.manifest.clone(),
            config: store.read_blob(&self.id)?,
            config_descriptor: manifest.config,
            layers: manifest.layers,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Places {
    media_type: String,
    layers: Vec<LayerPlaces>,
}

#[derive(Serialize, Deserialize)]
struct LayerPlaces {
    created: Option<String>,
    registries: Vec<(String, String, bool)>,
    folders: Vec<PathBuf>,
}

/// Keeps an image, and gives it names.
pub(crate) fn keep(
    store: &Store,
    names: &[Reference],
    documents: &Manifested,
    layers: &[Layer],
) -> Result<(), store::Error> {
    store.put_blob(&documents.manifest)?;
    store.put_blob(&documents.config)?;
    let places = Places {
        media_type: documents.descriptor.media_type.clone(),
        layers: layers.iter().map(layer_places).collect(),
    };
    let text = serde_json::to_vec(&places).expect("places have no map");
    store.db().memo_put(PLACES, &[(documents.descriptor.digest.as_bytes(), &text)])?;
    for name in names {
        store.db().put_image(&name.to_string(), &documents.descriptor.digest)?;
    }
    Ok(())
}

/// Layers, of which it is known now that the repositories of some names have them too.
pub(crate) fn also_at(layers: &[Layer], names: &[Reference], insecure: bool) -> Vec<Layer> {
    let mut layers = layers.to_vec();
    for layer in &mut layers {
        for name in names {
            let place = Place::Registry { repository: name.repository().clone(), insecure };
            if !layer.places.contains(&place) {
                layer.places.push(place);
            }
        }
    }
    layers
}

fn layer_places(layer: &Layer) -> LayerPlaces {
    let folder = |place: &Place| match place {
        Place::Layout(folder) => Some(folder.clone()),
        Place::Registry { .. } => None,
    };
    LayerPlaces {
        created: layer.created.clone(),
        registries: layer.places.iter().filter_map(on_registry).collect(),
        folders: layer.places.iter().filter_map(folder).collect(),
    }
}

fn on_registry(place: &Place) -> Option<(String, String, bool)> {
    match place {
        Place::Registry { repository, insecure } => {
            Some((repository.host().into(), repository.path().into(), *insecure))
        }
        Place::Layout(_) => None,
    }
}

/// All images, those without names at the end.
///
/// # Errors
/// If the store cannot be read.
pub fn list(store: &Store) -> Result<Vec<Kept>, store::Error> {
    let mut images = named(store)?;
    let has_name: BTreeSet<Digest> = images.iter().map(|image| image.manifest.digest).collect();
    for key in store.db().memo_keys(PLACES)? {
        let Ok(key) = key.try_into() else { continue };
        let digest = Digest::from_bytes(key);
        if !has_name.contains(&digest) {
            images.extend(read(store, digest, Vec::new()));
        }
    }
    Ok(images)
}

/// The images that have names. One whose documents were lost is none.
///
/// # Errors
/// If the store cannot be read.
pub fn named(store: &Store) -> Result<Vec<Kept>, store::Error> {
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for image in store.db().images()? {
        if let Ok(name) = image.name.parse() {
            names.entry(image.digest).or_default().push(name);
        }
    }
    Ok(names.into_iter().filter_map(|(digest, names)| read(store, digest, names)).collect())
}

/// The image of a name.
pub fn find(store: &Store, name: &Reference) -> Option<Kept> {
    let digest = store.db().image(&name.to_string()).ok()??;
    read(store, digest, vec![name.clone()])
}

/// Forgets an image that has lost its last name: what only it had goes with the next prune.
pub(crate) fn forget(store: &Store, manifest: &Digest) -> Result<(), store::Error> {
    store.db().memo_remove(PLACES, manifest.as_bytes())
}

fn read(store: &Store, digest: Digest, names: Vec<Reference>) -> Option<Kept> {
    let bytes = store.read_blob(&digest).ok()?;
    let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
    let config: ImageConfig =
        serde_json::from_slice(&store.read_blob(&manifest.config.digest).ok()?).ok()?;
    let places = store.db().memo_get(PLACES, &[digest.as_bytes()]).ok()?.pop().flatten()?;
    let places: Places = serde_json::from_slice(&places).ok()?;
    let mut layers = execute::layers(&manifest, &config, None).ok()?;
    for (layer, places) in layers.iter_mut().zip(places.layers) {
        layer.created = places.created;
        let registries = places.registries.into_iter().map(|(host, path, insecure)| {
            Place::Registry { repository: Repository::new(host, path), insecure }
        });
        layer.places = registries.chain(places.folders.into_iter().map(Place::Layout)).collect();
    }
    let manifest_descriptor = Descriptor::new(places.media_type, digest, bytes.len() as u64);
    Some(Kept { names, manifest: manifest_descriptor, id: manifest.config.digest, config, layers })
}

/// An image of this machine as a base, if it has the name and is for the platform.
pub(crate) fn base(store: &Store, name: &Reference, platform: &Platform) -> Option<BaseImage> {
    let kept = find(store, name)?;
    if !kept.config.platform().serves(platform) {
        return None;
    }
    let source = ImageSource {
        reference: name.with_digest(kept.manifest.digest),
        platform: platform.normalize(),
        manifest: kept.manifest.digest,
        diff_ids: kept.config.rootfs.diff_ids.clone(),
    };
    Some(BaseImage { source, config: kept.config, layers: kept.layers })
}
