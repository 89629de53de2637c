//! Some files of a layer that is not unpacked: the blocks of its blob that have them are read, and
//! the rest stays where it is. For this process only: nothing of it is kept.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Descriptor, Digest};

use crate::tar::{header_size, padding};
use crate::tree::Slice;
use crate::{BlockRange, EntryKind, Error, LayerIndex, Result, Store};

/// More than this part of a blob, and all of it is read: a half.
const MOST: u64 = 2;
/// So do files that are in more places than these.
const MOST_PLACES: usize = 16;
/// Bytes that are read along rather than asked for around.
const GAP: u64 = 256 << 10;
/// What is asked for at once, and held in memory.
const AT_ONCE: u64 = 8 << 20;

/// What is to be read of a layer's blob.
#[derive(Debug)]
pub struct Part {
    diff_id: Digest,
    blob: Descriptor,
    index: Arc<LayerIndex>,
    /// The ranges, in order.
    pub ranges: Vec<BlockRange>,
    files: Places,
}

/// Where in a layer's archive the contents of files are.
type Places = Vec<(Arc<[u8]>, Range<u64>)>;

/// What was read of the layers of a store, by diffID.
#[derive(Default)]
pub(crate) struct Parts(Mutex<HashMap<Digest, Held>>);

struct Held {
    /// The layer's archive, with holes for what was not read.
    archive: Arc<File>,
    files: HashMap<Arc<[u8]>, Range<u64>>,
    /// Bytes of the blob that were read.
    read: u64,
}

impl Store {
    /// What must be read of a layer's blob for some of its files; nothing where only the whole
    /// layer will do, or is little more.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn part(
        &self,
        diff_id: &Digest,
        blob: &Descriptor,
        paths: &BTreeSet<Arc<[u8]>>,
    ) -> Result<Option<Part>> {
        let index = match self.index(diff_id) {
            Ok(index) => index,
            Err(Error::NoIndex(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(table) = index.seek_table(blob) else { return Ok(None) };
        let Some(files) = places(&index, paths) else { return Ok(None) };
        let wanted: Vec<Range<u64>> = files.iter().map(|(_, place)| place.clone()).collect();
        let Some(ranges) = table.locate(&wanted, GAP, AT_ONCE) else { return Ok(None) };
        let before = self.inner.parts.lock().get(diff_id).map_or(0, |held| held.read);
        let bytes: u64 = ranges.iter().map(|range| range.bytes.end - range.bytes.start).sum();
        let most_ranges = MOST_PLACES + (bytes / AT_ONCE) as usize;
        let is_little = (before + bytes) * MOST <= blob.size && ranges.len() <= most_ranges;
        let (diff_id, blob) = (*diff_id, blob.clone());
        Ok(is_little.then_some(Part { diff_id, blob, index, ranges, files }))
    }

    /// Whether some files of a layer were read before.
    pub fn has_part(&self, diff_id: &Digest, paths: &BTreeSet<Arc<[u8]>>) -> bool {
        let held = self.inner.parts.lock();
        held.get(diff_id).is_some_and(|held| paths.iter().all(|path| held.files.contains_key(path)))
    }

    /// Takes the bytes of a range of a part.
    ///
    /// # Errors
    /// If they are not what the layer's index says, or the disk refuses.
    pub fn put_range(&self, part: &Part, range: &BlockRange, bytes: &[u8]) -> Result<()> {
        let failed = |source| Error::ReadArchive { source };
        let table = part.index.seek_table(&part.blob).ok_or(Error::WrongBlock(part.blob.digest))?;
        let (at, content) = table.decode(&part.blob, range, bytes)?;
        let archive = match self.inner.parts.lock().entry(part.diff_id) {
            Entry::Occupied(mut held) => {
                held.get_mut().read += bytes.len() as u64;
                held.get().archive.clone()
            }
            Entry::Vacant(place) => {
                let archive = Arc::new(self.spool_file().map_err(failed)?);
                let read = bytes.len() as u64;
                place.insert(Held { archive: archive.clone(), files: HashMap::new(), read });
                archive
            }
        };
        archive.write_all_at(&content, at).map_err(failed)
    }

    /// The files of a part are here: all its ranges were taken.
    pub fn keep_part(&self, part: &Part) {
        if let Some(held) = self.inner.parts.lock().get_mut(&part.diff_id) {
            held.files.extend(part.files.iter().cloned());
        }
    }

    /// A file that was read.
    pub(crate) fn part_file(&self, diff_id: &Digest, path: &[u8]) -> Option<Slice> {
        let held = self.inner.parts.lock();
        let held = held.get(diff_id)?;
        let place = held.files.get(path)?;
        Some(Slice::new(held.archive.clone(), place.start, place.end - place.start))
    }
}

impl Parts {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where files are in the archive that [`TarWriter`](crate::tar::TarWriter) makes of an index; nothing
/// if one of them is not in it.
fn places(index: &LayerIndex, paths: &BTreeSet<Arc<[u8]>>) -> Option<Places> {
    let mut found = Vec::with_capacity(paths.len());
    let mut at = 0_u64;
    for entry in index.entries() {
        at = at.checked_add(header_size(entry).ok()?)?;
        let EntryKind::File { size } = entry.kind else { continue };
        let end = at.checked_add(size)?;
        if let Some(path) = paths.get(&*entry.path) {
            found.push((path.clone(), at..end));
        }
        at = end.checked_add(padding(size))?;
    }
    (found.len() == paths.len()).then_some(found)
}
