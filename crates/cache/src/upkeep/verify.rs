//! Every blob of a cache, read and compared with what the cache says of it.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use oci::{Descriptor, Digest, Hasher};
use store::{Layer, Place as BlobPlace};
use tokio::sync::mpsc;

use crate::Error;
use crate::place::Place;

/// So many blobs are read at the same time.
const LANES: usize = 4;
/// So many parts of a blob wait to be decompressed.
const WAITING: usize = 8;
/// A layer that unpacks to more than this is a fault, in bytes.
const MOST_UNPACKED: u64 = 1 << 40;

/// A cache that was read to its last byte.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// How many blobs were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, in the order of the digests.
    pub faults: Vec<Fault>,
}

/// A blob that is not what the cache says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The blob.
    pub digest: Digest,
    /// What is wrong.
    pub what: String,
}

/// Reads every blob of a cache, and compares digest, size and the digest of what it unpacks to.
/// Nothing is kept, and memory does not grow with the layers.
///
/// # Errors
/// If there is no cache, or its documents cannot be read.
pub async fn verify(client: &registry::Client, place: &Place) -> Result<Verified, Error> {
    let imported = place.import(client).await?;
    let mut layers: Vec<Layer> =
        imported.records.plan().chains().iter().filter_map(|chain| chain.top().cloned()).collect();
    layers.sort_by_key(|layer| (layer.blob.as_ref().map(|blob| blob.digest), layer.diff_id));
    layers.dedup_by_key(|layer| (layer.blob.as_ref().map(|blob| blob.digest), layer.diff_id));
    let checks =
        layers.iter().map(|layer| async move { (layer, check(client, place, layer).await) });
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

async fn check(client: &registry::Client, cache: &Place, layer: &Layer) -> Result<(), String> {
    let (Some(blob), Some(place)) = (&layer.blob, layer.places.first()) else {
        return Err("no place has it".into());
    };
    let unpacked = match place {
        BlobPlace::Registry { repository, insecure } => {
            let client = client.for_host(repository.host(), *insecure);
            let stream =
                client.blob(repository, blob).await.map_err(|error| graph::chain_text(&error))?;
            let parts = stream.map(|part| part.map_err(|error| graph::chain_text(&error)));
            streamed(parts, blob).await?
        }
        BlobPlace::Remote(_) => {
            let remote = cache.remote().ok_or("no place has it")?;
            let stream = remote.open(blob).await.map_err(|error| error.to_string())?;
            streamed(stream.map(|part| part.map_err(|error| error.to_string())), blob).await?
        }
        BlobPlace::Layout(folder) => {
            let path = folder.join("blobs/sha256").join(blob.digest.hex());
            let blob = blob.clone();
            let read = move || {
                let mut file =
                    Hashed { file: std::fs::File::open(path)?, hasher: Hasher::new(), size: 0 };
                let digest = unpacked_digest(&mut file);
                io::copy(&mut file, &mut io::sink())?;
                if (file.size, file.hasher.finish()) != (blob.size, blob.digest) {
                    return Err(io::Error::other(OTHER_BYTES));
                }
                digest
            };
            transfer::blocking(read).await
        }
    };
    match unpacked {
        Ok(digest) if digest == layer.diff_id => Ok(()),
        Ok(digest) => {
            Err(format!("it unpacks to `{digest}`, and the cache says `{}`", layer.diff_id))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The digest of what a stream unpacks to; the stream itself has to be the blob.
async fn streamed(
    stream: impl Stream<Item = Result<Bytes, String>>,
    blob: &Descriptor,
) -> Result<io::Result<Digest>, String> {
    let mut stream = std::pin::pin!(stream);
    let (sender, receiver) = mpsc::channel(WAITING);
    let reader = Parts { receiver, part: Bytes::new() };
    let digest = tokio::task::spawn_blocking(move || unpacked_digest(reader));
    let (mut hasher, mut size) = (Hasher::new(), 0);
    let mut failed = None;
    while let Some(part) = stream.next().await {
        match part {
            Ok(part) if size + part.len() as u64 <= blob.size => {
                hasher.update(&part);
                size += part.len() as u64;
                // A reader that gave up says why below; the rest is read for the digest.
                drop(sender.send(part).await);
            }
            Ok(_) => failed = Some(format!("it has more than {} bytes", blob.size)),
            Err(error) => failed = Some(error),
        }
        if failed.is_some() {
            break;
        }
    }
    drop(sender);
    let digest = digest.await.map_err(|error| error.to_string())?;
    match failed {
        Some(failed) => Err(failed),
        None if (size, hasher.finish()) != (blob.size, blob.digest) => Err(OTHER_BYTES.into()),
        None => Ok(digest),
    }
}

const OTHER_BYTES: &str = "its bytes are not those of its digest and size";

fn unpacked_digest(reader: impl Read + Send) -> io::Result<Digest> {
    let mut decoder = store::open_decoder(reader)?.take(MOST_UNPACKED);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) if decoder.limit() == 0 => {
                return Err(io::Error::other(format!(
                    "it unpacks to more than {MOST_UNPACKED} bytes"
                )));
            }
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Parts of a stream, as a reader of another thread wants them.
struct Parts {
    receiver: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for Parts {
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

/// A file, and the digest of what was read of it.
struct Hashed {
    file: std::fs::File,
    hasher: Hasher,
    size: u64,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}
