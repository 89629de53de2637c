//! Places from which a gzip stream can be decompressed without what is before: between two of its
//! blocks, with the 32 KiB of content that the next block may refer to (as in zlib's `zran.c`).

use std::io::{self, BufRead, Read};

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress};
use oci::{Digest, Hasher};

/// The content that a block may refer to (RFC 1951, section 2).
const WINDOW: usize = 32 << 10;
/// Content that is decompressed at a time.
const CHUNK: usize = 256 << 10;
/// Content between two points, at least; a table may have one point in this many bytes of a blob
/// for each byte of it, and a first window.
const LEAST_SPAN: u64 = 1 << 20;
const SHARE: u64 = 100;
/// Content of a span, at most: a stream with longer ones gets no table.
pub(crate) const LONGEST_SPAN: u64 = 16 << 20;

/// A part of a gzip stream that can be decompressed on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first bit of the part in the blob.
    pub(crate) bit: u64,
    /// The place of its first byte in the content.
    pub(crate) content: u64,
    /// The content before it, compressed by zstd; empty at the start.
    pub(crate) window: Box<[u8]>,
    /// The digest of its content.
    pub(crate) digest: Digest,
}

/// The spans of a gzip stream of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    pub(crate) spans: Vec<Span>,
    /// Bytes of the content.
    pub(crate) size: u64,
}

/// Decompresses a gzip stream of one or more members, and notes the spans of a single one.
pub struct PointReader<R> {
    input: R,
    inflate: Box<DecompressorOxide>,
    /// A window, and what was decompressed after it.
    out: Vec<u8>,
    /// The part of `out` that was not handed over yet.
    read: usize,
    end: usize,
    state: State,
    /// Bytes of the input that were consumed.
    consumed: u64,
    notes: Option<Notes>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a member.
    Header,
    Body,
    Over,
}

/// The spans so far.
struct Notes {
    spans: Vec<Span>,
    /// The open span: its first bit, place and window.
    bit: u64,
    start: u64,
    window: Box<[u8]>,
    hasher: Hasher,
    /// Bytes of content so far.
    content: u64,
    /// Bytes of windows so far.
    kept: u64,
}

impl<R: BufRead> PointReader<R> {
    /// Wraps a stream.
    pub fn new(input: R) -> Self {
        Self {
            input,
            inflate: Box::default(),
            out: vec![0; WINDOW + CHUNK],
            read: 0,
            end: 0,
            state: State::Header,
            consumed: 0,
            notes: None,
        }
    }

    /// Returns the spans, if the stream was read to its end and is of a kind that has them.
    pub fn finish(self) -> Option<Spans> {
        let notes = self.notes.filter(|_| self.state == State::Over)?;
        let size = notes.content;
        let spans = notes.closed(None);
        Some(Spans { spans: spans?, size })
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.input.fill_buf()?.first().copied();
        if byte.is_some() {
            self.input.consume(1);
            self.consumed += 1;
        }
        Ok(byte)
    }

    fn needed(&mut self) -> io::Result<u8> {
        self.byte()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads the header of a member (RFC 1952, section 2.3). Returns false at the end.
    fn header(&mut self) -> io::Result<bool> {
        const CRC: u8 = 2;
        const EXTRA: u8 = 4;
        const NAME: u8 = 8;
        const COMMENT: u8 = 16;
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "invalid gzip header");
        let Some(first) = self.byte()? else { return Ok(false) };
        let mut head = [first; 10];
        for byte in &mut head[1..] {
            *byte = self.needed()?;
        }
        let flags = head[3];
        if head[..3] != [0x1f, 0x8b, 8] || flags & 0xe0 != 0 {
            return Err(invalid());
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes([self.needed()?, self.needed()?]);
            for _ in 0..length {
                self.needed()?;
            }
        }
        for flag in [NAME, COMMENT] {
            while flags & flag != 0 && self.needed()? != 0 {}
        }
        if flags & CRC != 0 {
            self.needed()?;
            self.needed()?;
        }
        Ok(true)
    }

