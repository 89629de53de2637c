//! Verifying a cache: every blob is read and compared with the cache's description of it.

use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use layer::{Layer, Place};
use oci::{Descriptor, Digest, Hasher};
use tokio::sync::mpsc;

use crate::Error;
use crate::backend::Backend;
use crate::layout::blob_path;

/// Blobs that are read at the same time.
const LANES: usize = 4;
/// Parts of a blob that wait to be decompressed.
const WAITING: usize = 8;
/// The most bytes that a layer may unpack to.
const UNPACKED_LIMIT: u64 = 1 << 40;

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Verified {
    /// Number of blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Faults, in the order of the digests.
    pub faults: Vec<Fault>,
}

/// A blob that does not match its description.
#[derive(Debug)]
pub struct Fault {
    /// The blob.
    pub digest: Digest,
    /// The difference.
    pub what: BlobFault,
}

/// The difference between a blob and its description.
#[derive(Debug, thiserror::Error)]
pub enum BlobFault {
    /// No place is known that has it.
    #[error("no place has it")]
    NoPlace,
    /// A registry does not give it.
    #[error("{}", graph::chain_text(.0))]
    Registry(registry::Error),
    /// An object store or service does not give it.
    #[error("{0}")]
    Remote(transfer::RemoteError),
    /// It cannot be read or decompressed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is larger than its description says.
    #[error("it has more than {0} bytes")]
    TooLong(u64),
    /// It has another digest or size.
    #[error("its bytes are not those of its digest and size")]
    OtherBytes,
    /// It unpacks to more than any layer has.
    #[error("it unpacks to more than {} bytes", UNPACKED_LIMIT)]
    UnpacksTooLong,
    /// It is another layer.
    #[error("it unpacks to `{found}`, and the cache says `{expected}`")]
    OtherLayer {
        /// The digest that it unpacks to.
        found: Digest,
        /// The layer's diffID.
        expected: Digest,
    },
    /// The thread that decompresses it failed.
    #[error(transparent)]
    Thread(#[from] tokio::task::JoinError),
}

/// Reads every blob of a cache, and compares digest, size and the digest that it unpacks to. Nothing
/// is kept, and memory does not grow with the layers.
///
/// # Errors
/// If there is no cache, or its documents cannot be read.
pub async fn verify(client: &registry::Client, backend: &dyn Backend) -> Result<Verified, Error> {
    let imported = backend.import().await?;
    let mut layers: Vec<Layer> =
        imported.records.plan().chains().iter().filter_map(|chain| chain.top().cloned()).collect();
    layers.sort_by_key(|layer| (layer.blob.as_ref().map(|blob| blob.digest), layer.diff_id));
    layers.dedup_by_key(|layer| (layer.blob.as_ref().map(|blob| blob.digest), layer.diff_id));
    let checks =
        layers.iter().map(|layer| async move { (layer, check(client, backend, layer).await) });
    let mut checks = stream::iter(checks).buffered(LANES);
    let mut verified = Verified::default();
    while let Some((layer, checked)) = checks.next().await {
        let Some(blob) = &layer.blob else { continue };
        verified.blobs += 1;
        verified.bytes += blob.size;
        if let Err(what) = checked {
            verified.faults.push(Fault { digest: blob.digest, what });
        }
    }
    Ok(verified)
}

async fn check(
    client: &registry::Client,
    backend: &dyn Backend,
    layer: &Layer,
) -> Result<(), BlobFault> {
    let (Some(blob), Some(place)) = (&layer.blob, layer.places.first()) else {
        return Err(BlobFault::NoPlace);
    };
    let found = match place {
        Place::Registry { repository, insecure } => {
            let client = client.for_host(repository.host(), *insecure);
            let stream = client.blob(repository, blob).await.map_err(BlobFault::Registry)?;
            check_stream(stream.map(|part| part.map_err(BlobFault::Registry)), blob).await?
        }
        Place::Remote(_) => {
            let remote = backend.remote().ok_or(BlobFault::NoPlace)?;
            let stream = remote.open(blob).await.map_err(BlobFault::Remote)?;
            check_stream(stream.map(|part| part.map_err(BlobFault::Io)), blob).await?
        }
        Place::Layout(folder) => {
            let (path, blob) = (blob_path(folder, blob.digest), blob.clone());
            transfer::blocking(move || check_file(&path, &blob)).await?
        }
    };
    if found == layer.diff_id {
        Ok(())
    } else {
        Err(BlobFault::OtherLayer { found, expected: layer.diff_id })
    }
}

/// Compares a file with a blob, and returns the digest that it unpacks to.
fn check_file(path: &Path, blob: &Descriptor) -> Result<Digest, BlobFault> {
    let mut file =
        HashingReader { file: std::fs::File::open(path)?, hasher: Hasher::new(), size: 0 };
    let digest = unpacked_digest(&mut file);
    // Bytes after the end of the compressed stream belong to the blob too.
    io::copy(&mut file, &mut io::sink())?;
    if (file.size, file.hasher.finish()) == (blob.size, blob.digest) {
        digest
    } else {
        Err(BlobFault::OtherBytes)
    }
}

/// Compares a stream with a blob, and returns the digest that it unpacks to.
async fn check_stream(
    stream: impl Stream<Item = Result<Bytes, BlobFault>>,
    blob: &Descriptor,
) -> Result<Digest, BlobFault> {
    let mut stream = std::pin::pin!(stream);
    let (sender, receiver) = mpsc::channel(WAITING);
    let reader = ChunkReader { receiver, part: Bytes::new() };
    let digest = tokio::task::spawn_blocking(move || unpacked_digest(reader));
    let (mut hasher, mut size) = (Hasher::new(), 0);
    while let Some(part) = stream.next().await {
        let part = part?;
        size += part.len() as u64;
        if size > blob.size {
            return Err(BlobFault::TooLong(blob.size));
        }
        hasher.update(&part);
        // After an error, the decoder takes no more parts. The rest is read for the digest.
        let _ = sender.send(part).await;
    }
    // Ends the decoder's input.
    drop(sender);
    let digest = digest.await?;
    if (size, hasher.finish()) == (blob.size, blob.digest) {
        digest
    } else {
        Err(BlobFault::OtherBytes)
    }
}

fn unpacked_digest(reader: impl Read + Send) -> Result<Digest, BlobFault> {
    let mut decoder = layer::open_decoder(reader)?.take(UNPACKED_LIMIT);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) if decoder.limit() == 0 => {
                return Err(BlobFault::UnpacksTooLong);
            }
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A reader, on another thread, of the parts of a stream.
struct ChunkReader {
    receiver: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let read = self.part.len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.part.split_to(read));
        Ok(read)
    }
}

/// A file with the digest of the bytes that were read.
struct HashingReader {
    file: std::fs::File,
    hasher: Hasher,
    size: u64,
}

impl Read for HashingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}
