//! A folder in the OCI layout (`type=local`). Several caches share it, each under a tag.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use layer::Place;
use oci::{Descriptor, Digest, Manifest, media_type};
use registry::Client;
use store::Store;
use transfer::{LayoutContent, LayoutFile, REF_NAME};

use super::{Backend, BackendLock, LayerUpload, OpenBackend, StoredCache};
use crate::Error;
use crate::format::inline::read_inline;
use crate::format::manifest::{ManifestKind, parse_manifest};
use crate::format::{CacheContents, CacheDocuments, DOCUMENT_LIMIT, Form, SidecarRef, parse};
use crate::layout::{blobs_folder, read_blob, read_index, tagged};
use crate::sidecar::Sidecar;

/// A cache in a folder in the OCI layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutSettings {
    /// The folder.
    pub folder: PathBuf,
    /// The tag in it.
    pub tag: String,
    /// The manifest to read in place of the tag's.
    pub digest: Option<Digest>,
}

impl OpenBackend for LayoutSettings {
    fn name(&self) -> String {
        self.folder.display().to_string()
    }

    fn identity(&self) -> String {
        format!("{}:{}", self.folder.display(), self.tag)
    }

    fn open(&self, _client: &Client) -> Result<Arc<dyn Backend>, Error> {
        Ok(Arc::new(LayoutBackend(self.clone())))
    }
}

#[derive(Clone, Debug)]
struct LayoutBackend(LayoutSettings);

impl LayoutBackend {
    fn read_now(&self) -> Result<StoredCache, Error> {
        let folder = &self.0.folder;
        let digest = match self.0.digest {
            Some(digest) => digest,
            None => self.tagged()?,
        };
        let blob = |digest| read_blob(folder, digest, DOCUMENT_LIMIT);
        let bytes = blob(digest)?;
        let place = Place::Layout(folder.clone());
        let contents = match parse_manifest(&bytes)? {
            ManifestKind::Cache { config, layers } => {
                CacheContents::described(&blob(config.digest)?, &layers, &place)?
            }
            ManifestKind::Image(image) => {
                let config = blob(image.config.digest)?;
                read_inline(&[(*image, config)], &place, digest)?
            }
            ManifestKind::Images(_) => return Err(Error::NoCache { digest }),
        };
        Ok(StoredCache { contents, digest, bytes })
    }

    /// Digest of the tag's manifest.
    fn tagged(&self) -> Result<Digest, Error> {
        let absent = |backend| Error::Absent { backend };
        let index = read_index(&self.0.folder, DOCUMENT_LIMIT)?;
        let index = index.ok_or_else(|| absent(self.name()))?;
        let manifest = tagged(&index, &self.0.tag);
        manifest.map(|manifest| manifest.digest).ok_or_else(|| absent(self.identity()))
    }

    /// The files of a cache that the folder lacks.
    fn new_files(
        &self,
        store: &Store,
        contents: &CacheContents,
        documents: &CacheDocuments,
    ) -> Vec<LayoutFile> {
        let document =
            |digest, bytes: &[u8]| LayoutFile::blob(digest, LayoutContent::Bytes(bytes.into()));
        let mut files = vec![LayoutFile::marker()];
        // A layer of this folder is no file to write; if the folder has lost it, so has the store.
        let here = Place::Layout(self.0.folder.clone());
        let new = contents.layers.values().filter(|layer| !layer.places.contains(&here));
        for layer in new.filter_map(|layer| layer.blob.as_ref()) {
            let content = LayoutContent::Blob(store.blob_path(&layer.digest), layer.size);
            files.push(LayoutFile::blob(layer.digest, content));
        }
        files.push(document(documents.config_descriptor().digest, &documents.config));
        if let Some((descriptor, bytes)) = &documents.manifest {
            files.push(document(descriptor.digest, bytes));
        }
        files
    }
}

#[async_trait]
impl Backend for LayoutBackend {
    fn name(&self) -> String {
        self.0.name()
    }

    fn identity(&self) -> String {
        self.0.identity()
    }

    fn export_name(&self) -> &'static str {
        "exporting cache to client directory"
    }

    fn layer_place(&self) -> Option<Place> {
        Some(Place::Layout(self.0.folder.clone()))
    }

    fn sidecar(&self, named: SidecarRef) -> Option<Sidecar> {
        Some(Sidecar::of_layout(&self.0.folder, &self.0.tag, named))
    }

    async fn read(&self) -> Result<StoredCache, Error> {
        let backend = self.clone();
        transfer::blocking(move || backend.read_now()).await
    }

    fn documents(&self, contents: &CacheContents, form: Form) -> Result<CacheDocuments, Error> {
        CacheDocuments::with_manifest(contents, form)
    }

    /// Brings the layer into the store, from where `put` copies it.
    async fn send_layer(&self, upload: LayerUpload<'_>) -> Result<(), transfer::Error> {
        upload.to_store().await
    }

    /// Locks the folder itself, since a lock file would not be part of the layout.
    async fn lock(&self) -> Option<BackendLock> {
        let folder = self.0.folder.clone();
        transfer::blocking(move || {
            std::fs::create_dir_all(&folder).ok()?;
            let file = File::open(&folder).ok()?;
            file.lock().ok()?;
            Some(BackendLock(Some(file)))
        })
        .await
    }

    async fn put(
        &self,
        store: &Store,
        contents: &CacheContents,
        documents: &CacheDocuments,
    ) -> Result<(), Error> {
        let files = self.new_files(store, contents, documents);
        let entry = |descriptor: &Descriptor| {
            let mut entry = descriptor.clone();
            entry.annotations.insert(REF_NAME.into(), self.0.tag.clone());
            entry
        };
        let entries = documents.manifest.iter().map(|(descriptor, _)| entry(descriptor)).collect();
        let folder = self.0.folder.clone();
        transfer::blocking(move || transfer::write_locked_layout(&folder, &files, entries)).await?;
        Ok(())
    }

    async fn sweep(&self) -> Result<(), Error> {
        let folder = self.0.folder.clone();
        transfer::blocking(move || sweep(&folder)).await
    }
}

/// Removes blobs that no manifest of the folder names; nothing if a manifest cannot be read.
fn sweep(folder: &Path) -> Result<(), Error> {
    let named = named_blobs(folder)?;
    let blobs = blobs_folder(folder);
    let failed = |error: io::Error| Error::Folder { path: blobs.clone(), fault: error.into() };
    for entry in std::fs::read_dir(&blobs).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Other programs' temporary files are not named like blobs.
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_blob = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_blob && !named.contains(&name) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// The digests, in hex, of all blobs that the folder's manifests name.
fn named_blobs(folder: &Path) -> Result<HashSet<String>, Error> {
    let mut named: HashSet<String> = HashSet::new();
    let index = read_index(folder, DOCUMENT_LIMIT)?;
    let index = index.ok_or_else(|| Error::Absent { backend: folder.display().to_string() })?;
    let mut open: Vec<Descriptor> = index.manifests;
    while let Some(descriptor) = open.pop() {
        let is_new = named.insert(descriptor.digest.hex());
        let kind = descriptor.media_type.as_str();
        let is_manifest = [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].contains(&kind);
        if !is_new || !(is_manifest || media_type::is_index(kind)) {
            continue;
        }
        let bytes = read_blob(folder, descriptor.digest, DOCUMENT_LIMIT)?;
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            let parts = manifest.layers.into_iter().chain([manifest.config]);
            named.extend(parts.map(|part| part.digest.hex()));
        } else {
            open.extend(parse::<oci::Index>(&bytes, "index")?.manifests);
        }
    }
    Ok(named)
}
