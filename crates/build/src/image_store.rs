//! Images that are kept on this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use execute::BaseImage;
use export::{Document, Documents, ImageDocuments};
use graph::ImageSource;
use layer::{Layer, Place};
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, Repository};
use serde::{Deserialize, Serialize};
use store::Store;

/// Under which kind of memo the places of an image's layers are remembered.
const PLACES: &str = "image places";

/// An image of this machine.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its names, in their order; none for one that was built without a name, or lost its name to
    /// another.
    pub names: Vec<Reference>,
    /// The descriptor of its manifest or index.
    pub manifest: Descriptor,
    /// Digest of its config, or of its index: its ID.
    pub id: Digest,
    /// Its config; of an index, that of the image for this machine, or of the first.
    pub config: ImageConfig,
    /// The layers of the same image.
    pub layers: Vec<Layer>,
    /// The images that an index lists; none where there is no index.
    pub images: Vec<KeptImage>,
}

/// An image that an index lists.
#[derive(Clone, Debug)]
pub struct KeptImage {
    /// The image's platform.
    pub platform: Platform,
    /// The descriptor of its manifest.
    pub manifest: Descriptor,
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

    /// The layers of all images that it stands for.
    pub fn all_layers(&self) -> impl Iterator<Item = &Layer> {
        let own = if self.images.is_empty() { self.layers.as_slice() } else { &[] };
        own.iter().chain(self.images.iter().flat_map(|image| &image.layers))
    }

    /// Digests of the manifests of all images that it stands for, and of its index.
    pub fn manifests(&self) -> impl Iterator<Item = Digest> {
        let listed = self.images.iter().map(|image| image.manifest.digest);
        std::iter::once(self.manifest.digest).chain(listed)
    }

    /// Its documents, byte for byte.
    pub(crate) fn documents(&self, store: &Store) -> Result<Documents, store::Error> {
        let document = |descriptor: &Descriptor| {
            let bytes = store.read_blob(&descriptor.digest)?;
            Ok::<_, store::Error>(Document { descriptor: descriptor.clone(), bytes })
        };
        let no_document = |digest| move |_| store::Error::NoBlob(digest);
        let root = document(&self.manifest)?;
        let mut documents =
            Documents { root, manifests: Vec::new(), blobs: Vec::new(), images: Vec::new() };
        let manifests = match self.images.is_empty() {
            true => vec![documents.root.clone()],
            false => {
                let index: Index = serde_json::from_slice(&documents.root.bytes)
                    .map_err(no_document(self.manifest.digest))?;
                let manifests = index.manifests.iter().map(document);
                documents.manifests = manifests.collect::<Result<_, _>>()?;
                documents.manifests.clone()
            }
        };
        for Document { descriptor, bytes } in manifests {
            let manifest: Manifest =
                serde_json::from_slice(&bytes).map_err(no_document(descriptor.digest))?;
            documents.blobs.push(document(&manifest.config)?);
            let listed =
                self.images.iter().find(|image| image.manifest.digest == descriptor.digest);
            let image = match (listed, self.images.is_empty()) {
                (Some(image), _) => Some((&image.config, &image.layers)),
                (None, true) => Some((&self.config, &self.layers)),
                // Statements: what they are made of is here.
                (None, false) => {
                    for layer in &manifest.layers {
                        documents.blobs.push(document(layer)?);
                    }
                    None
                }
            };
            if let Some((config, layers)) = image {
                documents.images.push(ImageDocuments {
                    platform: config.platform(),
                    manifest: descriptor,
                    config: manifest.config,
                    descriptors: manifest.layers,
                    layers: layers.clone(),
                });
            }
        }
        Ok(documents)
    }
}

#[derive(Serialize, Deserialize)]
struct Places {
    media_type: String,
    layers: Vec<LayerPlaces>,
    /// Of an index: the images that it lists.
    #[serde(default)]
    images: Vec<ImagePlaces>,
}

#[derive(Serialize, Deserialize)]
struct ImagePlaces {
    manifest: Digest,
    layers: Vec<LayerPlaces>,
}

#[derive(Serialize, Deserialize)]
struct LayerPlaces {
    created: Option<String>,
    registries: Vec<(String, String, bool)>,
    folders: Vec<PathBuf>,
}

/// Keeps an image or an index, and gives it names.
pub(crate) fn keep(
    store: &Store,
    names: &[Reference],
    documents: &Documents,
) -> Result<(), store::Error> {
    let root = &documents.root;
    for document in documents.blobs.iter().chain(&documents.manifests).chain([root]) {
        store.put_blob(&document.bytes)?;
    }
    let of_layers = |image: &ImageDocuments| image.layers.iter().map(layer_places).collect();
    let is_index = !documents.manifests.is_empty();
    let listed = documents.images.iter().filter(|_| is_index);
    let places = Places {
        media_type: root.descriptor.media_type.clone(),
        layers: match documents.images.first() {
            Some(image) if !is_index => of_layers(image),
            _ => Vec::new(),
        },
        images: listed
            .map(|image| ImagePlaces { manifest: image.manifest.digest, layers: of_layers(image) })
            .collect(),
    };
    let text = serde_json::to_vec(&places).expect("places have no map");
    store.db().memo_put(PLACES, &[(root.descriptor.digest.as_bytes(), &text)])?;
    for name in names {
        store.db().put_image(&name.to_string(), &root.descriptor.digest)?;
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
        Place::Registry { .. } | Place::Remote(_) => None,
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
        Place::Layout(_) | Place::Remote(_) => None,
    }
}

