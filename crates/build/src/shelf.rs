//! Images that have a name on this machine.

use std::path::PathBuf;

use execute::BaseImage;
use export::Manifested;
use graph::ImageSource;
use oci::{Descriptor, Digest, ImageConfig, Manifest, Platform, Reference, Repository};
use serde::{Deserialize, Serialize};
use store::{Layer, Place, Store};

/// Under which kind of memo the places of an image's layers are remembered.
const PLACES: &str = "image places";

/// An image with a name.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The name.
    pub name: String,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Digest of its config: its ID.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// When it got the name, in milliseconds since 1970.
    pub named: i64,
}

impl Kept {
    /// Bytes of its layers as they are stored or sent.
    pub fn size(&self) -> u64 {
        self.layers.iter().filter_map(|layer| layer.blob.as_ref()).map(|blob| blob.size).sum()
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

/// Keeps an image under names. `pushed` are the names under which a registry has it now.
pub(crate) fn keep(
    store: &Store,
    names: &[Reference],
    documents: &Manifested,
    layers: &[Layer],
    pushed: &[Reference],
) -> Result<(), store::Error> {
    store.put_blob(&documents.manifest)?;
    store.put_blob(&documents.config)?;
    let places = Places {
        media_type: documents.descriptor.media_type.clone(),
        layers: layers
            .iter()
            .map(|layer| {
                let mut registries: Vec<(String, String, bool)> =
                    layer.places.iter().filter_map(on_registry).collect();
                for name in pushed {
                    registries.push((
                        name.repository().host().into(),
                        name.repository().path().into(),
                        false,
                    ));
                }
                registries.sort();
                registries.dedup();
                let folders = layer
                    .places
                    .iter()
                    .filter_map(|place| {
                        if let Place::Layout(folder) = place { Some(folder.clone()) } else { None }
                    })
                    .collect();
                LayerPlaces { created: layer.created.clone(), registries, folders }
            })
            .collect(),
    };
    let text = serde_json::to_vec(&places).expect("places have no map");
    store.db().memo_put(PLACES, &[(documents.descriptor.digest.as_bytes(), &text)])?;
    for name in names {
        store.db().put_image(&name.to_string(), &documents.descriptor.digest)?;
    }
    Ok(())
}

fn on_registry(place: &Place) -> Option<(String, String, bool)> {
    match place {
        Place::Registry { repository, insecure } => {
            Some((repository.host().into(), repository.path().into(), *insecure))
        }
        Place::Layout(_) => None,
    }
}

/// All images with names.
///
/// # Errors
/// If the store cannot be read.
pub fn list(store: &Store) -> Result<Vec<Kept>, store::Error> {
    let named = store.db().images()?;
    Ok(named
        .into_iter()
        .filter_map(|image| read(store, image.name, image.digest, image.created))
        .collect())
}

/// The image of a name.
pub fn find(store: &Store, name: &Reference) -> Option<Kept> {
    let name = name.to_string();
    list(store).ok()?.into_iter().find(|image| image.name == name)
}

fn read(store: &Store, name: String, digest: Digest, named: i64) -> Option<Kept> {
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
    let descriptor = Descriptor::new(places.media_type, digest, bytes.len() as u64);
    Some(Kept { name, manifest: descriptor, id: manifest.config.digest, config, layers, named })
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
