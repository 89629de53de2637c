//! Some files of a layer that is not unpacked: the blocks of its blob that have them are read, and
//! the rest stays where it is. For this process only: nothing of it is kept.

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

/// Where in a layer's archive files are.
type Places = Vec<FilePlace>;

/// Where in a layer's archive a file is.
#[derive(Debug)]
struct FilePlace {
    path: Arc<[u8]>,
    /// The bytes of its header, which stand right before the content.
    header: Vec<u8>,
    content: Range<u64>,
}

impl FilePlace {
    /// What has to be read for it: an empty file needs no byte.
    fn whole(&self) -> Range<u64> {
        match self.content.is_empty() {
            true => self.content.clone(),
            false => self.content.start - self.header.len() as u64..self.content.end,
        }
    }
}

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
        let wanted: Vec<Range<u64>> = files.iter().map(FilePlace::whole).collect();
        let Some(ranges) = table.locate(&wanted, GAP, AT_ONCE) else { return Ok(None) };
        let before = self.loans.parts.lock().get(diff_id).map_or(0, |held| held.read);
        let bytes: u64 = ranges.iter().map(|range| range.bytes.end - range.bytes.start).sum();
        let most_ranges = MOST_PLACES + (bytes / AT_ONCE) as usize;
        let is_little = (before + bytes) * MOST <= blob.size && ranges.len() <= most_ranges;
        let (diff_id, blob) = (*diff_id, blob.clone());
        Ok(is_little.then_some(Part { diff_id, blob, index, ranges, files }))
    }

    /// Whether some files of a layer were read before.
    pub fn has_part(&self, diff_id: &Digest, paths: &BTreeSet<Arc<[u8]>>) -> bool {
        let held = self.loans.parts.lock();
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

    /// The files of a part are here: all its ranges were taken. The archive must have the header of
    /// each file before it, byte for byte.
    ///
    /// # Errors
    /// If it has not, or cannot be read.
    pub fn keep_part(&self, part: &Part) -> Result<()> {
        let failed = |source| Error::ReadArchive { source };
        let archive = self.loans.parts.lock().get(&part.diff_id).map(|held| held.archive.clone());
        // Of empty files nothing was read.
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

    /// A file that was read.
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

/// Where files are in the archive that [`TarWriter`](crate::tar::TarWriter) makes of an index; nothing
/// if one of them is not in it.
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
