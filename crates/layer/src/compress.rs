//! Compression of layers on all cores. The bytes depend on the content, the kind and the level
//! alone, not on the number of cores or the sizes of the writes.
//!
//! Content is cut into blocks, each compressed on its own and written one after the other: they can
//! be made at the same time, and one can be read without those before it (see
//! [`SeekTable`](crate::SeekTable)).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::{Compress, Crc, FlushCompress, Status};
use oci::{Digest, Hasher, media_type};

use crate::Compression;

/// Default level of gzip. Measured on /usr with zlib-rs, whose levels are those of zlib-ng: against
/// level 6 it takes a quarter less time and two to three percent more room.
const GZIP_LEVEL: u32 = 3;
/// Default level of zstd: zstd's own default.
const ZSTD_LEVEL: u32 = 3;
/// Bytes that one worker compresses at a time. Larger blocks lose less at the seams; smaller ones
/// keep all cores busy sooner, and leave less to read for one file. Deflate looks back 32 KiB.
const GZIP_BLOCK: usize = 1 << 20;
/// Bytes of a zstd block. zstd looks back 2 MiB at its default level: of /usr, blocks of 4 MiB take
/// 1.5 % less room, and four times as much is read for one file.
const ZSTD_BLOCK: usize = 1 << 20;
/// Bytes of a block of content that is not compressed, which has a digest of its own.
const PLAIN_BLOCK: usize = 1 << 20;

impl Compression {
    /// The OCI media type of a layer with this compression.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::OCI_LAYER,
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd(_) => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// The name under which the store remembers blobs of this kind. It includes the level.
    pub fn kind(self) -> String {
        match self {
            Self::None => "none".into(),
            Self::Gzip(level) => format!("gzip-{}", level.unwrap_or(GZIP_LEVEL)),
            Self::Zstd(level) => format!("zstd-{}", level.unwrap_or(ZSTD_LEVEL)),
        }
    }
}

/// Compresses the bytes that are written to it.
pub struct Encoder<W: Write>(Kind<W>);

enum Kind<W: Write> {
    Plain(Plain<W>),
    Blocks(Box<Blocks<W>>),
}

impl<W: Write> Encoder<W> {
    /// Starts an encoder on as many threads as there are cores. Content of a single block is
    /// compressed on the thread that writes it.
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(out, compression, threads)
    }

    /// Starts an encoder on this number of threads; with one, blocks are compressed on the thread
    /// that writes.
    pub fn with_threads(out: W, compression: Compression, threads: usize) -> io::Result<Self> {
        Ok(Self(match Format::of(compression) {
            None => Kind::Plain(Plain::new(out)),
            Some(format) => Kind::Blocks(Box::new(Blocks::new(out, format, threads)?)),
        }))
    }

    /// Writes the rest and returns the underlying writer.
    pub fn finish(self) -> io::Result<W> {
        self.finish_blocks().map(|(out, _)| out)
    }

    /// Does the same as [`Self::finish`], and returns the blocks that were written.
    pub fn finish_blocks(self) -> io::Result<(W, WrittenBlocks)> {
        match self.0 {
            Kind::Plain(plain) => plain.finish(),
            Kind::Blocks(blocks) => blocks.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(plain) => plain.write(bytes),
            Kind::Blocks(blocks) => blocks.write(bytes),
        }
    }

    /// Flushes nothing before the end: a flush would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A compressed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its compressed size, in bytes.
    pub(crate) size: u64,
    /// The digest of its compressed bytes.
    pub(crate) digest: Digest,
}

/// The blocks of a blob that was written.
#[derive(Debug)]
pub struct WrittenBlocks {
    /// Bytes of content in each block but the last.
    pub(crate) block_size: u64,
    /// Bytes before the first block.
    pub(crate) start: u64,
    pub(crate) blocks: Vec<Block>,
}

/// Writes content unchanged and notes the digests of its blocks.
struct Plain<W> {
    out: W,
    hasher: Hasher,
    /// Bytes in the current block.
    size: usize,
    written: Vec<Block>,
}

