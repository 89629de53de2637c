//! Blobs by their digests.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};

use crate::db::Table;
use crate::{Error, Result, Store};

impl Store {
    /// The path of a blob, at which there is a file if the blob is in the store.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.base.join("blobs/sha256").join(digest.hex())
    }

    /// True if a blob is in the store and complete. Counts as a use.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::file("look at", &path)(error)),
        };
        if self.use_item(Table::Blobs, digest)? {
            return Ok(true);
        }
        match hash_file(&path) {
            Ok(actual) if actual == *digest => {}
            Ok(_) => {
                self.discard(&path)?;
                return Ok(false);
            }
            // Pruned since the look at its metadata.
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.note_item(Table::Blobs, digest, size)?;
        // A prune may have taken it between the look and the note.
        Ok(path.exists())
    }

    /// Opens a blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        if !self.has_blob(digest)? {
            return Err(Error::NoBlob(*digest));
        }
        let path = self.blob_path(digest);
        File::open(&path).map_err(Error::file("open", &path))
    }

    /// Reads a blob that is known to be small (a manifest, a config) into memory.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes).map_err(Error::file("read", &path))?;
        Ok(bytes)
    }

    /// Starts a blob; its digest need not be known yet.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let path = self.temporary("blob");
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::file("make", &path))?;
        let hashed = HashedFile { file, hasher: Hasher::new(), size: 0 };
        Ok(BlobWriter {
            out: BufWriter::with_capacity(128 << 10, hashed),
            part: PartFile(path),
            store: self.clone(),
        })
    }

    /// Stores bytes that are in memory as a blob.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest)? {
            let mut writer = self.blob_writer()?;
            let written = writer.write_all(bytes);
            written.map_err(Error::file("write", &writer.part.0))?;
            writer.commit(Some((digest, bytes.len() as u64)))?;
        }
        Ok(digest)
    }
}

/// Writes a blob. Dropped without [`commit`](Self::commit), it leaves nothing.
pub struct BlobWriter {
    out: BufWriter<HashedFile>,
    part: PartFile,
    store: Store,
}

impl BlobWriter {
    /// Gives the blob its name.
    ///
    /// # Errors
    /// If digest or size are not the expected ones; then nothing is kept.
    pub fn commit(self, expected: Option<(Digest, u64)>) -> Result<(Digest, u64)> {
        let Self { out, part, store } = self;
        let hashed =
            out.into_inner().map_err(|error| Error::file("write", &part.0)(error.into_error()))?;
        let (digest, size) = (hashed.hasher.finish(), hashed.size);
        if let Some((expected, expected_size)) = expected
            && (digest, size) != (expected, expected_size)
        {
            return Err(Error::BlobMismatch {
                expected,
                size: expected_size,
                actual: digest,
                actual_size: size,
            });
        }
        let path = store.blob_path(&digest);
        // The row comes second: without a row, the next use hashes the file again.
        fs::rename(&part.0, &path).map_err(Error::file("move into place", &path))?;
        store.note_item(Table::Blobs, &digest, size)?;
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is removed on drop, unless it was renamed.
struct PartFile(PathBuf);

impl Drop for PartFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

struct HashedFile {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hash_file(path: &Path) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let mut file = File::open(path).map_err(Error::file("open", path))?;
    io::copy(&mut file, &mut hasher).map_err(Error::file("read", path))?;
    Ok(hasher.finish())
}
