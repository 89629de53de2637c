//! In a folder in the OCI layout: under a ref name that is made of the cache's.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oci::{Descriptor, Digest, Index, media_type};
use store::Place;
use transfer::{LayoutContent, LayoutFile, blocking, write_locked_layout};

use super::catalogue::{EMPTY, empty_config};
use super::registry::tag_beside;
use super::{Content, Keeper};
use crate::Error;

/// The largest index and manifest that are read.
const MOST_DOCUMENT: u64 = 4 << 20;

/// The artifact beside a cache in a folder.
pub struct BesideFolder {
    folder: PathBuf,
    tag: String,
}

impl BesideFolder {
    /// Beside the cache of a tag.
    pub fn new(folder: &Path, tag: &str) -> Self {
        Self { folder: folder.into(), tag: tag_beside(tag) }
    }
}

impl Keeper for BesideFolder {
    fn name(&self) -> String {
        format!("{}:{}", self.folder.display(), self.tag)
    }

    fn read(&self) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        let (folder, tag) = (self.folder.clone(), self.tag.clone());
        Box::pin(blocking(move || read_manifest(&folder, &tag)))
    }

    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        let path = blob_path(&self.folder, digest);
        Box::pin(blocking(move || {
            if !path.exists() {
                return Ok(None);
            }
            checked(&path, digest, MOST_DOCUMENT).map(Some)
        }))
    }

    /// Whoever writes a cache in a folder holds the folder.
    fn write(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        let (folder, tag) = (self.folder.clone(), self.tag.clone());
        Box::pin(blocking(move || {
            let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
            let bytes = |bytes: &[u8]| LayoutContent::Bytes(bytes.into());
            let files = [
                LayoutFile::marker(),
                LayoutFile::blob(empty_config().digest, bytes(EMPTY)),
                LayoutFile::blob(entry.digest, bytes(&manifest)),
            ];
            entry.annotations.insert(transfer::REF_NAME.into(), tag);
            Ok(write_locked_layout(&folder, &files, vec![entry])?)
        }))
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor, max: u64) -> BoxFuture<'a, Result<Bytes, Error>> {
        let (path, digest) = (blob_path(&self.folder, blob.digest), blob.digest);
        let most = blob.size.min(max);
        Box::pin(blocking(move || checked(&path, digest, most)))
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        content: Content,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let (folder, digest) = (self.folder.clone(), blob.digest);
        Box::pin(blocking(move || {
            let content = match content {
                Content::Bytes(bytes) => LayoutContent::Bytes(bytes.into()),
                Content::File { path, size, .. } => LayoutContent::Blob(path, size),
            };
            let files = [LayoutFile::marker(), LayoutFile::blob(digest, content)];
            Ok(transfer::write_layout_files(&folder, &files)?)
        }))
    }

    fn place(&self) -> Option<Place> {
        Some(Place::Layout(self.folder.clone()))
    }
}

fn blob_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

fn read_manifest(folder: &Path, tag: &str) -> Result<Option<Bytes>, Error> {
    let path = folder.join("index.json");
    if !path.exists() {
        return Ok(None);
    }
    let index: Index = serde_json::from_slice(&read_file(&path, MOST_DOCUMENT)?)
        .map_err(|error| Error::Damaged(format!("its index.json cannot be read: {error}")))?;
    let named = |entry: &&Descriptor| {
        entry.annotations.get(transfer::REF_NAME).is_some_and(|name| name == tag)
    };
    match index.manifests.iter().find(named) {
        Some(entry) => read_file(&blob_path(folder, entry.digest), MOST_DOCUMENT)
            .map(|bytes| Some(bytes.into())),
        None => Ok(None),
    }
}

fn checked(path: &Path, digest: Digest, most: u64) -> Result<Bytes, Error> {
    let bytes = read_file(path, most)?;
    match Digest::of(&bytes) == digest {
        true => Ok(bytes.into()),
        false => {
            Err(Error::Folder { path: path.into(), what: "its content has another digest".into() })
        }
    }
}

fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read =
        store::open_regular(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    let read = read.and_then(|_| match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it is larger than {most} bytes"))),
        false => Ok(bytes),
    });
    read.map_err(|error| Error::Folder { path: path.into(), what: error.to_string() })
}
