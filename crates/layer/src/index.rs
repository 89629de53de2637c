//! The headers of a layer without its content: small enough to travel with a cache, so that a tree
//! is known without its layers' bytes.

mod check;
mod format;
mod read;

use std::cmp::Ordering;
use std::io::Read as _;
use std::ops::Range;

use oci::{Descriptor, Digest};

use self::format::{Last, put_entry};
use crate::encoding::{Reader, put_number};
use crate::entry::compare_paths;
use crate::tar::{header_size, padding};
use crate::{Entry, EntryKind, IndexError, SeekTable};

/// First bytes of an encoded index; the last one is the version of the encoding.
const MAGIC: &[u8; 5] = b"KLIX\x03";
/// Limits for indexes from other machines. A layer of the largest images in use has some hundred
/// thousand entries.
const MAX_ENTRIES: u64 = 2_000_000;
const MAX_PAYLOAD: u64 = 256 << 20;
/// Layers are seldom compressed in more than two ways.
const MAX_SEEK_TABLES: usize = 4;

/// The headers of a layer's entries, in order: see [`Entry`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerIndex {
    entries: Vec<Entry>,
    seek_tables: Vec<SeekTable>,
    /// The places of the files' contents in the archive, in the order of the files; empty if the
    /// archive is laid out as by [`TarWriter`](crate::tar::TarWriter).
    places: Vec<u64>,
}

/// The place of a regular file in a layer's archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// The number of its entry.
    pub entry: usize,
    /// Bytes of its header right before the content, if they are those that kiln writes; else 0.
    pub header: u64,
    /// The place of its content.
    pub content: Range<u64>,
}

impl LayerIndex {
    /// Makes an index of entries in any order. Of several entries for one path the last counts (as
    /// when an archive is unpacked); a whiteout beside a directory makes the directory opaque,
    /// beside anything else it has no effect.
    pub fn from_entries(mut entries: Vec<Entry>) -> Self {
        let sorted = entries.windows(2).all(|pair| {
            compare_paths(&pair[0].path, &pair[1].path) == Ordering::Less
                || pair[1].kind == EntryKind::Opaque
                    && pair[0].kind == EntryKind::Directory
                    && pair[0].path == pair[1].path
        });
        if !sorted {
            entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
            entries = merge_same_paths(entries);
        }
        Self { entries, seek_tables: Vec::new(), places: Vec::new() }
    }

    /// Adds the blocks of one more blob that kiln made of these entries.
    #[must_use]
    pub fn with_seek_table(mut self, seek_table: SeekTable) -> Self {
        if self.seek_tables.len() < MAX_SEEK_TABLES {
            self.seek_tables.push(seek_table);
        }
        self
    }

    /// The headers alone.
    #[must_use]
    pub fn without_seek_tables(&self) -> Self {
        Self { entries: self.entries.clone(), seek_tables: Vec::new(), places: Vec::new() }
    }

    /// Adds the blocks that another index of the same entries knows of other blobs.
    #[must_use]
    pub fn with_seek_tables_of(self, other: &Self) -> Self {
        if self.entries != other.entries {
            return self;
        }
        let is_new =
            |table: &&SeekTable| !self.seek_tables.iter().any(|known| known.has_blob_of(table));
        let more: Vec<SeekTable> = other.seek_tables.iter().filter(is_new).cloned().collect();
        let mut all = more.into_iter().fold(self, Self::with_seek_table);
        if all.places.is_empty() {
            all.places.clone_from(&other.places);
        }
        all
    }

    /// Adds where the contents of the files are in the archive; `None` for one of them leaves all out.
    #[must_use]
    pub fn with_places(mut self, place_of: impl Fn(&[u8]) -> Option<u64>) -> Self {
        let files =
            self.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
        self.places =
            files.map(|entry| place_of(&entry.path)).collect::<Option<_>>().unwrap_or_default();
        self
    }

