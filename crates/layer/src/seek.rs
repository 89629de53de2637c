//! The places of the blocks in a layer's blob, so that some of its files can be read without the
//! rest: by ranges of the blob, wherever it is.

use std::collections::BTreeSet;
use std::ops::Range;

use oci::{Descriptor, Digest};

use crate::compress::{Block, WrittenBlocks};
use crate::decompress::Codec;
use crate::encoding::{Reader, put_bytes, put_number};
use crate::points::{LONGEST_SPAN, Span, Spans, inflate_span};
use crate::{Error, IndexError, Result};

/// Limits for tables from other machines.
const MAX_BLOCKS: u64 = 1 << 18;
const MAX_BLOCK: u64 = 16 << 20;
/// Content of a range of blocks, at most, unless a single block has more: it is held in memory.
const MOST_CONTENT: u64 = 32 << 20;

/// The blocks of a blob, each of which can be read on its own: those of a blob that kiln wrote, or
/// the spans between two places of somebody else's gzip.
///
/// A table from another machine is checked as far as possible: blocks against the digests in it,
/// and the header before each file against the index, where kiln wrote the archive. Only the whole
/// blob proves that the blocks are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekTable {
    blob: Digest,
    layout: Layout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// Blocks of one size of content, compressed independently.
    Blocks {
        /// Bytes of content in each block but the last.
        block_size: u64,
        /// Bytes of the blob before the first block.
        start: u64,
        blocks: Vec<Block>,
    },
    Spans(Spans),
}

/// Neighbouring blocks of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// Their numbers.
    pub blocks: Range<usize>,
    /// The place of the blocks in the blob.
    pub bytes: Range<u64>,
}

impl SeekTable {
    /// Returns the table of a blob that was just written.
    pub fn of(blob: &Descriptor, written: WrittenBlocks) -> Self {
        let WrittenBlocks { block_size, start, blocks } = written;
        Self { blob: blob.digest, layout: Layout::Blocks { block_size, start, blocks } }
    }

    /// Returns the table of a blob that was just read.
    pub fn of_spans(blob: Digest, spans: Spans) -> Self {
        Self { blob, layout: Layout::Spans(spans) }
    }

    /// True if the table is that of this blob.
    pub fn is_of(&self, blob: &Descriptor) -> bool {
        let end = match &self.layout {
            // gzip's checksum may follow.
            Layout::Blocks { .. } => self.blocks_extent().map_or(0, |(end, ..)| end),
            Layout::Spans(spans) => spans.spans.last().map_or(0, |span| span.bit / 8),
        };
        blob.digest == self.blob && end <= blob.size
    }

    /// True if another table is that of the same blob.
    pub(crate) fn has_blob_of(&self, other: &Self) -> bool {
        self.blob == other.blob
    }

    /// Returns the end of the last block in the blob; and of the content, the size of all blocks
    /// but the last, and of all if the last one is full. `None` for spans.
    pub(crate) fn blocks_extent(&self) -> Option<(u64, u64, u64)> {
        let Layout::Blocks { block_size, start, blocks } = &self.layout else { return None };
        let end = blocks.iter().fold(*start, |end, block| end + block.size);
        let full = (blocks.len() as u64).saturating_sub(1) * block_size;
        Some((end, full, full + block_size))
    }

    /// Returns the size of the content of spans; `None` for blocks.
    pub(crate) fn spans_size(&self) -> Option<u64> {
        match &self.layout {
            Layout::Blocks { .. } => None,
            Layout::Spans(spans) => Some(spans.size),
        }
    }

    /// Returns the blocks that contain some ranges of the content, in order; `None` if the content
    /// is not that long. Blocks with at most `gap` bytes between them are one range, of at most
    /// `most` bytes unless a single block is larger.
    pub fn locate(
        &self,
        wanted: &[Range<u64>],
        gap: u64,
        most: u64,
        blob: &Descriptor,
    ) -> Option<Vec<BlockRange>> {
        Some(self.ranges(&self.blocks_of(wanted)?, gap, most, blob))
    }

    /// The number of blocks.
    pub fn block_count(&self) -> usize {
        match &self.layout {
            Layout::Blocks { blocks, .. } => blocks.len(),
            Layout::Spans(spans) => spans.spans.len(),
        }
    }

