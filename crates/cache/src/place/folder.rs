//! A folder in the OCI layout, beside others that are there (interop reference, 1.3).

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Index, Manifest, media_type};
use store::{Place as BlobPlace, Store};
use transfer::{LayoutContent, LayoutFile, REF_NAME};

use super::{Contents, Documents, Held, Stored};
use crate::Error;
use crate::import::{self, CONFIG_LIMIT, Shape, parse};

/// A tag in a folder in the OCI layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderPlace {
    /// The folder.
    pub folder: PathBuf,
    /// The tag in it.
    pub tag: String,
    /// The manifest to read, whatever the tag says.
    pub digest: Option<Digest>,
}

impl FolderPlace {
    pub(super) async fn read(&self) -> Result<Stored, Error> {
        let place = self.clone();
        transfer::blocking(move || place.read_now()).await
    }

    fn read_now(&self) -> Result<Stored, Error> {
        let folder = &self.folder;
        let digest = match self.digest {
            Some(digest) => digest,
            None => tagged(folder, &self.tag)?,
        };
        let bytes = read_blob(folder, digest)?;
        let place = BlobPlace::Layout(folder.clone());
        let contents = match import::shape(&bytes)? {
            Shape::Cache { config, layers } => {
                import::cache(&read_blob(folder, config.digest)?, &layers, &place)?
            }
            Shape::Image(image) => {
                let config = read_blob(folder, image.config.digest)?;
                import::inline(&[(*image, config)], &place, digest)?
            }
            Shape::Images(_) => return Err(Error::NoCache { digest }),
        };
        Ok(Stored { contents, digest, bytes })
    }

    /// Locks the folder itself: a file of its own would be no part of the layout.
    pub(super) async fn hold(&self) -> Option<Held> {
        let folder = self.folder.clone();
        transfer::blocking(move || {
            std::fs::create_dir_all(&folder).ok()?;
            let file = File::open(&folder).ok()?;
            file.lock().ok()?;
            Some(Held(Some(file)))
        })
        .await
    }

    /// Removes blobs that no manifest of the folder names. Where one cannot be read, nothing is
    /// removed.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        let folder = self.folder.clone();
        transfer::blocking(move || sweep(&folder)).await
    }

    /// Writes what the caller may write alone: he holds the folder.
    pub(super) async fn put(
        &self,
        store: &Store,
        contents: &Contents,
        documents: &Documents,
    ) -> Result<(), Error> {
        let blob =
            |digest, bytes: &[u8]| LayoutFile::blob(digest, LayoutContent::Bytes(bytes.into()));
        let mut files = vec![LayoutFile::marker()];
        // What the folder has already stays, and what it has lost is not here either.
        let here = BlobPlace::Layout(self.folder.clone());
        let new = contents.layers.values().filter(|layer| !layer.places.contains(&here));
        for layer in new.filter_map(|layer| layer.blob.as_ref()) {
            let content = LayoutContent::Blob(store.blob_path(&layer.digest), layer.size);
            files.push(LayoutFile::blob(layer.digest, content));
        }
        files.push(blob(documents.config_descriptor().digest, &documents.config));
        let mut entries = Vec::new();
        if let Some((descriptor, bytes)) = &documents.manifest {
            files.push(blob(descriptor.digest, bytes));
            let mut entry = descriptor.clone();
            entry.annotations.insert(REF_NAME.into(), self.tag.clone());
            entries.push(entry);
        }
        let folder = self.folder.clone();
        transfer::blocking(move || transfer::write_locked_layout(&folder, &files, entries)).await?;
        Ok(())
    }
}

fn sweep(folder: &Path) -> Result<(), Error> {
    let index: Index = parse(&read_file(&folder.join("index.json"))?, "index.json")?;
    let mut named: HashSet<String> = HashSet::new();
    let mut open: Vec<Descriptor> = index.manifests;
    while let Some(descriptor) = open.pop() {
        let is_new = named.insert(descriptor.digest.hex());
        let kind = &descriptor.media_type;
        let is_manifest =
            [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].contains(&kind.as_str());
        let is_document = is_manifest || media_type::is_index(kind);
        if !is_new || !is_document {
            continue;
        }
        let bytes = read_blob(folder, descriptor.digest)?;
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            let parts = manifest.layers.into_iter().chain([manifest.config]);
            named.extend(parts.map(|part| part.digest.hex()));
        } else {
            open.extend(parse::<Index>(&bytes, "index")?.manifests);
        }
    }
    let blobs = folder.join("blobs/sha256");
    let failed =
        |error: std::io::Error| Error::Folder { path: blobs.clone(), what: error.to_string() };
    for entry in std::fs::read_dir(&blobs).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Others' temporary files have no such names.
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_blob = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_blob && !named.contains(&name) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

fn tagged(folder: &Path, tag: &str) -> Result<Digest, Error> {
    let path = folder.join("index.json");
    if !path.exists() {
        return Err(Error::Absent { place: folder.display().to_string() });
    }
    let index: Index = parse(&read_file(&path)?, "index.json")?;
    let named = |manifest: &&Descriptor| {
        manifest
            .annotations
            .get("org.opencontainers.image.ref.name")
            .is_some_and(|name| name == tag)
    };
    let found = index.manifests.iter().find(named).map(|manifest| manifest.digest);
    found.ok_or_else(|| Error::Absent { place: format!("{}:{tag}", folder.display()) })
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
    store::open_regular(path)
        .and_then(|file| file.take(CONFIG_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > CONFIG_LIMIT {
        return Err(failed(format!("it is larger than {} MiB", CONFIG_LIMIT >> 20)));
    }
    Ok(bytes)
}