    /// Decompresses some more. Nothing is left to hand over before.
    fn advance(&mut self) -> io::Result<()> {
        match self.state {
            State::Over => return Ok(()),
            State::Header => {
                let is_first = self.consumed == 0;
                if !self.header()? {
                    if is_first {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.state = State::Over;
                    return Ok(());
                }
                // The spans of several members would have to end with them.
                self.notes = is_first.then(|| Notes::starting_at(self.consumed * 8));
                self.inflate.init();
                (self.read, self.end) = (0, 0);
                self.state = State::Body;
            }
            State::Body => {}
        }
        if self.end > WINDOW {
            self.out.copy_within(self.end - WINDOW..self.end, 0);
            self.end = WINDOW;
        }
        self.read = self.end;
        let flags = TINFL_FLAG_HAS_MORE_INPUT
            | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
            | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        while self.end < self.out.len() {
            let input = self.input.fill_buf()?;
            if input.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (status, used, made) =
                decompress(&mut self.inflate, input, &mut self.out, self.end, flags);
            self.input.consume(used);
            self.consumed += used as u64;
            if let Some(notes) = &mut self.notes {
                notes.add(&self.out[self.end..self.end + made]);
            }
            self.end += made;
            match status {
                TINFLStatus::NeedsMoreInput => {}
                TINFLStatus::HasMoreOutput => break,
                TINFLStatus::BlockBoundary => {
                    let bits =
                        self.inflate.block_boundary_state().map_or(0, |state| state.num_bits);
                    let bit = self.consumed * 8 - u64::from(bits);
                    let window = &self.out[self.end.saturating_sub(WINDOW)..self.end];
                    if let Some(notes) = self.notes.take() {
                        self.notes = notes.passing(bit, window);
                    }
                }
                TINFLStatus::Done => {
                    // The checksum and the size: a layer has digests.
                    for _ in 0..8 {
                        self.needed()?;
                    }
                    self.state = State::Header;
                    break;
                }
                _ => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "corrupt deflate stream",
                    ));
                }
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for PointReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.end && self.state != State::Over {
            self.advance()?;
        }
        let count = buffer.len().min(self.end - self.read);
        buffer[..count].copy_from_slice(&self.out[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

impl Notes {
    fn starting_at(bit: u64) -> Self {
        Self {
            spans: Vec::new(),
            bit,
            start: 0,
            window: Box::default(),
            hasher: Hasher::new(),
            content: 0,
            kept: 0,
        }
    }

    fn add(&mut self, content: &[u8]) {
        self.hasher.update(content);
        self.content += content.len() as u64;
    }

    /// Passes the end of a block, which may be that of a span. `None` if the spans are too long.
    fn passing(mut self, bit: u64, window: &[u8]) -> Option<Self> {
        let length = self.content - self.start;
        if length > LONGEST_SPAN {
            return None;
        }
        // The size of a window is known once it is compressed; the last one's is a guess.
        let guess = self.spans.last().map_or(0, |span| span.window.len() as u64);
        if length < LEAST_SPAN || (self.kept + guess) * SHARE > bit / 8 {
            return Some(self);
        }
        let window = zstd::bulk::compress(window, 3).ok()?.into_boxed_slice();
        self.kept += window.len() as u64;
        let (content, kept) = (self.content, self.kept);
        let spans = self.closed(Some(LONGEST_SPAN))?;
        Some(Self { spans, bit, start: content, window, content, kept, hasher: Hasher::new() })
    }

    /// The spans with the open one.
    fn closed(mut self, longest: Option<u64>) -> Option<Vec<Span>> {
        if self.content - self.start > longest.unwrap_or(LONGEST_SPAN) {
            return None;
        }
        let digest = self.hasher.finish();
        self.spans.push(Span { bit: self.bit, content: self.start, window: self.window, digest });
        Some(self.spans)
    }
}

/// Decompresses a span of `size` bytes; `bytes` begin with the byte that has its first bit.
pub(crate) fn inflate_span(span: &Span, bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let window = match span.window.is_empty() {
        true => Vec::new(),
        false => zstd::bulk::decompress(&span.window, WINDOW).ok()?,
    };
    let skipped = (span.bit % 8) as u8;
    let (state, bytes) = match skipped {
        0 => (BlockBoundaryState::default(), bytes),
        _ => {
            let (first, rest) = bytes.split_first()?;
            let num_bits = 8 - skipped;
            (BlockBoundaryState { num_bits, bit_buf: first >> skipped, ..Default::default() }, rest)
        }
    };
    let mut inflate = DecompressorOxide::from_block_boundary_state(&state);
    let mut out = window;
    let start = out.len();
    out.resize(start + size, 0);
    let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (_, _, made) = decompress(&mut inflate, bytes, &mut out, start, flags);
    if made != size {
        return None;
    }
    let content = out.split_off(start);
    (Digest::of(&content) == span.digest).then_some(content)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Text that compresses, and depends on its place.
    fn content(size: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut text = Vec::with_capacity(size + 16);
        while text.len() < size {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            write!(text, "{:x} {} ", state >> 12, state % 91).unwrap();
        }
        text.truncate(size);
        text
    }

    fn gzip(content: &[u8], level: u32) -> Vec<u8> {
        let mut out = flate2::GzBuilder::new()
            .filename("name")
            .comment("text")
            .extra(vec![1; 9])
            .write(Vec::new(), flate2::Compression::new(level));
        out.write_all(content).unwrap();
        out.finish().unwrap()
    }

    fn read(bytes: &[u8], capacity: usize) -> (Vec<u8>, Option<Spans>) {
        let mut reader = PointReader::new(io::BufReader::with_capacity(capacity, bytes));
        let mut plain = Vec::new();
        reader.read_to_end(&mut plain).unwrap();
        (plain, reader.finish())
    }

    fn check(bytes: &[u8], content: &[u8], spans: &Spans) {
        assert_eq!(spans.size, content.len() as u64);
        for (at, span) in spans.spans.iter().enumerate() {
            let end = spans.spans.get(at + 1).map_or(spans.size, |next| next.content);
            let expected = &content[span.content as usize..end as usize];
            let part = &bytes[(span.bit / 8) as usize..];
            let found = inflate_span(span, part, expected.len()).unwrap();
            assert!(found == expected, "span {at}");
            let mut changed = part.to_vec();
            changed[expected.len() / 20] ^= 0x10;
            assert_eq!(inflate_span(span, &changed, expected.len()), None);
        }
    }

    #[test]
    fn every_span_is_read_on_its_own() {
        let content = content(10 << 20);
        // The fastest level makes one block of it all.
        for level in [0, 3, 6, 9] {
            let bytes = gzip(&content, level);
            let (plain, spans) = read(&bytes, 10_000);
            assert!(plain == content);
            let spans = spans.unwrap_or_else(|| panic!("none at level {level}"));
            assert!(spans.spans.len() > 2, "{level}: {}", spans.spans.len());
            let kept: usize = spans.spans.iter().map(|span| span.window.len()).sum();
            assert!(kept as u64 * 90 < bytes.len() as u64, "{level}: {kept} of {}", bytes.len());
            check(&bytes, &content, &spans);
        }
    }

    #[test]
    fn several_members_are_read_and_have_no_spans() {
        let both = [gzip(b"one ", 6), gzip(b"two", 6)].concat();
        let (plain, spans) = read(&both, 3);
        assert_eq!((&plain[..], spans), (&b"one two"[..], None));
        let (plain, spans) = read(&gzip(b"", 6), 3);
        assert_eq!((plain.len(), spans.unwrap().size), (0, 0));
    }

    #[test]
    fn what_is_no_gzip_or_ends_early_is_an_error() {
        let bytes = gzip(&content(100_000), 6);
        let mut plain = Vec::new();
        for end in [0, 5, 30, 1000, bytes.len() - 9, bytes.len() - 1] {
            let cut = PointReader::new(&bytes[..end]).read_to_end(&mut plain);
            assert!(cut.is_err(), "{end}");
        }
        assert!(PointReader::new(&b"plain text, not gzip"[..]).read_to_end(&mut plain).is_err());
    }

    #[test]
    fn damaged_streams_end() {
        let bytes = gzip(&content(60_000), 6);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let mut reader = PointReader::new(&bytes[..]).take(1 << 20);
            let _ = io::copy(&mut reader, &mut io::sink());
        }
    }
}
