//! Images into archives and out of them (`docker save`, `docker load`).

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};

use export::{Documents, Manifested};
use futures_util::future;
use layer::EntryKind;
use layer::tar::{Limits, Mode, TarReader};
use oci::{
    Descriptor, Digest, Hasher, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use serde::Deserialize;
use store::Store;
use transfer::Transfer;

use super::{ImageError, Kept, Porter};
use crate::image_store;

/// A larger document of an archive is none.
const DOCUMENT_LIMIT: u64 = 8 << 20;
/// The longest chain of links that is followed, and the deepest nesting of indexes.
const DEEPEST: usize = 8;

/// An image that is to be saved.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The image.
    pub image: Kept,
    /// The names that it has in the archive.
    pub names: Vec<Reference>,
}

/// An image that came out of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its names.
    pub names: Vec<Reference>,
    /// Digest of its config.
    pub id: Digest,
}

impl Porter {
    /// Writes images as one archive, which `docker load` and readers of the OCI layout take.
    ///
    /// # Errors
    /// If a layer cannot be found, or the archive cannot be written.
    pub async fn save(
        &self,
        images: Vec<Saved>,
        out: impl Write + Send + 'static,
    ) -> Result<(), ImageError> {
        self.shown("saving images".to_owned(), async |task| {
            let transfer =
                Transfer::new(self.store.clone(), self.client.clone(), self.events.clone());
            let layers = images.iter().flat_map(|saved| saved.image.all_layers());
            let fetches = layers.map(|layer| transfer.fetch_blob(layer, Some(task)));
            future::try_join_all(fetches)
                .await
                .map_err(|error| ImageError::Layer(Box::new(error)))?;
            let mut documents = Vec::with_capacity(images.len());
            for saved in &images {
                documents.push((saved.image.documents(&self.store)?, saved.names.clone()));
            }
            export::write_images(&transfer, documents, out)
                .await
                .map_err(|error| ImageError::Archive(error.to_string()))
        })
        .await
    }
}

/// Reads images out of an archive of `docker save`, or in the OCI layout; compressed or not.
///
/// # Errors
/// If it is none, lacks something, or its parts do not agree.
pub fn load(store: &Store, archive: impl Read + Send) -> Result<Vec<LoadedImage>, ImageError> {
    let contents = Contents::read(store, archive)?;
    let images = match (&contents.docker, &contents.index) {
        (Some(entries), _) => entries.iter().map(|entry| contents.of_docker(entry)).collect(),
        (None, Some(index)) => contents.of_index(index),
        (None, None) => {
            Err(wrong("it has neither `manifest.json` nor `index.json`: it is no image's archive"))
        }
    };
    let images: Vec<TaggedManifest> = images?;
    let mut loaded: Vec<LoadedImage> = Vec::new();
    for (names, manifest, kind) in images {
        let id = contents.keep(&names, manifest, kind)?;
        match loaded.iter_mut().find(|known| known.id == id) {
            Some(known) => known.names.extend(names),
            None => loaded.push(LoadedImage { names, id }),
        }
    }
    Ok(loaded)
}

fn wrong(what: impl Into<String>) -> ImageError {
    ImageError::Archive(what.into())
}

/// An image's names, its manifest, and the manifest's type.
type TaggedManifest = (Vec<Reference>, Vec<u8>, String);

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The content of an archive: documents are read, everything else is a blob.
struct Contents<'a> {
    store: &'a Store,
    blobs: HashMap<String, (Digest, u64)>,
    links: HashMap<String, String>,
    docker: Option<Vec<DockerEntry>>,
    index: Option<Index>,
}

