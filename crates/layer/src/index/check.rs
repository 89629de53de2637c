//! Checks for contents that no layer's index can have.

use oci::Descriptor;

use super::LayerIndex;
use crate::decompress::Codec;
use crate::entry::MAX_PATH;
use crate::tar::{header_size, padding};
use crate::{Entry, EntryKind, IndexError, SeekTable};

/// Linux's limits for a name, for the name of an attribute, and for its value.
const LONGEST_NAME: usize = 255;
const LARGEST_VALUE: usize = 64 << 10;
/// Bytes of an archive's header, and the unit that a file's content is padded to.
const BLOCK: u64 = 512;
/// Bytes of content that one byte of a blob can stand for: deflate's best is 1032, and zstd's is a
/// block of 128 KiB in four bytes.
const MOST_OF_GZIP: u64 = 1032;
const MOST_OF_OTHERS: u64 = 1 << 15;
/// Bytes at the end of an archive.
const END: u64 = 2 * BLOCK;
/// Bytes that may follow the last block of a blob: gzip's checksum and size.
const TRAILER: u64 = 8;

impl LayerIndex {
    /// Refuses an index that no layer can have, or none with this blob: impossible sizes, kinds or
    /// paths.
    ///
    /// # Errors
    /// If the index is refused: [`IndexError::Impossible`] with the reason.
    pub fn check(&self, blob: Option<&Descriptor>) -> Result<(), IndexError> {
        for (at, entry) in self.entries.iter().enumerate() {
            check_entry(entry)?;
            self.check_place(at, entry)?;
        }
        let size = self.least_archive().ok_or(Impossible("its files are too large"))?;
        let Some(blob) = blob else { return Ok(()) };
        if size > most_of(blob) {
            return Err(Impossible("its files are larger than its blob can hold"));
        }
        self.seek_table(blob).map_or(Ok(()), |table| self.check_blocks(blob, table))
    }

    /// Only a folder can have entries below it, and only a file can have other names.
    fn check_place(&self, at: usize, entry: &Entry) -> Result<(), IndexError> {
        let is_folder = matches!(entry.kind, EntryKind::Directory | EntryKind::Opaque);
        if entry.path.is_empty() {
            return if is_folder { Ok(()) } else { Err(Impossible("its root is no folder")) };
        }
        let below = self.entries.get(at + 1).and_then(|next| next.path.strip_prefix(&*entry.path));
        if !is_folder && below.is_some_and(|rest| rest.first() == Some(&b'/')) {
            return Err(Impossible("there are entries below what is no folder"));
        }
        let EntryKind::HardLink { target } = &entry.kind else { return Ok(()) };
        match self.get(target).map(|entry| &entry.kind) {
            Some(EntryKind::Directory | EntryKind::Opaque | EntryKind::Whiteout) => {
                Err(Impossible("a hard link leads to what is no file"))
            }
            // One of the layers below may have the file.
            None | Some(_) => Ok(()),
        }
    }

    /// The least number of bytes that an archive of the entries takes.
    pub fn archive_size(&self) -> u64 {
        self.least_archive().unwrap_or(u64::MAX)
    }

    fn least_archive(&self) -> Option<u64> {
        self.entries.iter().try_fold(0_u64, |sum, entry| {
            let EntryKind::File { size } = entry.kind else { return sum.checked_add(BLOCK) };
            sum.checked_add(BLOCK)?.checked_add(size)
        })
    }

    /// Checks that a blob's blocks fill it, and that they hold the archive that kiln makes of the
    /// entries.
    fn check_blocks(&self, blob: &Descriptor, table: &SeekTable) -> Result<(), IndexError> {
        let misplaced = Impossible("its files are not where its blocks are");
        let places = self.file_places().map_err(|_| Impossible("its files are too large"))?;
        let end_of_files = places.iter().map(|place| place.content.end).max().unwrap_or(0);
        let Some((end, least, most)) = table.blocks_extent() else {
            return if Some(end_of_files) <= table.spans_size() { Ok(()) } else { Err(misplaced) };
        };
        if end > blob.size || blob.size - end > TRAILER {
            return Err(Impossible("its blocks are not those of the blob"));
        }
        if self.has_places() {
            return if end_of_files <= most { Ok(()) } else { Err(misplaced) };
        }
        let archive = self.entries.iter().try_fold(END, |sum: u64, entry| {
            let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
            let header = header_size(entry).ok()?;
            sum.checked_add(header)?.checked_add(size)?.checked_add(padding(size))
        });
        match archive {
            Some(size) if size > least && size <= most => Ok(()),
            _ => Err(Impossible("its files are not as large as its blocks")),
        }
    }
}

use IndexError::Impossible;