    /// Returns the numbers of the blocks that contain some ranges of the content; `None` if the
    /// content is not that long.
    pub fn blocks_of(&self, wanted: &[Range<u64>]) -> Option<BTreeSet<usize>> {
        let mut numbers = BTreeSet::new();
        for range in wanted.iter().filter(|range| !range.is_empty()) {
            let (first, last) = (self.block_at(range.start)?, self.block_at(range.end - 1)?);
            numbers.extend(first..=last);
        }
        Some(numbers)
    }

    /// The number of the block with a byte of the content.
    fn block_at(&self, byte: u64) -> Option<usize> {
        match &self.layout {
            Layout::Blocks { block_size, blocks, .. } => {
                usize::try_from(byte / block_size).ok().filter(|number| *number < blocks.len())
            }
            Layout::Spans(spans) if byte >= spans.size => None,
            Layout::Spans(spans) => {
                spans.spans.partition_point(|span| span.content <= byte).checked_sub(1)
            }
        }
    }

    /// Returns the places of some blocks in the blob, joined as by [`locate`](Self::locate).
    pub fn ranges(
        &self,
        numbers: &BTreeSet<usize>,
        gap: u64,
        most: u64,
        blob: &Descriptor,
    ) -> Vec<BlockRange> {
        let mut found: Vec<BlockRange> = Vec::new();
        let mut add = |number: usize, bytes: Range<u64>| match found.last_mut() {
            Some(before)
                if bytes.start <= before.bytes.end + gap
                    && bytes.end - before.bytes.start <= most
                    && self.content_of(before.blocks.start..number + 1) <= MOST_CONTENT =>
            {
                before.blocks.end = number + 1;
                before.bytes.end = bytes.end;
            }
            _ => found.push(BlockRange { blocks: number..number + 1, bytes }),
        };
        match &self.layout {
            Layout::Blocks { start, blocks, .. } => {
                let mut at = *start;
                for (number, block) in blocks.iter().enumerate() {
                    let bytes = at..at + block.size;
                    at = bytes.end;
                    if numbers.contains(&number) {
                        add(number, bytes);
                    }
                }
            }
            Layout::Spans(spans) => {
                for number in numbers {
                    let Some(span) = spans.spans.get(*number) else { continue };
                    let next = spans.spans.get(number + 1);
                    let end = next.map_or(blob.size, |next| next.bit.div_ceil(8));
                    add(*number, span.bit / 8..end);
                }
            }
        }
        found
    }

    /// Bytes of content of neighbouring blocks.
    fn content_of(&self, blocks: Range<usize>) -> u64 {
        match &self.layout {
            Layout::Blocks { block_size, .. } => blocks.len() as u64 * block_size,
            Layout::Spans(spans) => {
                let place =
                    |number: usize| spans.spans.get(number).map_or(spans.size, |span| span.content);
                place(blocks.end) - place(blocks.start)
            }
        }
    }

    /// Decompresses the bytes of some blocks, and returns them with their place in the content.
    ///
    /// # Errors
    /// If the bytes are not those of the blocks.
    pub fn decode(
        &self,
        blob: &Descriptor,
        range: &BlockRange,
        bytes: &[u8],
    ) -> Result<(u64, Vec<u8>)> {
        match &self.layout {
            Layout::Blocks { block_size, blocks, .. } => {
                let blocks = (*block_size, &blocks[..]);
                self.decode_blocks(blocks, Codec::of_media_type(&blob.media_type)?, range, bytes)
            }
            Layout::Spans(spans) => self.decode_spans(spans, range, bytes),
        }
    }

    fn decode_spans(
        &self,
        spans: &Spans,
        range: &BlockRange,
        bytes: &[u8],
    ) -> Result<(u64, Vec<u8>)> {
        let wrong = || Error::WrongBlock(self.blob);
        let mut content = Vec::new();
        for number in range.blocks.clone() {
            let span = spans.spans.get(number).ok_or_else(wrong)?;
            let next = spans.spans.get(number + 1);
            let size = next.map_or(spans.size, |next| next.content) - span.content;
            let from = (span.bit / 8).checked_sub(range.bytes.start).ok_or_else(wrong)?;
            let part = bytes.get(from as usize..).ok_or_else(wrong)?;
            let plain = inflate_span(span, part, size as usize).ok_or_else(wrong)?;
            content.extend_from_slice(&plain);
        }
        let first = spans.spans.get(range.blocks.start).ok_or_else(wrong)?;
        Ok((first.content, content))
    }

