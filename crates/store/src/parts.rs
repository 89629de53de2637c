//! The files of layers that are not unpacked, as far as a build read them.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use oci::Digest;
use tree::FileSlice;

use crate::disk::lock;

/// The parts of layers that were read, by diffID.
#[derive(Default)]
pub(crate) struct Parts(Mutex<HashMap<Digest, Held>>);

struct Held {
    /// The layer's archive, with holes for the bytes that were not read.
    archive: Arc<File>,
    files: HashMap<Arc<[u8]>, Range<u64>>,
    /// Bytes of the blob that were read.
    read: u64,
}

impl Parts {
    /// The number of bytes of a layer's blob that were read.
    pub(crate) fn bytes_read(&self, diff_id: &Digest) -> u64 {
        lock(&self.0).get(diff_id).map_or(0, |held| held.read)
    }

    /// True if all these files of a layer were read.
    pub(crate) fn has(&self, diff_id: &Digest, paths: &BTreeSet<Arc<[u8]>>) -> bool {
        let held = lock(&self.0);
        held.get(diff_id).is_some_and(|held| paths.iter().all(|path| held.files.contains_key(path)))
    }

    /// Counts bytes that were read of a layer's blob, and returns its archive; `make` makes an
    /// empty one for the first.
    pub(crate) fn count(
        &self,
        diff_id: Digest,
        bytes: u64,
        make: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Arc<File>> {
        let mut held = lock(&self.0);
        if let Some(held) = held.get_mut(&diff_id) {
            held.read += bytes;
            return Ok(held.archive.clone());
        }
        let archive = Arc::new(make()?);
        let new = Held { archive: archive.clone(), files: HashMap::new(), read: bytes };
        held.insert(diff_id, new);
        Ok(archive)
    }

    /// The archive of a layer of which something was read.
    pub(crate) fn archive(&self, diff_id: &Digest) -> Option<Arc<File>> {
        lock(&self.0).get(diff_id).map(|held| held.archive.clone())
    }

    /// Notes the places of files whose bytes are in the archive.
    pub(crate) fn note_files(
        &self,
        diff_id: &Digest,
        files: impl Iterator<Item = (Arc<[u8]>, Range<u64>)>,
    ) {
        if let Some(held) = lock(&self.0).get_mut(diff_id) {
            held.files.extend(files);
        }
    }

    /// Returns a file that was read.
    pub(crate) fn file(&self, diff_id: &Digest, path: &[u8]) -> Option<FileSlice> {
        let held = lock(&self.0);
        let held = held.get(diff_id)?;
        let place = held.files.get(path)?;
        Some(FileSlice::new(held.archive.clone(), place.start, place.end - place.start))
    }
}
