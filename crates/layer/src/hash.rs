//! Digests of streams.

use std::io::{self, Read, Write};

use oci::{Digest, Hasher};

/// Hashes a stream as it is read; it may be no longer than expected.
pub struct HashingReader<R> {
    reader: R,
    hasher: Hasher,
    size: u64,
    expected: Option<u64>,
}

impl<R> HashingReader<R> {
    /// Wraps a reader. With an expected size in bytes, the stream ends soon after it.
    pub fn new(reader: R, expected: Option<u64>) -> Self {
        Self { reader, hasher: Hasher::new(), size: 0, expected }
    }

    /// Returns the digest and the number of the bytes that were read.
    pub fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.size)
    }
}

impl<R: Read> Read for HashingReader<R> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte too many is enough to know that it is another blob.
        if self.expected.is_some_and(|size| self.size > size) {
            return Ok(0);
        }
        let count = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

/// Hashes the bytes that are written through it.
pub struct HashingWriter<W> {
    hasher: Hasher,
    out: W,
}

impl<W> HashingWriter<W> {
    /// Wraps a writer.
    pub fn new(out: W) -> Self {
        Self { hasher: Hasher::new(), out }
    }

    /// Returns the digest of the written bytes, and the writer.
    pub fn finish(self) -> (Digest, W) {
        (self.hasher.finish(), self.out)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Returns the digest of a reader's bytes.
///
/// # Errors
/// If they cannot be read.
pub fn digest_of(mut reader: impl Read) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