/// All images, those without names at the end.
///
/// # Errors
/// If the store cannot be read.
pub fn list(store: &Store) -> Result<Vec<Kept>, store::Error> {
    Ok(each(store)?.collect())
}

/// All images, those without names at the end, each read when its turn comes: thousands of them take much memory. One
/// whose documents were lost is none.
///
/// # Errors
/// If the store cannot be read.
pub fn each(store: &Store) -> Result<impl Iterator<Item = Kept>, store::Error> {
    let named = names(store)?;
    let unnamed = unnamed(store, &named)?;
    let all = named.into_iter().chain(unnamed.into_iter().map(|digest| (digest, Vec::new())));
    Ok(all.filter_map(|(digest, names)| read(store, digest, names)))
}

/// The number of images. None of them is read.
///
/// # Errors
/// If the store cannot be read.
pub fn count(store: &Store) -> Result<usize, store::Error> {
    let named = names(store)?;
    Ok(named.len() + unnamed(store, &named)?.len())
}

/// The images that have names. One whose documents were lost is none.
///
/// # Errors
/// If the store cannot be read.
pub fn named(store: &Store) -> Result<Vec<Kept>, store::Error> {
    Ok(names(store)?.into_iter().filter_map(|(digest, names)| read(store, digest, names)).collect())
}

/// The image that has the first wanted name, with all of its names.
pub(crate) fn by_name(
    store: &Store,
    is_wanted: impl Fn(&Digest, &Reference) -> bool,
) -> Result<Option<(Kept, Reference)>, store::Error> {
    let mut found = names(store)?.into_iter().filter_map(|(digest, names)| {
        let name = names.iter().find(|name| is_wanted(&digest, name))?.clone();
        Some((read(store, digest, names)?, name))
    });
    Ok(found.next())
}

/// The names of images, by the digests of their manifests.
fn names(store: &Store) -> Result<BTreeMap<Digest, Vec<Reference>>, store::Error> {
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for image in store.db().images()? {
        if let Ok(name) = image.name.parse() {
            names.entry(image.digest).or_default().push(name);
        }
    }
    Ok(names)
}

/// The manifests of images without names.
fn unnamed(
    store: &Store,
    named: &BTreeMap<Digest, Vec<Reference>>,
) -> Result<Vec<Digest>, store::Error> {
    let keys = store.db().memo_keys(PLACES)?.into_iter();
    let digests = keys.filter_map(|key| Some(Digest::from_bytes(key.try_into().ok()?)));
    Ok(digests.filter(|digest| !named.contains_key(digest)).collect())
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
    let places = store.db().memo_get(PLACES, &[digest.as_bytes()]).ok()?.pop().flatten()?;
    let places: Places = serde_json::from_slice(&places).ok()?;
    let manifest = Descriptor::new(places.media_type.clone(), digest, bytes.len() as u64);
    if places.images.is_empty() {
        let (id, config, layers) = read_image(store, &bytes, places.layers)?;
        return Some(Kept { names, manifest, id, config, layers, images: Vec::new() });
    }
    let index: Index = serde_json::from_slice(&bytes).ok()?;
    let image = |places: ImagePlaces| {
        let listed = index.manifests.iter().find(|listed| listed.digest == places.manifest)?;
        let bytes = store.read_blob(&places.manifest).ok()?;
        let (_, config, layers) = read_image(store, &bytes, places.layers)?;
        let platform = listed.platform.clone().unwrap_or_else(|| config.platform());
        Some(KeptImage { platform, manifest: listed.clone(), config, layers })
    };
    let images: Vec<KeptImage> = places.images.into_iter().map(image).collect::<Option<_>>()?;
    let host = Platform::host();
    let shown = images.iter().find(|image| image.platform.serves(&host)).or(images.first())?;
    let (config, layers) = (shown.config.clone(), shown.layers.clone());
    Some(Kept { names, manifest, id: digest, config, layers, images })
}

/// The digest of an image's config, the config, and its layers.
fn read_image(
    store: &Store,
    manifest: &[u8],
    places: Vec<LayerPlaces>,
) -> Option<(Digest, ImageConfig, Vec<Layer>)> {
    let manifest: Manifest = serde_json::from_slice(manifest).ok()?;
    let config: ImageConfig =
        serde_json::from_slice(&store.read_blob(&manifest.config.digest).ok()?).ok()?;
    let mut layers = execute::layers(&manifest, &config, None).ok()?;
    for (layer, places) in layers.iter_mut().zip(places) {
        layer.created = places.created;
        let registries = places.registries.into_iter().map(|(host, path, insecure)| {
            Place::Registry { repository: Repository::new(host, path), insecure }
        });
        layer.places = registries.chain(places.folders.into_iter().map(Place::Layout)).collect();
    }
    Some((manifest.config.digest, config, layers))
}

/// An image of this machine as a base, if it has the name and is for the platform.
pub(crate) fn base(store: &Store, name: &Reference, platform: &Platform) -> Option<BaseImage> {
    let kept = find(store, name)?;
    let (manifest, config, layers) = match kept.images.is_empty() {
        true if kept.config.platform().serves(platform) => {
            (kept.manifest.digest, kept.config, kept.layers)
        }
        true => return None,
        false => {
            let serves = |image: &KeptImage| image.platform.serves(platform);
            let image = kept.images.into_iter().find(serves)?;
            (image.manifest.digest, image.config, image.layers)
        }
    };
    let source = ImageSource {
        reference: name.with_digest(kept.manifest.digest),
        platform: platform.normalize(),
        manifest,
        diff_ids: config.rootfs.diff_ids.clone(),
    };
    Some(BaseImage { source, config, layers })
}