    /// Returns the places of all regular files in the archive, in the order of their entries.
    ///
    /// # Errors
    /// If an entry cannot be in an archive, or the places are not those of the files.
    pub fn file_places(&self) -> crate::Result<Vec<FilePlace>> {
        let mut found = Vec::new();
        let mut places = self.places.iter();
        let mut at = 0_u64;
        let too_large = || crate::Error::ArchiveLimit { unit: "bytes", limit: u64::MAX };
        for (number, entry) in self.entries.iter().enumerate() {
            let is_laid_out = self.places.is_empty();
            let header = if is_laid_out { header_size(entry)? } else { 0 };
            at = at.checked_add(header).ok_or_else(too_large)?;
            let EntryKind::File { size } = entry.kind else { continue };
            let start = if is_laid_out { at } else { *places.next().ok_or_else(too_large)? };
            let end = start.checked_add(size).ok_or_else(too_large)?;
            found.push(FilePlace { entry: number, header, content: start..end });
            at = end.checked_add(padding(size)).ok_or_else(too_large)?;
        }
        Ok(found)
    }

    /// Returns the blocks of a blob of the layer, if they are known.
    pub fn seek_table(&self, blob: &Descriptor) -> Option<&SeekTable> {
        self.seek_tables.iter().find(|table| table.is_of(blob))
    }

    /// True if the places of the files are noted.
    #[inline]
    pub fn has_places(&self) -> bool {
        !self.places.is_empty()
    }

    /// True if the blocks of any blob are known.
    #[inline]
    pub fn has_seek_tables(&self) -> bool {
        !self.seek_tables.is_empty()
    }

    /// The entries, in order.
    #[inline]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entries by value.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Returns the entry of a path; for an opaque directory the directory's own.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        let first = self
            .entries
            .partition_point(|entry| compare_paths(&entry.path, path) == Ordering::Less);
        self.entries.get(first).filter(|entry| &*entry.path == path)
    }

    /// Encodes the index: the same bytes for the same entries and seek tables (and the same zstd).
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = self.encoded_entries();
        put_number(&mut payload, self.seek_tables.len() as u64);
        for seek_table in &self.seek_tables {
            seek_table.encode(&mut payload);
        }
        put_number(&mut payload, self.places.len() as u64);
        let mut last = 0;
        for place in &self.places {
            // Zigzag: most files are a little after the one before.
            let step = place.wrapping_sub(last) as i64;
            put_number(&mut payload, ((step << 1) ^ (step >> 63)) as u64);
            last = *place;
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(
            zstd::bulk::compress(&payload, 1).expect("compressing memory to memory cannot fail"),
        );
        bytes
    }

    /// True if a file begins with the magic of this version.
    pub fn is_in(path: &std::path::Path) -> bool {
        let mut start = [0; MAGIC.len()];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && start == *MAGIC
    }

    /// Decodes the result of [`Self::encode`]. The input is not trusted: sizes are limited, and
    /// paths and their order are checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        Self::decode_within(bytes, u64::MAX)
    }

    /// Does the same as [`Self::decode`], for an index of at most `most` bytes of
    /// [memory](Self::memory): a small document can name long paths by a few bytes each.
    pub fn decode_within(bytes: &[u8], most: u64) -> Result<Self, IndexError> {
        let compressed = bytes.strip_prefix(MAGIC).ok_or(IndexError::Format)?;
        let largest = most.min(MAX_PAYLOAD);
        let mut payload = Vec::new();
        zstd::stream::read::Decoder::with_buffer(compressed)
            .and_then(|decoder| decoder.take(largest + 1).read_to_end(&mut payload))
            .map_err(IndexError::Read)?;
        if payload.len() as u64 > largest {
            return Err(IndexError::TooLarge);
        }
        let mut reader = Reader::new(&payload);
        let count = reader.number()?;
        if count > MAX_ENTRIES {
            return Err(IndexError::Damaged("it has too many entries"));
        }
        // An encoded entry has at least four bytes, and takes one place in the list.
        let places = count.min(payload.len() as u64 / 4);
        let mut left = most.checked_sub(places * PLACE).ok_or(IndexError::TooLarge)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(places as usize);
        for _ in 0..count {
            let entry = reader.entry(entries.last())?;
            left = left.checked_sub(contents_of(&entry)).ok_or(IndexError::TooLarge)?;
            entries.push(entry);
        }
        let count = reader.number()?;
        if count > MAX_SEEK_TABLES as u64 {
            return Err(IndexError::Damaged("it has too many seek tables"));
        }
        let seek_tables =
            (0..count).map(|_| SeekTable::read(&mut reader)).collect::<Result<_, _>>()?;
        let count = reader.number()?;
        let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
        if count != 0 && count != files.count() as u64 {
            return Err(IndexError::Damaged("its places are not those of its files"));
        }
        let memory = count * size_of::<u64>() as u64;
        left.checked_sub(memory).ok_or(IndexError::TooLarge)?;
        let mut places: Vec<u64> = Vec::new();
        let mut last = 0_u64;
        for _ in 0..count {
            let zigzag = reader.number()?;
            last = last.wrapping_add(((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)) as u64);
            places.push(last);
        }
        if !reader.is_at_end() {
            return Err(IndexError::Damaged("something follows its end"));
        }
        Ok(Self { entries, seek_tables, places })
    }

    /// The bytes of memory that the index takes, without seek tables: those are not larger than
    /// their encoding.
    pub fn memory(&self) -> u64 {
        let places = (self.places.len() * size_of::<u64>()) as u64;
        places + self.entries.iter().map(|entry| PLACE + contents_of(entry)).sum::<u64>()
    }

    /// The digest of the entries, whichever seek tables there are.
    pub fn digest(&self) -> Digest {
        Digest::of(self.encoded_entries())
    }

    fn encoded_entries(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.entries.len() * 24);
        put_number(&mut payload, self.entries.len() as u64);
        let mut last = Last::default();
        for entry in &self.entries {
            put_entry(&mut payload, entry, &last);
            last = Last::of(entry);
        }
        payload
    }
}

