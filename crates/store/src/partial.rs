//! Single files of a layer that is not unpacked: the blocks of its blob that contain them are read,
//! and the rest stays where it is. For this process only: nothing of it is kept.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Descriptor, Digest};

use crate::loans::digest_of;
use crate::tar::{header_bytes, padding};
use crate::tree::Slice;
use crate::{BlockRange, EntryKind, Error, LayerIndex, Result, Store};

/// The whole blob is read if more than its size divided by this is needed: a half.
const MOST: u64 = 2;
/// The same if the files are in more ranges than these.
const MOST_PLACES: usize = 16;
/// Bytes between two blocks up to which both are read in one range.
const GAP: u64 = 256 << 10;
/// Bytes that are requested at once, and held in memory.
const AT_ONCE: u64 = 8 << 20;

/// The part of a layer's blob that is to be read.
#[derive(Debug)]
pub struct Part {
    diff_id: Digest,
    blob: Descriptor,
    index: Arc<LayerIndex>,
    /// The ranges, in order.
    pub ranges: Vec<BlockRange>,
    files: Places,
}

/// The places of files in a layer's archive.
type Places = Vec<FilePlace>;

/// The place of a file in a layer's archive.
#[derive(Debug)]
struct FilePlace {
    path: Arc<[u8]>,
    /// The bytes of its header, right before the content.
    header: Vec<u8>,
    content: Range<u64>,
}

impl FilePlace {
    /// The bytes that have to be read for the file: none if it is empty.
    fn whole(&self) -> Range<u64> {
        match self.content.is_empty() {
            true => self.content.clone(),
            false => self.content.start - self.header.len() as u64..self.content.end,
        }
    }
}

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

impl Store {
    /// Returns the part of a layer's blob that has to be read for some of its files; `None` if only
    /// the whole layer will do, or is little more.
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
        let wanted: Vec<Range<u64>> = files.iter().map(FilePlace::whole).collect();
        let Some(ranges) = table.locate(&wanted, GAP, AT_ONCE) else { return Ok(None) };
        let before = self.loans.parts.lock().get(diff_id).map_or(0, |held| held.read);
        let bytes: u64 = ranges.iter().map(|range| range.bytes.end - range.bytes.start).sum();
        let most_ranges = MOST_PLACES + (bytes / AT_ONCE) as usize;
        let is_little = (before + bytes) * MOST <= blob.size && ranges.len() <= most_ranges;
        let (diff_id, blob) = (*diff_id, blob.clone());
        Ok(is_little.then_some(Part { diff_id, blob, index, ranges, files }))
    }

    /// True if some files of a layer were read before.
    pub fn has_part(&self, diff_id: &Digest, paths: &BTreeSet<Arc<[u8]>>) -> bool {
        let held = self.loans.parts.lock();
        held.get(diff_id).is_some_and(|held| paths.iter().all(|path| held.files.contains_key(path)))
    }

    /// Stores the bytes of a range of a part.
    ///
    /// # Errors
    /// If they do not match the layer's index, or the disk refuses.
    pub fn put_range(&self, part: &Part, range: &BlockRange, bytes: &[u8]) -> Result<()> {
        let failed = |source| Error::ReadArchive { source };
        let table = part.index.seek_table(&part.blob).ok_or(Error::WrongBlock(part.blob.digest))?;
        let (at, content) = table.decode(&part.blob, range, bytes)?;
        let archive = match self.loans.parts.lock().entry(part.diff_id) {
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

    /// Makes the files of a part available, after all its ranges were stored. In the archive, each
    /// file's header must stand before it, byte for byte.
    ///
    /// # Errors
    /// If a header differs, or the archive cannot be read.
    pub fn keep_part(&self, part: &Part) -> Result<()> {
        let failed = |source| Error::ReadArchive { source };
        let archive = self.loans.parts.lock().get(&part.diff_id).map(|held| held.archive.clone());
        // Nothing is read for empty files.
        let Some(archive) = archive else { return Ok(()) };
        let is_lent = self.lent_index(&part.diff_id).is_some_and(|l| Arc::ptr_eq(&l, &part.index));
        for place in part.files.iter().filter(|place| !place.content.is_empty()) {
            let mut header = vec![0; place.header.len()];
            archive.read_exact_at(&mut header, place.whole().start).map_err(failed)?;
            if header != place.header {
                return Err(Error::WrongBlock(part.blob.digest));
            }
            if is_lent {
                let Range { start, end } = place.content;
                let content = Slice::new(archive.clone(), start, end - start);
                self.note_part(&part.diff_id, &place.path, digest_of(content).map_err(failed)?);
            }
        }
        if let Some(held) = self.loans.parts.lock().get_mut(&part.diff_id) {
            let files = part.files.iter().map(|file| (file.path.clone(), file.content.clone()));
            held.files.extend(files);
        }
        Ok(())
    }

    /// Returns a file that was read.
    pub(crate) fn part_file(&self, diff_id: &Digest, path: &[u8]) -> Option<Slice> {
        let held = self.loans.parts.lock();
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

/// The places of files in the archive that [`TarWriter`](crate::tar::TarWriter) makes of an index;
/// `None` if one of them is not in it.
fn places(index: &LayerIndex, paths: &BTreeSet<Arc<[u8]>>) -> Option<Places> {
    let mut found = Vec::with_capacity(paths.len());
    let mut at = 0_u64;
    for entry in index.entries() {
        let header = header_bytes(entry).ok()?;
        at = at.checked_add(header.len() as u64)?;
        let EntryKind::File { size } = entry.kind else { continue };
        let end = at.checked_add(size)?;
        if let Some(path) = paths.get(&*entry.path) {
            found.push(FilePlace { path: path.clone(), header, content: at..end });
        }
        at = end.checked_add(padding(size))?;
    }
    (found.len() == paths.len()).then_some(found)
}