impl<'a> Contents<'a> {
    fn read(store: &'a Store, archive: impl Read + Send) -> Result<Self, ImageError> {
        let unreadable = |error: &dyn std::error::Error| {
            wrong(format!("the archive cannot be read: {}", transfer::chain_text(error)))
        };
        let mut contents =
            Self { store, blobs: HashMap::new(), links: HashMap::new(), docker: None, index: None };
        let decoded = layer::open_decoder(archive).map_err(|error| unreadable(&error))?;
        let mut reader = TarReader::new(decoded, Mode::Archive, Limits::default());
        while let Some((entry, mut content)) =
            reader.next_entry().map_err(|error| unreadable(&error))?
        {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let path = path.trim_start_matches("./").trim_start_matches('/').to_owned();
            match &entry.kind {
                EntryKind::File { size } if path == "manifest.json" || path == "index.json" => {
                    if *size > DOCUMENT_LIMIT {
                        return Err(wrong(format!("`{path}` is too large to be one")));
                    }
                    let mut text = Vec::new();
                    content.read_to_end(&mut text).map_err(|error| unreadable(&error))?;
                    let failed = |error| wrong(format!("`{path}` cannot be read: {error}"));
                    match path.as_str() {
                        "index.json" => {
                            contents.index = Some(serde_json::from_slice(&text).map_err(failed)?);
                        }
                        _ => contents.docker = Some(serde_json::from_slice(&text).map_err(failed)?),
                    }
                }
                EntryKind::File { .. } => {
                    let mut writer = store.blob_writer()?;
                    std::io::copy(&mut content, &mut writer).map_err(|error| unreadable(&error))?;
                    let written = writer.commit(None)?;
                    if let Some(hex) = path.strip_prefix("blobs/sha256/")
                        && hex != written.0.hex()
                    {
                        return Err(wrong(format!("`{path}` has other bytes than its name says")));
                    }
                    contents.blobs.insert(path, written);
                }
                EntryKind::Symlink { target } | EntryKind::HardLink { target } => {
                    let target = String::from_utf8_lossy(target).into_owned();
                    let is_hard = matches!(entry.kind, EntryKind::HardLink { .. });
                    let target = if is_hard { target } else { beside(&path, &target) };
                    contents.links.insert(path, target);
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    fn blob(&self, path: &str) -> Result<(Digest, u64), ImageError> {
        let mut path = path;
        for _ in 0..DEEPEST {
            if let Some(blob) = self.blobs.get(path) {
                return Ok(*blob);
            }
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        Err(wrong(format!("`{path}` is missing")))
    }

    fn bytes(&self, digest: &Digest, what: &str) -> Result<Vec<u8>, ImageError> {
        let path = format!("blobs/sha256/{}", digest.hex());
        match self.blobs.values().find(|(known, _)| known == digest) {
            None => Err(wrong(format!("{what}: `{path}` is missing"))),
            Some((_, size)) if *size > DOCUMENT_LIMIT => {
                Err(wrong(format!("{what}: `{path}` is too large to be one")))
            }
            Some(_) => Ok(self.store.read_blob(digest)?),
        }
    }

    /// An image of `manifest.json`: with the manifest that the layout has for it, or a new one.
    fn of_docker(&self, entry: &DockerEntry) -> Result<TaggedManifest, ImageError> {
        let names =
            entry.repo_tags.iter().flatten().map(|name| {
                name.parse().map_err(|error| wrong(format!("the name `{name}`: {error}")))
            });
        let names: Vec<Reference> = names.collect::<Result<_, _>>()?;
        let (config, size) = self.blob(&entry.config)?;
        for descriptor in self.index.iter().flat_map(|index| &index.manifests) {
            if let Ok((bytes, kind)) = self.manifest(descriptor, 0)
                && let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes)
                && manifest.config.digest == config
            {
                return Ok((names, bytes, kind));
            }
        }
        let mut layers = Vec::with_capacity(entry.layers.len());
        for path in &entry.layers {
            let (digest, size) = self.blob(path)?;
            layers.push(Descriptor::new(self.layer_type(&digest)?, digest, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, config, size),
            layers,
            subject: None,
            annotations: oci::Annotations::new(),
        };
        let bytes = serde_json::to_vec_pretty(&manifest).expect("keys are texts");
        Ok((names, bytes, media_type::OCI_MANIFEST.into()))
    }

    fn layer_type(&self, digest: &Digest) -> Result<&'static str, ImageError> {
        let mut start = [0; 4];
        let mut file = self.store.open_blob(digest)?;
        let length = read_some(&mut file, &mut start)
            .map_err(|error| wrong(format!("a layer cannot be read: {error}")))?;
        Ok(match &start[..length] {
            [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => media_type::OCI_LAYER_ZSTD,
            _ => media_type::OCI_LAYER,
        })
    }

    /// The images of `index.json`.
    fn of_index(&self, index: &Index) -> Result<Vec<TaggedManifest>, ImageError> {
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            let full = descriptor.annotations.get("io.containerd.image.name");
            let name = full.or_else(|| {
                // A tag alone says nothing of the repository.
                let short = descriptor.annotations.get("org.opencontainers.image.ref.name");
                short.filter(|name| name.contains(['/', ':']))
            });
            let name = name.map(|name| {
                name.parse().map_err(|error| wrong(format!("the name `{name}`: {error}")))
            });
            let name: Option<Reference> = name.transpose()?;
            let (bytes, kind) = self.manifest(descriptor, 0)?;
            images.push((name.into_iter().collect(), bytes, kind));
        }
        Ok(images)
    }

    /// A manifest, with its type; of an index, that for this machine.
    fn manifest(
        &self,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<(Vec<u8>, String), ImageError> {
        let bytes = self.bytes(&descriptor.digest, "an image's manifest")?;
        if !media_type::is_index(&descriptor.media_type) {
            return Ok((bytes, descriptor.media_type.clone()));
        }
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("an index cannot be read: {error}")))?;
        let host = Platform::host().normalize();
        let serves = |manifest: &&Descriptor| {
            manifest.platform.as_ref().is_some_and(|platform| platform.serves(&host))
        };
        match index.manifests.iter().find(serves) {
            Some(manifest) if depth < DEEPEST => self.manifest(manifest, depth + 1),
            Some(_) => Err(wrong("its indexes are nested too deep")),
            None => Err(wrong(format!("it has no image for {host}"))),
        }
    }

    /// Makes sure that a layer is what the config says: by that name it is kept, shared with other
    /// images and found again.
    fn check_layer(&self, blob: &Digest, diff_id: &Digest) -> Result<(), ImageError> {
        let read = content_digest(self.store.open_blob(blob)?);
        let actual = read.map_err(|error| wrong(format!("the layer `{blob}`: {error}")))?;
        match actual == *diff_id {
            true => Ok(()),
            false => Err(wrong(format!(
                "the layer `{blob}` is `{actual}` and not `{diff_id}`, as the image's config says"
            ))),
        }
    }

    /// Gives an image its place in the store.
    fn keep(
        &self,
        names: &[Reference],
        bytes: Vec<u8>,
        kind: String,
    ) -> Result<Digest, ImageError> {
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("a manifest cannot be read: {error}")))?;
        let config_bytes = self.bytes(&manifest.config.digest, "an image's config")?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| wrong(format!("a config cannot be read: {error}")))?;
        let known: BTreeSet<Digest> = self.blobs.values().map(|(digest, _)| *digest).collect();
        for layer in &manifest.layers {
            if !known.contains(&layer.digest) && !self.store.has_blob(&layer.digest)? {
                return Err(wrong(format!("the layer `{}` is missing", layer.digest)));
            }
        }
        let layers =
            execute::layers(&manifest, &config, None).map_err(|error| wrong(error.to_string()))?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.check_layer(&layer.digest, diff_id)?;
        }
        let id = manifest.config.digest;
        let platform = config.platform();
        let documents = Manifested {
            descriptor: Descriptor::of(kind, &bytes),
            manifest: bytes,
            config: config_bytes,
            config_descriptor: manifest.config,
            layers: manifest.layers,
        };
        let documents = Documents::single(platform, documents, layers);
        image_store::keep(self.store, names, &documents)?;
        Ok(id)
    }
}

/// The digest of a layer's content, which is decompressed for it.
fn content_digest(blob: File) -> std::io::Result<Digest> {
    let most = Limits::default().max_total_bytes;
    let mut content = layer::open_decoder(blob)?.take(most);
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; 256 << 10]);
    loop {
        match content.read(&mut piece)? {
            0 if content.limit() == 0 => {
                return Err(std::io::Error::other(format!("it has more than {most} bytes")));
            }
            0 => return Ok(hasher.finish()),
            count => hasher.update(&piece[..count]),
        }
    }
}

/// The path that a link in an archive means.
fn beside(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_to_their_folder() {
        assert_eq!(beside("abc/layer.tar", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(beside("x", "../../etc/passwd"), "etc/passwd");
    }
}
