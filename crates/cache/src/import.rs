//! Reading BuildKit's cache format: a manifest, a config, and no layer.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Reference, media_type};
use serde::Deserialize;
use store::{Layer, Place};

use crate::config::{CacheConfig, ChainEntry, LayerEntry, RecordEntry};
use crate::{Error, RecordSet};

/// BuildKit reads at most 1 MiB. Larger caches that others wrote are still worth reading.
const CONFIG_LIMIT: u64 = 16 << 20;
/// An index of more images than this is no cache.
const INLINE_IMAGES: usize = 16;

/// A cache that was read.
#[derive(Debug)]
pub struct Imported {
    /// Its records.
    pub records: RecordSet,
    /// Its manifest.
    pub manifest: Digest,
    /// What the manifest says, to see whether a new one says the same.
    pub bytes: Vec<u8>,
}

/// Reads the cache, or the image with an inline cache, of a registry's reference.
///
/// # Errors
/// If it is not there, is no cache, or is damaged.
pub async fn from_registry(
    client: &registry::Client,
    reference: &Reference,
    insecure: bool,
) -> Result<Imported, Error> {
    let client = client.for_host(reference.repository().host(), insecure);
    let (descriptor, bytes) = client.manifest(reference).await?;
    let place = Place::Registry { repository: reference.repository().clone(), insecure };
    let name = reference.to_string();
    let blob = async |descriptor: &Descriptor| {
        client
            .blob_bytes(reference.repository(), descriptor, CONFIG_LIMIT)
            .await
            .map_err(Error::from)
    };
    let manifest = async |descriptor: &Descriptor| {
        let pinned = Reference::new(reference.repository().clone(), None, Some(descriptor.digest));
        client.manifest(&pinned).await.map(|(_, bytes)| bytes.to_vec()).map_err(Error::from)
    };
    let records = match shape(&bytes)? {
        Shape::Cache { config, layers } => cache(&name, &blob(&config).await?, &layers, &place)?,
        Shape::Image(image) => {
            let config = blob(&image.config).await?.to_vec();
            inline(&name, &[(*image, config)], &place, descriptor.digest)?
        }
        Shape::Images(children) => {
            let mut images = Vec::new();
            for child in children.iter().take(INLINE_IMAGES) {
                let image: Manifest = parse(&manifest(child).await?, "manifest")?;
                let config = blob(&image.config).await?.to_vec();
                images.push((image, config));
            }
            inline(&name, &images, &place, descriptor.digest)?
        }
    };
    Ok(Imported { records, manifest: descriptor.digest, bytes: bytes.to_vec() })
}

/// Reads the cache in a folder in the OCI layout: the manifest of `digest`, else the one that is
/// tagged `tag`.
///
/// # Errors
/// If it is not there, is no cache, or is damaged.
pub fn from_folder(folder: &Path, tag: &str, digest: Option<Digest>) -> Result<Imported, Error> {
    let manifest = match digest {
        Some(digest) => digest,
        None => tagged(folder, tag)?,
    };
    let bytes = read_blob(folder, manifest)?;
    let place = Place::Layout(folder.to_owned());
    let name = folder.display().to_string();
    let records = match shape(&bytes)? {
        Shape::Cache { config, layers } => {
            cache(&name, &read_blob(folder, config.digest)?, &layers, &place)?
        }
        Shape::Image(image) => {
            let config = read_blob(folder, image.config.digest)?;
            inline(&name, &[(*image, config)], &place, manifest)?
        }
        Shape::Images(_) => return Err(Error::NoCache { digest: manifest }),
    };
    Ok(Imported { records, manifest, bytes })
}

fn tagged(folder: &Path, tag: &str) -> Result<Digest, Error> {
    let path = folder.join("index.json");
    let index: Index = parse(&read_file(&path)?, "index.json")?;
    let named = |manifest: &&Descriptor| {
        manifest
            .annotations
            .get("org.opencontainers.image.ref.name")
            .is_some_and(|name| name == tag)
    };
    let found = index.manifests.iter().find(named).map(|manifest| manifest.digest);
    found.ok_or_else(|| Error::Folder { path, what: format!("no manifest is tagged `{tag}`") })
}

fn read_blob(folder: &Path, digest: Digest) -> Result<Vec<u8>, Error> {
    let path = folder.join("blobs/sha256").join(digest.hex());
    let bytes = read_file(&path)?;
    match Digest::of(&bytes) == digest {
        true => Ok(bytes),
        false => Err(Error::Folder {
            path,
            what: "the content does not have the digest that the name says".into(),
        }),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |what: String| Error::Folder { path: path.to_owned(), what };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CONFIG_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > CONFIG_LIMIT {
        return Err(failed(format!("it is larger than {} MiB", CONFIG_LIMIT >> 20)));
    }
    Ok(bytes)
}

/// What a manifest is, by what it names: BuildKit does not look at its media type.
enum Shape {
    /// A cache: its config, and the layers that the config speaks of.
    Cache { config: Box<Descriptor>, layers: Vec<Descriptor> },
    /// An image, perhaps with an inline cache.
    Image(Box<Manifest>),
    /// Images for several platforms.
    Images(Vec<Descriptor>),
}

fn shape(bytes: &[u8]) -> Result<Shape, Error> {
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

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Damaged(format!("its {what} cannot be read: {error}")))
}

fn cache(
    name: &str,
    config: &[u8],
    descriptors: &[Descriptor],
    place: &Place,
) -> Result<RecordSet, Error> {
    let config: CacheConfig = parse(config, "config")?;
    let layers = descriptors
        .iter()
        .filter_map(|descriptor| Some((descriptor.digest, layer(descriptor, place)?)))
        .collect();
    RecordSet::new(name, &config, &layers)
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
fn inline(
    name: &str,
    images: &[(Manifest, Vec<u8>)],
    place: &Place,
    digest: Digest,
) -> Result<RecordSet, Error> {
    let mut all = CacheConfig::default();
    let mut layers = HashMap::new();
    for (manifest, config) in images {
        let config: ImageConfig = parse(config, "image config")?;
        let Some(text) =
            config.other.get("moby.buildkit.cache.v0").and_then(|value| value.as_str())
        else {
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
        false => RecordSet::new(name, &all, &layers),
    }
}

/// A record whose indexes begin elsewhere.
fn moved(mut record: RecordEntry, first_layer: i64, first_record: i64) -> RecordEntry {
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