impl<W: Write> Plain<W> {
    fn new(out: W) -> Self {
        Self { out, hasher: Hasher::new(), size: 0, written: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PLAIN_BLOCK - self.size);
        let count = self.out.write(&bytes[..count])?;
        self.hasher.update(&bytes[..count]);
        self.size += count;
        if self.size == PLAIN_BLOCK {
            self.end_block();
        }
        Ok(count)
    }

    fn end_block(&mut self) {
        let digest = std::mem::take(&mut self.hasher).finish();
        let size = std::mem::take(&mut self.size) as u64;
        self.written.push(Block { size, digest });
    }

    fn finish(mut self) -> io::Result<(W, WrittenBlocks)> {
        if self.size > 0 {
            self.end_block();
        }
        self.out.flush()?;
        let blocks = self.written;
        Ok((self.out, WrittenBlocks { block_size: PLAIN_BLOCK as u64, start: 0, blocks }))
    }
}

/// The format of compressed blocks, with the level.
#[derive(Clone, Copy)]
enum Format {
    Gzip(u32),
    Zstd(i32),
}

impl Format {
    fn of(compression: Compression) -> Option<Self> {
        match compression {
            Compression::None => None,
            Compression::Gzip(level) => Some(Self::Gzip(level.unwrap_or(GZIP_LEVEL).min(9))),
            Compression::Zstd(level) => Some(Self::Zstd(match level.unwrap_or(ZSTD_LEVEL) {
                0 => ZSTD_LEVEL as i32,
                level => level.min(22) as i32,
            })),
        }
    }

    fn block_size(self) -> usize {
        match self {
            Self::Gzip(_) => GZIP_BLOCK,
            Self::Zstd(_) => ZSTD_BLOCK,
        }
    }

    /// The bytes before the first block. RFC 1952: no name, no time, and system "unknown", as Go
    /// writes it.
    fn start(self) -> &'static [u8] {
        match self {
            Self::Gzip(_) => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255],
            Self::Zstd(_) => &[],
        }
    }
}

/// Writes compressed blocks. In gzip each ends at a byte boundary (sync flush), as in pigz, so that
/// together they are one member that any gzip reads; in zstd each is a frame.
struct Blocks<W> {
    out: W,
    format: Format,
    threads: usize,
    block: Vec<u8>,
    crc: Crc,
    /// The workers, started with the second block.
    workers: Option<Workers>,
    /// Blocks that are being compressed, in order.
    pending: VecDeque<Receiver<io::Result<Done>>>,
    written: Vec<Block>,
}

struct Job {
    block: Vec<u8>,
    format: Format,
    last: bool,
}

struct Done {
    compressed: Vec<u8>,
    digest: Digest,
    crc: Crc,
}

