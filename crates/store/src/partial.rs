//! Single files of a layer that is not unpacked: the blocks of its blob that contain them are read,
//! and the rest stays where it is. For this process only: nothing of it is kept.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use layer::tar::header_bytes;
use layer::{BlockRange, LayerIndex, digest_of};
use oci::{Descriptor, Digest};
use tree::{FileSlice, LayerFiles};

use crate::{Error, Result, Store};

/// Bytes below which a blob is not worth several requests.
const WORTH_A_PART: u64 = 4 << 20;
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
    /// The bytes of its header, right before the content, if they are those that kiln writes.
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
        if blob.size < WORTH_A_PART {
            return Ok(None);
        }
        let index = match self.index(diff_id) {
            Ok(index) => index,
            Err(Error::NoIndex(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(table) = index.seek_table(blob) else { return Ok(None) };
        let Some(files) = places(&index, paths) else { return Ok(None) };
        let wanted: Vec<Range<u64>> = files.iter().map(FilePlace::whole).collect();
        let Some(ranges) = table.locate(&wanted, GAP, AT_ONCE, blob) else { return Ok(None) };
        let before = self.parts.bytes_read(diff_id);
        let bytes: u64 = ranges.iter().map(|range| range.bytes.end - range.bytes.start).sum();
        let most_ranges = MOST_PLACES + (bytes / AT_ONCE) as usize;
        let is_little = (before + bytes) * MOST <= blob.size && ranges.len() <= most_ranges;
        let (diff_id, blob) = (*diff_id, blob.clone());
        Ok(is_little.then_some(Part { diff_id, blob, index, ranges, files }))
    }

    /// True if some files of a layer were read before.
    pub fn has_part(&self, diff_id: &Digest, paths: &BTreeSet<Arc<[u8]>>) -> bool {
        self.parts.has(diff_id, paths)
    }

    /// Stores the bytes of a range of a part.
    ///
    /// # Errors
    /// If they do not match the layer's index, or the disk refuses.
    pub fn put_range(&self, part: &Part, range: &BlockRange, bytes: &[u8]) -> Result<()> {
        let failed = Error::read_archive;
        let table =
            part.index.seek_table(&part.blob).ok_or(layer::Error::WrongBlock(part.blob.digest))?;
        let (at, content) = table.decode(&part.blob, range, bytes)?;
        let read = bytes.len() as u64;
        let archive = self.parts.count(part.diff_id, read, || self.spool_file()).map_err(failed)?;
        archive.write_all_at(&content, at).map_err(failed)
    }

    /// Makes the files of a part available, after all its ranges were stored. In the archive, each
    /// file's header must stand before it, byte for byte.
    ///
    /// # Errors
    /// If a header differs, or the archive cannot be read.
    pub fn keep_part(&self, part: &Part) -> Result<()> {
        let failed = Error::read_archive;
        let archive = self.parts.archive(&part.diff_id);
        // Nothing is read for empty files.
        let Some(archive) = archive else { return Ok(()) };
        let is_lent = self.loans.index(&part.diff_id).is_some_and(|l| Arc::ptr_eq(&l, &part.index));
        for place in part.files.iter().filter(|place| !place.content.is_empty()) {
            let mut header = vec![0; place.header.len()];
            archive.read_exact_at(&mut header, place.whole().start).map_err(failed)?;
            if header != place.header {
                return Err(layer::Error::WrongBlock(part.blob.digest).into());
            }
            if is_lent {
                let Range { start, end } = place.content;
                let content = FileSlice::new(archive.clone(), start, end - start);
                self.loans.note_file(
                    &part.diff_id,
                    &place.path,
                    digest_of(content).map_err(failed)?,
                );
            }
        }
        let files = part.files.iter().map(|file| (file.path.clone(), file.content.clone()));
        self.parts.note_files(&part.diff_id, files);
        Ok(())
    }
}

impl LayerFiles for Store {
    fn open_file(&self, diff_id: &Digest, path: &[u8]) -> io::Result<Box<dyn Read + Send>> {
        match self.parts.file(diff_id, path) {
            Some(file) => Ok(Box::new(file)),
            None => Ok(Box::new(Self::open_file(self, diff_id, path)?)),
        }
    }
}

/// The places of files in the archive of an index; `None` if one of them is not in it.
fn places(index: &LayerIndex, paths: &BTreeSet<Arc<[u8]>>) -> Option<Places> {
    let mut found = Vec::with_capacity(paths.len());
    for place in index.file_places().ok()? {
        let entry = &index.entries()[place.entry];
        if let Some(path) = paths.get(&*entry.path) {
            let header = if place.header == 0 { Vec::new() } else { header_bytes(entry).ok()? };
            found.push(FilePlace { path: path.clone(), header, content: place.content });
        }
    }
    (found.len() == paths.len()).then_some(found)
}
