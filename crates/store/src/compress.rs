//! Compression of layers on all cores. The bytes depend on the content, the kind and the level
//! alone: not on the number of cores, nor on how the content was cut into writes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::{Compress, Crc, FlushCompress, Status};
use oci::media_type;

use crate::Compression;

/// Level of gzip where none is asked for. Measured on /usr with zlib-rs, whose levels are those of
/// zlib-ng: against 6 it takes a quarter less time and two to three percent more room.
const GZIP_LEVEL: u32 = 3;
/// Level of zstd where none is asked for: zstd's own default.
const ZSTD_LEVEL: u32 = 3;
/// What one worker compresses at a time. Larger blocks lose less at the seams, smaller ones keep
/// all cores busy sooner.
const GZIP_BLOCK: usize = 512 << 10;
/// How far back deflate refers.
const WINDOW: usize = 32 << 10;
/// Content below this size is compressed by zstd without its worker threads.
const ZSTD_SMALL: usize = 1 << 20;

impl Compression {
    /// The OCI media type of a layer that is compressed so.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::OCI_LAYER,
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd(_) => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// Name under which the store remembers blobs of this kind. The level is part of it.
    pub(crate) fn kind(self) -> String {
        match self {
            Self::None => "none".into(),
            Self::Gzip(level) => format!("gzip-{}", level.unwrap_or(GZIP_LEVEL)),
            Self::Zstd(level) => format!("zstd-{}", level.unwrap_or(ZSTD_LEVEL)),
        }
    }
}

/// Compresses what is written to it.
pub struct Encoder<W: Write>(Kind<W>);

enum Kind<W: Write> {
    Plain(W),
    Gzip(Box<Gzip<W>>),
    Zstd(Box<Zstd<W>>),
}

impl<W: Write> Encoder<W> {
    /// Starts, on as many threads as there are cores. Small content is compressed on the thread
    /// that writes it.
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(out, compression, threads)
    }

    /// Starts, on so many threads (one: on the thread that writes).
    pub fn with_threads(out: W, compression: Compression, threads: usize) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Kind::Plain(out),
            Compression::Gzip(level) => {
                let level = level.unwrap_or(GZIP_LEVEL).min(9);
                Kind::Gzip(Box::new(Gzip::new(out, level, threads)?))
            }
            Compression::Zstd(level) => {
                let level = match level.unwrap_or(ZSTD_LEVEL).min(22) {
                    0 => ZSTD_LEVEL,
                    level => level,
                };
                Kind::Zstd(Box::new(Zstd::new(out, level, threads)))
            }
        }))
    }

    /// Writes what is left and gives back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Kind::Plain(mut out) => {
                out.flush()?;
                Ok(out)
            }
            Kind::Gzip(gzip) => gzip.finish(),
            Kind::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(out) => out.write(bytes),
            Kind::Gzip(gzip) => gzip.write(bytes),
            Kind::Zstd(zstd) => zstd.write(bytes),
        }
    }

    /// Nothing is flushed before the end: a flush would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// gzip as pigz writes it: blocks are compressed on their own, each with the last 32 KiB before it
/// as its dictionary, and end at a byte's border (sync flush), so that together they are one
/// member that any gzip reads.
struct Gzip<W> {
    out: W,
    level: u32,
    threads: usize,
    block: Vec<u8>,
    /// The block before, for its end.
    before: Arc<Vec<u8>>,
    crc: Crc,
    /// Started with the second block.
    workers: Option<Workers>,
    /// Compressed blocks that are on their way, in order.
    pending: VecDeque<Receiver<io::Result<Done>>>,
}

struct Job {
    block: Arc<Vec<u8>>,
    before: Arc<Vec<u8>>,
    level: u32,
    last: bool,
}

struct Done {
    compressed: Vec<u8>,
    crc: Crc,
}