impl FromIterator<Entry> for LayerIndex {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        Self::from_entries(entries.into_iter().collect())
    }
}

/// Bytes of memory for an entry's place in the list, and for each piece of text that it owns.
const PLACE: u64 = size_of::<Entry>() as u64;
const PIECE: u64 = 16;

/// The bytes of memory that an entry owns besides its place in the list.
fn contents_of(entry: &Entry) -> u64 {
    let link = match &entry.kind {
        EntryKind::HardLink { target } | EntryKind::Symlink { target } => {
            PIECE + target.len() as u64
        }
        _ => 0,
    };
    let attribute = |(name, value): &crate::Xattr| {
        size_of::<crate::Xattr>() as u64 + 2 * PIECE + (name.len() + value.len()) as u64
    };
    let attributes: u64 = entry.xattrs.iter().map(attribute).sum();
    PIECE + entry.path.len() as u64 + link + attributes
}

/// Leaves one entry for each path, or a directory and its opaque mark.
fn merge_same_paths(entries: Vec<Entry>) -> Vec<Entry> {
    let mut merged: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut entries = entries.into_iter().peekable();
    while let Some(first) = entries.next() {
        let mut hides = None;
        let mut own = None;
        let mut whiteout = None;
        let mut next = Some(first);
        while let Some(entry) = next {
            let path = entry.path.clone();
            match entry.kind {
                EntryKind::Opaque => hides = Some(entry),
                EntryKind::Whiteout => whiteout = Some(entry),
                _ => own = Some(entry),
            }
            next = entries.next_if(|entry| entry.path == path);
        }
        match own {
            Some(own) if own.kind == EntryKind::Directory => {
                let opaque = hides.or(whiteout).map(|mark| Entry {
                    kind: EntryKind::Opaque,
                    ..Entry { path: own.path.clone(), ..mark }
                });
                merged.push(own);
                merged.extend(opaque);
            }
            Some(own) => merged.push(own),
            // An opaque mark whose directory has no entry of its own stays alone.
            None => merged.extend(whiteout.or(hides)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;
    use crate::compress::{Block, WrittenBlocks};
    use crate::encoding::put_bytes;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.as_bytes().into(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time { seconds: -5, nanos: 7 },
            xattrs: Vec::new(),
        }
    }

    fn sample() -> LayerIndex {
        let file = EntryKind::File { size: 300 };
        let mut capable = entry("usr/bin/ping", file.clone());
        capable.xattrs.push(((*b"security.capability").into(), [0, 10, 255].as_slice().into()));
        LayerIndex::from_entries(vec![
            entry("usr", EntryKind::Directory),
            entry("usr/bin", EntryKind::Directory),
            capable,
            entry("", EntryKind::Directory),
            entry("usr-x", file.clone()),
            entry("usr/bin", EntryKind::Opaque),
            entry("usr/bin/a", EntryKind::HardLink { target: (*b"usr/bin/ping").into() }),
            entry("usr/bin/b", EntryKind::Symlink { target: (*b"../x").into() }),
            entry("usr/bin/c", EntryKind::Whiteout),
            entry("usr/bin/d", EntryKind::CharDevice { major: 1, minor: 300 }),
            entry("usr/bin/e", EntryKind::Fifo),
        ])
    }

    #[test]
    fn a_directory_comes_before_what_is_in_it_and_that_before_its_siblings() {
        let index = sample();
        let paths: Vec<_> =
            index.entries().iter().map(|e| String::from_utf8_lossy(&e.path)).collect();
        assert_eq!(
            paths,
            [
                "",
                "usr",
                "usr/bin",
                "usr/bin",
                "usr/bin/a",
                "usr/bin/b",
                "usr/bin/c",
                "usr/bin/d",
                "usr/bin/e",
                "usr/bin/ping",
                "usr-x"
            ]
        );
        assert_eq!(index.entries()[3].kind, EntryKind::Opaque);
        assert_eq!(index.get(b"usr/bin").unwrap().kind, EntryKind::Directory);
        assert!(index.get(b"usr/b").is_none());
    }

    fn with_blocks(index: LayerIndex) -> LayerIndex {
        with_blocks_of(index, "blob")
    }

    fn with_blocks_of(index: LayerIndex, blob: &str) -> LayerIndex {
        let blob = Descriptor::new("", Digest::of(blob), 8 << 20);
        let block = Block { size: 4 << 20, digest: Digest::of("block") };
        let written = WrittenBlocks { block_size: 4 << 20, start: 10, blocks: vec![block; 2] };
        index.with_seek_table(SeekTable::of(&blob, written))
    }

    #[test]
    fn an_index_reads_as_it_writes() {
        let index = sample();
        let bytes = index.encode();
        assert_eq!(bytes, index.encode());
        assert_eq!(LayerIndex::decode(&bytes).unwrap(), index);
        let index = with_blocks(index);
        assert_eq!(LayerIndex::decode(&index.encode()).unwrap(), index);
        let empty = LayerIndex::default();
        assert_eq!(LayerIndex::decode(&empty.encode()).unwrap(), empty);
    }

    #[test]
    fn blocks_of_other_blobs_are_kept() {
        let (one, other) = (with_blocks(sample()), with_blocks_of(sample(), "other"));
        let both = one.clone().with_seek_tables_of(&other);
        assert_eq!(both.seek_tables.len(), 2);
        assert_eq!(both.clone().with_seek_tables_of(&one), both);
        let elsewhere = with_blocks(LayerIndex::default());
        assert_eq!(one.clone().with_seek_tables_of(&elsewhere), one);
    }

    #[test]
    fn of_several_entries_for_a_path_the_last_counts() {
        let index = LayerIndex::from_entries(vec![
            entry("a", EntryKind::File { size: 1 }),
            entry("a", EntryKind::File { size: 2 }),
            entry("d", EntryKind::Whiteout),
            entry("d", EntryKind::Directory),
            entry("w", EntryKind::Whiteout),
            entry("w", EntryKind::Fifo),
        ]);
        let kinds: Vec<_> = index.entries().iter().map(|entry| entry.kind.clone()).collect();
        assert_eq!(
            kinds,
            [EntryKind::File { size: 2 }, EntryKind::Directory, EntryKind::Opaque, EntryKind::Fifo]
        );
    }

    #[test]
    fn damaged_bytes_are_refused_without_a_panic() {
        let mut payload = Vec::new();
        put_number(&mut payload, 1);
        put_number(&mut payload, 0);
        put_bytes(&mut payload, b"../etc");
        payload.extend([3, 0, 0, 0, 0, 0]);
        let encode = |payload: &[u8]| {
            [MAGIC.as_slice(), &zstd::bulk::compress(payload, 1).unwrap()].concat()
        };
        assert!(LayerIndex::decode(&encode(&payload)).is_err());

        let index = with_blocks(sample());
        let whole = zstd::bulk::decompress(&index.encode()[MAGIC.len()..], 1 << 20).unwrap();
        for length in 0..whole.len() {
            assert!(LayerIndex::decode(&encode(&whole[..length])).is_err());
        }
        for position in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[position] ^= 1 << bit;
                let _ = LayerIndex::decode(&encode(&bytes));
            }
        }
    }
}