fn check_entry(entry: &Entry) -> Result<(), IndexError> {
    let is_name = |name: &[u8]| name.len() <= LONGEST_NAME && !name.starts_with(b".wh.");
    if !entry.path.is_empty() && !entry.path.split(|byte| *byte == b'/').all(is_name) {
        return Err(Impossible("a name that no file of a layer has"));
    }
    if let EntryKind::Symlink { target } = &entry.kind
        && (target.len() > MAX_PATH || target.contains(&0))
    {
        return Err(Impossible("a symbolic link that no file system has"));
    }
    let is_attribute = |(name, value): &crate::Xattr| {
        (1..=LONGEST_NAME).contains(&name.len())
            && !name.contains(&0)
            && value.len() <= LARGEST_VALUE
    };
    match entry.xattrs.iter().all(is_attribute) {
        true => Ok(()),
        false => Err(Impossible("an attribute that no file system has")),
    }
}

/// The largest archive that a blob can hold.
fn most_of(blob: &Descriptor) -> u64 {
    let rate = match Codec::of_media_type(&blob.media_type) {
        Ok(Codec::Plain) => 1,
        Ok(Codec::Gzip) => MOST_OF_GZIP,
        _ => MOST_OF_OTHERS,
    };
    blob.size.saturating_mul(rate)
}

#[cfg(test)]
mod tests {
    use oci::{Digest, media_type};

    use super::*;
    use crate::Time;
    use crate::compress::{Block, WrittenBlocks};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let (path, mtime) = (path.as_bytes().into(), Time::default());
        Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }

    fn refusal(entries: Vec<Entry>, blob: Option<&Descriptor>) -> Option<String> {
        LayerIndex::from_entries(entries).check(blob).err().map(|error| error.to_string())
    }

    #[test]
    fn what_no_layer_has_is_refused() {
        let file = || EntryKind::File { size: 1 };
        let link = |target: &str| EntryKind::HardLink { target: target.as_bytes().into() };
        let symlink = |target: &[u8]| EntryKind::Symlink { target: target.into() };
        let long = "n".repeat(LONGEST_NAME + 1);
        let mut odd = entry("a", file());
        odd.xattrs.push((Box::default(), Box::default()));
        for (entries, word) in [
            (vec![entry("", file())], "root"),
            (vec![entry("d", symlink(b"/etc")), entry("d/x", file())], "below"),
            (vec![entry("d", file()), entry("d/x/y", file())], "below"),
            (vec![entry("d", EntryKind::Whiteout), entry("d/x", file())], "below"),
            (vec![entry("a", link("d")), entry("d", EntryKind::Directory)], "hard link"),
            (vec![entry(&long, file())], "name"),
            (vec![entry("d/.wh.x", file())], "name"),
            (vec![entry("a", symlink(b"x\0y"))], "symbolic"),
            (vec![odd], "attribute"),
            (vec![entry("a", EntryKind::File { size: u64::MAX })], "too large"),
        ] {
            let refusal = refusal(entries.clone(), None);
            assert!(
                refusal.as_ref().is_some_and(|text| text.contains(word)),
                "{entries:?} {refusal:?}"
            );
        }
        let honest = vec![
            entry("", EntryKind::Directory),
            entry("a", link("b")),
            entry("b", link("below")),
            entry("d", EntryKind::Directory),
            entry("d", EntryKind::Opaque),
            entry("d/x", file()),
            entry("d-x", symlink(b"../d")),
        ];
        assert_eq!(refusal(honest, None), None);
    }

    #[test]
    fn files_fit_into_their_blob() {
        let blob = |kind: &str| Descriptor::new(kind, Digest::of("blob"), 2048);
        let of = |size| vec![entry("a", EntryKind::File { size })];
        let plain = blob(media_type::OCI_LAYER);
        assert_eq!(refusal(of(1024), Some(&plain)), None);
        assert!(refusal(of(2048), Some(&plain)).is_some());
        let gzip = blob(media_type::OCI_LAYER_GZIP);
        assert_eq!(refusal(of(2 << 20), Some(&gzip)), None);
        assert!(refusal(of(3 << 20), Some(&gzip)).is_some());
    }

    #[test]
    fn blocks_hold_the_archive() {
        let size = (6 << 20) + 10;
        let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of("blob"), 5 << 20);
        let index = |size, last: u64| {
            let block = |size| Block { size, digest: Digest::of("block") };
            let mut blocks = vec![block(700 << 10); 6];
            blocks.push(block((5 << 20) - 6 * (700 << 10) - 10 - last));
            let written = WrittenBlocks { block_size: 1 << 20, start: 10, blocks };
            let table = SeekTable::of(&blob, written);
            LayerIndex::from_entries(vec![entry("a", EntryKind::File { size })])
                .with_seek_table(table)
        };
        index(size, 8).check(Some(&blob)).unwrap();
        assert!(index(size, 9).check(Some(&blob)).is_err());
        for other in [0, 5 << 20, 8 << 20] {
            assert!(index(other, 8).check(Some(&blob)).is_err(), "{other}");
        }
    }
}