impl<W: Write> Gzip<W> {
    fn new(mut out: W, level: u32, threads: usize) -> io::Result<Self> {
        // RFC 1952: no name, no time; "unknown" system, as Go writes it.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        Ok(Self {
            out,
            level,
            threads,
            block: Vec::new(),
            before: Arc::default(),
            crc: Crc::new(),
            workers: None,
            pending: VecDeque::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full block is sent off only when more follows: the last one must be marked.
        if self.block.len() == GZIP_BLOCK {
            self.send(false)?;
        }
        let count = bytes.len().min(GZIP_BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        let next = if last { Vec::new() } else { Vec::with_capacity(GZIP_BLOCK) };
        let block = Arc::new(std::mem::replace(&mut self.block, next));
        let before = std::mem::replace(&mut self.before, Arc::clone(&block));
        let job = Job { block, before, level: self.level, last };
        let alone = self.threads < 2 || (last && self.workers.is_none());
        if alone {
            let done = job.run()?;
            return self.take(&done);
        }
        let threads = self.threads;
        let workers = self.workers.get_or_insert_with(|| Workers::start(threads));
        self.pending.push_back(workers.send(job)?);
        while self.pending.len() > 2 * self.threads {
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
        self.out.write_all(&done.compressed)
    }

    fn finish(mut self) -> io::Result<W> {
        self.send(true)?;
        while !self.pending.is_empty() {
            self.take_first()?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl Job {
    fn run(&self) -> io::Result<Done> {
        let mut crc = Crc::new();
        crc.update(&self.block);
        let level = if is_dense(&self.block) { 0 } else { self.level };
        let mut deflate = Compress::new(flate2::Compression::new(level), false);
        let dictionary = &self.before[self.before.len().saturating_sub(WINDOW)..];
        if !dictionary.is_empty() {
            deflate.set_dictionary(dictionary).map_err(io::Error::other)?;
        }
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
                // With room left over a sync flush is complete.
                _ => all_read && !self.last && compressed.len() < compressed.capacity(),
            };
            if done {
                return Ok(Done { compressed, crc });
            }
            compressed.reserve(64 << 10);
        }
    }
}

/// Whether a block looks as if it were compressed or random already: then it is stored as it is, at
/// some ten times the speed and five bytes more for each 64 KiB. The block alone decides.
fn is_dense(block: &[u8]) -> bool {
    if block.len() < 4 * DENSE_SAMPLE {
        return false;
    }
    let at = |part: usize| {
        let start = (block.len() - DENSE_SAMPLE) / 3 * part;
        &block[start..start + DENSE_SAMPLE]
    };
    // Most content shows in its first sample that its bytes are not all equally frequent.
    (0..4).all(|part| {
        let sample = at(part);
        bits_per_byte(sample) > 7.8 && compressed_size(sample) >= DENSE_SAMPLE - DENSE_SAMPLE / 128
    })
}

/// Much less than deflate's window, so that repetition shows, and enough to count bytes.
const DENSE_SAMPLE: usize = 8 << 10;

/// Entropy of the bytes, each on its own.
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

/// What quick compression makes of a sample; its whole length where it does not fit into that.
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
        let (jobs, queue) = sync_channel::<(Job, Sender<io::Result<Done>>)>(2 * threads);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            // Where no thread can be had the queue's end is dropped, and `send` says so.
            let _ = thread::Builder::new().name("gzip".into()).spawn(move || {
                loop {
                    let next = queue.lock().map(|queue| queue.recv());
                    let Ok(Ok((job, done))) = next else { break };
                    // Nobody waits for it any more if this fails.
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

/// zstd, with its own worker threads for content that is not small. Its output is the same for any
/// number of workers, but another without them: only the size decides which it is.
struct Zstd<W: Write> {
    level: i32,
    threads: u32,
    state: ZstdState<W>,
}

enum ZstdState<W: Write> {
    /// Not yet known to be large.
    Small(W, Vec<u8>),
    Large(zstd::stream::write::Encoder<'static, W>),
    Failed,
}

impl<W: Write> Zstd<W> {
    fn new(out: W, level: u32, threads: usize) -> Self {
        let threads = u32::try_from(threads).unwrap_or(1).max(1);
        Self { level: level as i32, threads, state: ZstdState::Small(out, Vec::new()) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            ZstdState::Small(_, buffer) if buffer.len() < ZSTD_SMALL => {
                let count = bytes.len().min(ZSTD_SMALL - buffer.len());
                buffer.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            ZstdState::Small(..) => {
                let state = std::mem::replace(&mut self.state, ZstdState::Failed);
                if let ZstdState::Small(out, buffer) = state {
                    let mut encoder = self.encoder(out)?;
                    encoder.multithread(self.threads)?;
                    encoder.write_all(&buffer)?;
                    self.state = ZstdState::Large(encoder);
                }
                self.write(bytes)
            }
            ZstdState::Large(encoder) => encoder.write(bytes),
            ZstdState::Failed => Err(failed()),
        }
    }

    fn encoder(&self, out: W) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
        let mut encoder = zstd::stream::write::Encoder::new(out, self.level)?;
        encoder.include_checksum(true)?;
        Ok(encoder)
    }

    fn finish(mut self) -> io::Result<W> {
        match std::mem::replace(&mut self.state, ZstdState::Failed) {
            ZstdState::Small(out, buffer) => {
                let mut encoder = self.encoder(out)?;
                encoder.set_pledged_src_size(Some(buffer.len() as u64))?;
                encoder.write_all(&buffer)?;
                finish_zstd(encoder)
            }
            ZstdState::Large(encoder) => finish_zstd(encoder),
            ZstdState::Failed => Err(failed()),
        }
    }
}

fn finish_zstd<W: Write>(encoder: zstd::stream::write::Encoder<'static, W>) -> io::Result<W> {
    let mut out = encoder.finish()?;
    out.flush()?;
    Ok(out)
}

fn failed() -> io::Error {
    io::Error::other("the zstd encoder failed before")
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
        for size in [0, 1, GZIP_BLOCK, GZIP_BLOCK + 1, ZSTD_SMALL, ZSTD_SMALL + 1, 5 << 20] {
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
        // The same noise again and again compresses well; its bytes alone do not show it.
        let repeated = noise(1000).repeat(600);
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
