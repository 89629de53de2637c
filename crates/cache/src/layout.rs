//! Reading a folder in the OCI layout (image-spec, image-layout.md). Its content is untrusted: sizes
//! are bounded, digests are checked, and only regular files are opened.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Index};

use crate::Error;
use crate::error::FileFault;
use crate::format::parse;

/// The folder of blobs in a layout.
pub(crate) fn blobs_folder(folder: &Path) -> PathBuf {
    folder.join("blobs/sha256")
}

/// The file of a blob.
pub(crate) fn blob_path(folder: &Path, digest: Digest) -> PathBuf {
    blobs_folder(folder).join(digest.hex())
}

/// Reads index.json; `None` if there is none.
///
/// # Errors
/// If it is larger than `limit`, or cannot be read.
pub(crate) fn read_index(folder: &Path, limit: u64) -> Result<Option<Index>, Error> {
    let path = folder.join("index.json");
    if !path.exists() {
        return Ok(None);
    }
    parse(&read_file(&path, limit)?, "index.json").map(Some)
}

/// The manifest that an index gives a tag.
pub(crate) fn tagged<'a>(index: &'a Index, tag: &str) -> Option<&'a Descriptor> {
    let is_tagged = |manifest: &&Descriptor| {
        manifest.annotations.get(transfer::REF_NAME).is_some_and(|name| name == tag)
    };
    index.manifests.iter().find(is_tagged)
}

/// Reads a blob and checks its digest.
///
/// # Errors
/// If it is larger than `limit`, cannot be read, or has another digest.
pub(crate) fn read_blob(folder: &Path, digest: Digest, limit: u64) -> Result<Vec<u8>, Error> {
    let path = blob_path(folder, digest);
    let bytes = read_file(&path, limit)?;
    if Digest::of(&bytes) == digest {
        Ok(bytes)
    } else {
        Err(Error::Folder { path, fault: FileFault::OtherDigest })
    }
}

fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read =
        store::open_regular(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    let fault = match read {
        Ok(_) if bytes.len() as u64 <= limit => return Ok(bytes),
        Ok(_) => FileFault::TooLarge(limit),
        Err(error) => error.into(),
    };
    Err(Error::Folder { path: path.to_owned(), fault })
}