    fn decode_blocks(
        &self,
        (block_size, blocks): (u64, &[Block]),
        codec: Codec,
        range: &BlockRange,
        bytes: &[u8],
    ) -> Result<(u64, Vec<u8>)> {
        let wrong = || Error::WrongBlock(self.blob);
        let mut content = Vec::new();
        let mut rest = bytes;
        for number in range.blocks.clone() {
            let block = &blocks[number];
            let size = usize::try_from(block.size).unwrap_or(usize::MAX);
            let (compressed, after) = rest.split_at_checked(size).ok_or_else(wrong)?;
            rest = after;
            if Digest::of(compressed) != block.digest {
                return Err(wrong());
            }
            let plain = codec
                .decode_block(compressed, block_size as usize)
                .map_err(|source| Error::ReadArchive { source })?;
            let is_last = number + 1 == blocks.len();
            if plain.len() as u64 != block_size && !is_last {
                return Err(wrong());
            }
            content.extend_from_slice(&plain);
        }
        Ok((range.blocks.start as u64 * block_size, content))
    }

    /// Appends the table to an encoded index.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.blob.as_bytes());
        match &self.layout {
            Layout::Blocks { block_size, start, blocks } => {
                for number in [*block_size, *start, blocks.len() as u64] {
                    put_number(out, number);
                }
                for block in blocks {
                    put_number(out, block.size);
                    out.extend_from_slice(block.digest.as_bytes());
                }
            }
            Layout::Spans(Spans { spans, size }) => {
                // No block has this size.
                for number in [0, *size, spans.len() as u64] {
                    put_number(out, number);
                }
                for span in spans {
                    put_number(out, span.bit);
                    put_number(out, span.content);
                    put_bytes(out, &span.window);
                    out.extend_from_slice(span.digest.as_bytes());
                }
            }
        }
    }

    /// Decodes the result of [`Self::encode`].
    pub(crate) fn read(reader: &mut Reader<'_>) -> std::result::Result<Self, IndexError> {
        let blob = reader.digest()?;
        let block_size = reader.number()?;
        let layout = match block_size {
            0 => Layout::Spans(read_spans(reader)?),
            _ => read_blocks(block_size, reader)?,
        };
        Ok(Self { blob, layout })
    }
}

fn read_blocks(
    block_size: u64,
    reader: &mut Reader<'_>,
) -> std::result::Result<Layout, IndexError> {
    let (start, count) = (reader.number()?, reader.number()?);
    if block_size > MAX_BLOCK || start > MAX_BLOCK || count > MAX_BLOCKS {
        return Err(IndexError::Damaged("a number of its blocks is out of range"));
    }
    let mut blocks = Vec::new();
    for _ in 0..count {
        let block = Block { size: reader.number()?, digest: reader.digest()? };
        // Content that does not compress takes a little more space.
        if block.size > block_size + block_size / 8 + 1024 {
            return Err(IndexError::Damaged("a block is larger than its content"));
        }
        blocks.push(block);
    }
    Ok(Layout::Blocks { block_size, start, blocks })
}

