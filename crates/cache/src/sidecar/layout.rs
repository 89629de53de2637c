//! A sidecar in a folder in the OCI layout, under a tag derived from the cache's.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use layer::Place;
use oci::{Descriptor, Digest, media_type};
use transfer::{LayoutContent, LayoutFile, blocking, write_locked_layout};

use super::catalogue::{EMPTY, empty_config};
use super::registry::sidecar_tag;
use super::{BlobContent, SidecarStore};
use crate::Error;
use crate::layout::{blob_path, read_blob, read_index, tagged};

/// The largest index or manifest that is read, in bytes.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// The sidecar of a cache in a folder.
pub struct LayoutSidecar {
    folder: PathBuf,
    tag: String,
}

impl LayoutSidecar {
    /// The sidecar of the cache of a tag.
    pub fn new(folder: &Path, tag: &str) -> Self {
        Self { folder: folder.into(), tag: sidecar_tag(tag) }
    }
}

impl SidecarStore for LayoutSidecar {
    fn name(&self) -> String {
        format!("{}:{}", self.folder.display(), self.tag)
    }

    fn read(&self) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        let (folder, tag) = (self.folder.clone(), self.tag.clone());
        Box::pin(blocking(move || read_manifest(&folder, &tag)))
    }

    fn manifest(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        let folder = self.folder.clone();
        Box::pin(blocking(move || {
            if !blob_path(&folder, digest).exists() {
                return Ok(None);
            }
            read(&folder, digest, DOCUMENT_LIMIT).map(Some)
        }))
    }

    /// Needs no lock of its own: the writer of a cache has locked the folder.
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
        let (folder, digest) = (self.folder.clone(), blob.digest);
        let limit = blob.size.min(max);
        Box::pin(blocking(move || read(&folder, digest, limit)))
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        content: BlobContent,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let (folder, digest) = (self.folder.clone(), blob.digest);
        Box::pin(blocking(move || {
            let content = match content {
                BlobContent::Bytes(bytes) => LayoutContent::Bytes(bytes.into()),
                BlobContent::File { path, size, .. } => LayoutContent::Blob(path, size),
            };
            let files = [LayoutFile::marker(), LayoutFile::blob(digest, content)];
            Ok(transfer::write_layout_files(&folder, &files)?)
        }))
    }

    fn place(&self) -> Option<Place> {
        Some(Place::Layout(self.folder.clone()))
    }
}

fn read_manifest(folder: &Path, tag: &str) -> Result<Option<Bytes>, Error> {
    let Some(index) = read_index(folder, DOCUMENT_LIMIT)? else { return Ok(None) };
    let entry = tagged(&index, tag);
    entry.map(|entry| read(folder, entry.digest, DOCUMENT_LIMIT)).transpose()
}

fn read(folder: &Path, digest: Digest, limit: u64) -> Result<Bytes, Error> {
    Ok(read_blob(folder, digest, limit)?.into())
}