impl<W: Write> Blocks<W> {
    fn new(mut out: W, format: Format, threads: usize) -> io::Result<Self> {
        out.write_all(format.start())?;
        Ok(Self {
            out,
            format,
            threads,
            block: Vec::new(),
            crc: Crc::new(),
            workers: None,
            pending: VecDeque::new(),
            written: Vec::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = self.format.block_size();
        // A full block is sent only when more content follows, because the last one must be marked.
        if self.block.len() == size {
            self.send(false)?;
        }
        let count = bytes.len().min(size - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        let size = if last { 0 } else { self.format.block_size() };
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(size));
        let job = Job { block, format: self.format, last };
        let alone = self.threads < 2 || (last && self.workers.is_none());
        if alone {
            let done = job.run()?;
            return self.take(&done);
        }
        let threads = self.threads;
        let workers = self.workers.get_or_insert_with(|| Workers::start(threads));
        self.pending.push_back(workers.send(job)?);
        while self.pending.len() > self.threads + 1 {
            self.take_first()?;
        }
        Ok(())
    }

    fn take_first(&mut self) -> io::Result<()> {
        let Some(first) = self.pending.pop_front() else { return Ok(()) };
        let done = first.recv().map_err(|_| io::Error::other("a compressing thread died"))??;
        self.take(&done)
    }

    fn take(&mut self, done: &Done) -> io::Result<()> {
        self.crc.combine(&done.crc);
        let size = done.compressed.len() as u64;
        self.written.push(Block { size, digest: done.digest });
        self.out.write_all(&done.compressed)
    }

    fn finish(mut self) -> io::Result<(W, WrittenBlocks)> {
        self.send(true)?;
        while !self.pending.is_empty() {
            self.take_first()?;
        }
        if let Format::Gzip(_) = self.format {
            self.out.write_all(&self.crc.sum().to_le_bytes())?;
            self.out.write_all(&self.crc.amount().to_le_bytes())?;
        }
        self.out.flush()?;
        let written = WrittenBlocks {
            block_size: self.format.block_size() as u64,
            start: self.format.start().len() as u64,
            blocks: self.written,
        };
        Ok((self.out, written))
    }
}

impl Job {
    fn run(&self) -> io::Result<Done> {
        let mut crc = Crc::new();
        let compressed = match self.format {
            Format::Gzip(level) => {
                crc.update(&self.block);
                self.deflate(level)?
            }
            Format::Zstd(level) => {
                let mut zstd = zstd::bulk::Compressor::new(level)?;
                zstd.include_checksum(true)?;
                zstd.compress(&self.block)?
            }
        };
        Ok(Done { digest: Digest::of(&compressed), compressed, crc })
    }

    fn deflate(&self, level: u32) -> io::Result<Vec<u8>> {
        let level = if is_dense(&self.block) { 0 } else { level };
        let mut deflate = Compress::new(flate2::Compression::new(level), false);
        let flush = if self.last { FlushCompress::Finish } else { FlushCompress::Sync };
        let mut compressed = Vec::with_capacity(self.block.len() / 2 + 1024);
        loop {
            let read = deflate.total_in() as usize;
            let status = deflate
                .compress_vec(&self.block[read..], &mut compressed, flush)
                .map_err(io::Error::other)?;
            let all_read = deflate.total_in() as usize == self.block.len();
            let done = match status {
                Status::StreamEnd => true,
                // A sync flush is complete if there is room left in the output.
                _ => all_read && !self.last && compressed.len() < compressed.capacity(),
            };
            if done {
                return Ok(compressed);
            }
            compressed.reserve(64 << 10);
        }
    }
}

/// True if a block looks compressed or random already. It is then stored, at some ten times the
/// speed and with five bytes more for each 64 KiB. Depends on the block alone.
fn is_dense(block: &[u8]) -> bool {
    if block.len() < 4 * DENSE_SAMPLE {
        return false;
    }
    let at = |part: usize| {
        let start = (block.len() - DENSE_SAMPLE) / 3 * part;
        &block[start..start + DENSE_SAMPLE]
    };
    // For most content the first sample is enough: its bytes are not all equally frequent.
    (0..4).all(|part| {
        let sample = at(part);
        bits_per_byte(sample) > 7.8 && compressed_size(sample) >= DENSE_SAMPLE - DENSE_SAMPLE / 128
    })
}

/// Bytes of a sample: much less than deflate's window, so that repetition shows, and enough to
/// count bytes.
const DENSE_SAMPLE: usize = 8 << 10;

/// The entropy of the bytes, each on its own.
fn bits_per_byte(sample: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let total = sample.len() as f64;
    let bits = |count: &u32| {
        let part = f64::from(*count) / total;
        -part * part.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

/// The size of a sample after quick compression, or its own length if the result does not fit into
/// that.
fn compressed_size(sample: &[u8]) -> usize {
    let mut deflate = Compress::new(flate2::Compression::new(1), false);
    let mut out = Vec::with_capacity(sample.len());
    match deflate.compress_vec(sample, &mut out, FlushCompress::Finish) {
        Ok(Status::StreamEnd) => out.len(),
        _ => sample.len(),
    }
}

/// Threads that compress blocks; they end when this is dropped.
struct Workers {
    jobs: SyncSender<(Job, Sender<io::Result<Done>>)>,
}

impl Workers {
    fn start(threads: usize) -> Self {
        let (jobs, queue) = sync_channel::<(Job, Sender<io::Result<Done>>)>(threads + 1);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            // If no thread can be started, the queue's end is dropped and `send` reports it.
            let _ = thread::Builder::new().name("gzip".into()).spawn(move || {
                loop {
                    let next = queue.lock().map(|queue| queue.recv());
                    let Ok(Ok((job, done))) = next else { break };
                    // Fails only if the receiver is gone.
                    let _ = done.send(job.run());
                }
            });
        }
        Self { jobs }
    }

    fn send(&self, job: Job) -> io::Result<Receiver<io::Result<Done>>> {
        let (done, result) = channel();
        self.jobs
            .send((job, done))
            .map_err(|_| io::Error::other("no thread to compress on can be started"))?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Text that compresses, but not to nothing.
    fn sample(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut out = Vec::with_capacity(size + 32);
        while out.len() < size {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            out.extend_from_slice(format!("{:x} lorem ipsum ", (state >> 50) & 0xfff).as_bytes());
        }
        out.truncate(size);
        out
    }

    fn compress(data: &[u8], compression: Compression, threads: usize, step: usize) -> Vec<u8> {
        let mut encoder = Encoder::with_threads(Vec::new(), compression, threads).unwrap();
        for piece in data.chunks(step) {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn any_number_of_threads_writes_the_same_bytes() {
        for size in [0, 1, GZIP_BLOCK, GZIP_BLOCK + 1, ZSTD_BLOCK, ZSTD_BLOCK + 1, 9 << 20] {
            let data = sample(size);
            for compression in
                [Compression::Gzip(None), Compression::Gzip(Some(9)), Compression::Zstd(None)]
            {
                let one = compress(&data, compression, 1, 1000);
                assert_eq!(one, compress(&data, compression, 4, 70_000));
                let mut plain = Vec::new();
                crate::open_decoder(&one[..]).unwrap().read_to_end(&mut plain).unwrap();
                assert!(plain == data, "{compression:?} {size}");
            }
        }
    }

    /// Bytes that do not compress.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut out = Vec::with_capacity(size + 8);
        while out.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            out.extend_from_slice(&state.to_le_bytes());
        }
        out.truncate(size);
        out
    }

    #[test]
    fn what_does_not_compress_is_stored() {
        let dense = noise(3 << 20);
        assert!(is_dense(&dense[..GZIP_BLOCK]) && !is_dense(&sample(GZIP_BLOCK)));
        // Repeated noise compresses well, although the frequencies of its bytes do not show it.
        let repeated = noise(1000).repeat(1200);
        assert!(!is_dense(&repeated));
        let mixed = [dense.clone(), sample(2 << 20), repeated, dense.clone()].concat();
        let compressed = compress(&mixed, Compression::Gzip(None), 3, 99_999);
        let mut plain = Vec::new();
        crate::open_decoder(&compressed[..]).unwrap().read_to_end(&mut plain).unwrap();
        assert!(plain == mixed && compressed.len() < 2 * dense.len() + (1 << 20));
        let stored = compress(&dense, Compression::Gzip(None), 2, 1 << 20);
        assert!(stored.len() < dense.len() + dense.len() / 5000, "{}", stored.len());
    }

    #[test]
    fn gzip_is_one_member() {
        let data = sample(3 << 20);
        let compressed = compress(&data, Compression::Gzip(Some(0)), 3, 1 << 20);
        let mut decoder = flate2::bufread::GzDecoder::new(&compressed[..]);
        let mut plain = Vec::new();
        decoder.read_to_end(&mut plain).unwrap();
        assert!(plain == data && decoder.into_inner().is_empty());
    }
}