fn read_spans(reader: &mut Reader<'_>) -> std::result::Result<Spans, IndexError> {
    let (size, count) = (reader.number()?, reader.number()?);
    if count > MAX_BLOCKS || count == 0 {
        return Err(IndexError::Damaged("a number of its spans is out of range"));
    }
    let mut spans: Vec<Span> = Vec::new();
    for _ in 0..count {
        let (bit, content) = (reader.number()?, reader.number()?);
        let (window, digest) = (reader.bytes()?.into(), reader.digest()?);
        let follows = spans.last().map_or(content == 0, |last| {
            bit > last.bit && content > last.content && content - last.content <= LONGEST_SPAN
        });
        if !follows {
            return Err(IndexError::Damaged("its spans are not in order"));
        }
        spans.push(Span { bit, content, window, digest });
    }
    let last = spans.last().map_or(0, |span| span.content);
    match size.checked_sub(last) {
        Some(rest) if rest <= LONGEST_SPAN => Ok(Spans { spans, size }),
        _ => Err(IndexError::Damaged("its last span is too long")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{Compression, Encoder};

    /// Bytes that depend on their position, and compress somewhat.
    fn content(size: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = |at: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at.is_multiple_of(3) { 0 } else { (state >> 24) as u8 }
        };
        (0..size).map(&mut next).collect()
    }

    fn written(compression: Compression, content: &[u8]) -> (Vec<u8>, Descriptor, SeekTable) {
        let mut encoder = Encoder::with_threads(Vec::new(), compression, 2).unwrap();
        encoder.write_all(content).unwrap();
        let (bytes, written) = encoder.finish_blocks().unwrap();
        let digest = Digest::of(&bytes);
        let blob = Descriptor::new(compression.media_type(), digest, bytes.len() as u64);
        let table = SeekTable::of(&blob, written);
        (bytes, blob, table)
    }

    #[test]
    fn a_part_is_read_without_the_rest() {
        let content = content(14 << 20);
        for compression in [Compression::None, Compression::Gzip(None), Compression::Zstd(None)] {
            let (bytes, blob, table) = written(compression, &content);
            assert!(table.is_of(&blob));
            for wanted in [0..1, 5_000_000..5_000_100, 1_048_575..9_000_000, 14_680_063..14_680_064]
            {
                let found =
                    table.locate(std::slice::from_ref(&wanted), 0, u64::MAX, &blob).unwrap();
                let [range] = &found[..] else { panic!("one range") };
                let part = &bytes[range.bytes.start as usize..range.bytes.end as usize];
                let (at, plain) = table.decode(&blob, range, part).unwrap();
                let from = (wanted.start - at) as usize;
                let length = (wanted.end - wanted.start) as usize;
                let expected = &content[wanted.start as usize..wanted.end as usize];
                assert!(&plain[from..from + length] == expected, "{compression:?} {wanted:?}");
                let mut changed = part.to_vec();
                changed[10] ^= 1;
                assert!(table.decode(&blob, range, &changed).is_err());
                assert!(table.decode(&blob, range, &part[1..]).is_err());
            }
            let beyond = [0..1, 0..20 << 20];
            assert_eq!(table.locate(&beyond, 0, u64::MAX, &blob), None);
        }
    }

    #[test]
    fn ranges_that_are_near_become_one() {
        let (_, blob, table) = written(Compression::Gzip(None), &content(14 << 20));
        let wanted = [9 << 20..(9 << 20) + 1, 0..10, 2 << 20..3 << 20, 20..30];
        assert_eq!(table.locate(&wanted, 0, u64::MAX, &blob).unwrap().len(), 3);
        assert_eq!(table.locate(&wanted, 3 << 20, 1 << 20, &blob).unwrap().len(), 3);
        let joined = table.locate(&wanted, 3 << 20, u64::MAX, &blob).unwrap();
        assert_eq!(joined.len(), 2);
        assert_eq!((joined[0].blocks.clone(), joined[1].blocks.clone()), (0..3, 9..10));
    }

    #[test]
    fn a_range_has_little_content_however_well_it_shrinks() {
        let (_, blob, table) = written(Compression::Zstd(None), &vec![0; 100 << 20]);
        let all = 0..100 << 20;
        let wanted = std::slice::from_ref(&all);
        let ranges = table.locate(wanted, 1 << 20, u64::MAX, &blob).unwrap();
        assert_eq!(ranges.len(), 4);
        for range in ranges {
            assert!(table.content_of(range.blocks) <= MOST_CONTENT);
        }
    }

    #[test]
    fn a_table_reads_as_it_writes_and_what_is_damaged_is_refused() {
        let (_, _, table) = written(Compression::Zstd(None), &content(14 << 20));
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(SeekTable::read(&mut Reader::new(&bytes)).unwrap(), table);
        for end in 0..bytes.len() {
            assert!(SeekTable::read(&mut Reader::new(&bytes[..end])).is_err());
        }
        let Layout::Blocks { start, blocks, .. } = table.layout.clone() else { panic!("spans") };
        let layout = Layout::Blocks { block_size: 1 << 40, start, blocks };
        let huge = SeekTable { layout, ..table };
        let mut bytes = Vec::new();
        huge.encode(&mut bytes);
        assert!(SeekTable::read(&mut Reader::new(&bytes)).is_err());
    }
}
