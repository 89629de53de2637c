//! Unpacks a layer's archive into a folder that overlayfs can use, in one pass over the stream:
//! compressed bytes are hashed and decompressed on one thread, the archive is hashed and unpacked
//! on another.

mod lower;
mod parents;
mod unpacker;

pub(crate) use lower::lower_entry;
pub(crate) use parents::prefixes;

use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use layer::tar::{Mode, TarReader};
use layer::{Codec, HashingReader, LayerIndex, PointReader, SeekTable, Spans};
use oci::{Descriptor, Digest};

use crate::disk::make_folder;
use crate::folder::open_root;
use crate::hollow::PrivateLayer;
use crate::pieces::{Pieces, feed};
use crate::{Error, Result, Store};
use unpacker::{Unpacked, Unpacker};

/// Size of a blob, in bytes, below which it is decompressed on the same thread.
const SMALL: u64 = 128 << 10;

/// Size of a blob, in bytes, from which parts of it are worth requests of their own.
const WORTH_SPANS: u64 = 4 << 20;

/// Waits until a layer is unpacked, or returns the reason why it never will be.
pub type WaitFor<'a> = dyn Fn(&Digest) -> Result<()> + Sync + 'a;

/// A layer to unpack, with its expected digests.
#[derive(Clone, Copy)]
pub struct PackedLayer<'a> {
    /// The media type, which gives the compression.
    pub media_type: &'a str,
    /// Digest of the archive.
    pub diff_id: Digest,
    /// Digest and size of the blob, if they are to be checked.
    pub blob: Option<(Digest, u64)>,
    /// The layers below, from the bottom up. They are needed if the layer has files in directories
    /// that it does not describe, or hard links to their files.
    pub parents: &'a [Digest],
    /// Called before such a parent is used: waits until it is unpacked. Without it, the parent must
    /// be unpacked already.
    pub wait_for: Option<&'a WaitFor<'a>>,
}

impl<'a> PackedLayer<'a> {
    /// Returns a layer by its descriptor, on top of others.
    pub fn new(blob: &'a Descriptor, diff_id: Digest, parents: &'a [Digest]) -> Self {
        Self {
            media_type: &blob.media_type,
            diff_id,
            blob: Some((blob.digest, blob.size)),
            parents,
            wait_for: None,
        }
    }
}

/// The way in which a blob is decompressed.
enum Decoding<'a> {
    Plain(Codec),
    /// The same for gzip, with notes on the places from which it could be read in parts.
    NotingSpans(&'a mut Option<Spans>),
}

impl Store {
    /// Has the layers of gzip that are unpacked from now on leave seek tables, for caches to keep. It
    /// takes somewhat longer.
    pub fn note_spans(&self) {
        self.notes_spans.store(true, Ordering::Relaxed);
    }

    /// True if a layer is worth a seek table that nobody has made.
    fn wants_spans(&self, codec: Codec, layer: &PackedLayer<'_>) -> bool {
        let is_large = layer.blob.is_some_and(|(_, size)| size >= WORTH_SPANS);
        codec == Codec::Gzip && is_large && self.notes_spans.load(Ordering::Relaxed)
    }

    /// Unpacks a layer from a stream, and stores its index. A layer that is unpacked already is not
    /// read; two processes may unpack the same one at once.
    ///
    /// # Errors
    /// If the stream does not match the digests, is no archive, or contains something that cannot
    /// be unpacked; then nothing is kept.
    pub fn unpack(
        &self,
        reader: impl Read + Send,
        layer: &PackedLayer<'_>,
    ) -> Result<Arc<LayerIndex>> {
        if self.is_unpacked(&layer.diff_id)? {
            return self.index(&layer.diff_id);
        }
        let codec = Codec::of_media_type(layer.media_type)?;
        let folder = self.temporary_folder("layer")?;
        let root_path = folder.path().join("fs");
        make_folder(&root_path, 0o755)?;
        // The umask and a setgid bit of a parent may have changed the mode.
        std::fs::set_permissions(&root_path, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::file("set mode of", &root_path))?;
        let root = open_root(&root_path)?;

        let mut blob = HashingReader::new(reader, layer.blob.map(|(_, size)| size));
        let mut spans = None;
        let unpacked = if layer.blob.is_some_and(|(_, size)| size < SMALL) {
            let archive = codec.decode(BufReader::with_capacity(SMALL as usize, &mut blob));
            let archive = archive.map_err(Error::read_archive)?;
            self.unpack_archive(archive, layer, root.as_fd())
        } else {
            let decoding = match self.wants_spans(codec, layer) {
                true => Decoding::NotingSpans(&mut spans),
                false => Decoding::Plain(codec),
            };
            self.unpack_pipelined(&mut blob, decoding, layer, root.as_fd())
        };
        // An error of the blob explains an error of the archive, so the whole blob is read.
        let mut rest = Ok(0);
        if let Some((expected, size)) = layer.blob {
            rest = io::copy(&mut blob, &mut io::sink());
            let (actual, actual_size) = blob.finish();
            if rest.is_ok() && (actual, actual_size) != (expected, size) {
                return Err(Error::BlobMismatch { expected, size, actual, actual_size });
            }
        }
        let Unpacked { entries, places, size, rests_on_loan } = unpacked?;
        rest.map_err(Error::read_archive)?;
        let mut index = LayerIndex::from_entries(entries);
        if let (Some(spans), Some((blob, _))) = (spans, layer.blob) {
            let table = SeekTable::of_spans(blob, spans);
            let with_places = index.clone().with_places(|path| places.get(path).copied());
            if with_places.has_places() {
                index = with_places.with_seek_table(table);
            }
        }
        self.put_index(&layer.diff_id, &index)?;
        if let Some((blob, _)) = layer.blob {
            self.note_seen(&blob, &layer.diff_id)?;
        }
        if rests_on_loan {
            let prefix = self.privileges().overlay_prefix();
            let private = PrivateLayer::new(folder, root_path, None, prefix)?;
            self.private.insert(layer.diff_id, private);
        } else {
            self.install(&root_path, &layer.diff_id, size)?;
        }
        self.index(&layer.diff_id)
    }

    /// Unpacks a layer from its blob in this store.
    pub fn unpack_blob(
        &self,
        blob: &Descriptor,
        diff_id: Digest,
        parents: &[Digest],
    ) -> Result<Arc<LayerIndex>> {
        if self.is_unpacked(&diff_id)? {
            return self.index(&diff_id);
        }
        let file = self.open_blob(&blob.digest)?;
        self.unpack(file, &PackedLayer::new(blob, diff_id, parents))
    }

    fn unpack_pipelined(
        &self,
        blob: &mut HashingReader<impl Read + Send>,
        decoding: Decoding<'_>,
        layer: &PackedLayer<'_>,
        root: BorrowedFd<'_>,
    ) -> Result<Unpacked> {
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(8);
            let (give_back, empty) = sync_channel(8);
            let blob = BufReader::with_capacity(256 << 10, blob);
            scope.spawn(move || match decoding {
                Decoding::NotingSpans(spans) => {
                    let mut archive = PointReader::new(blob);
                    feed(&mut archive, &send, &empty);
                    *spans = archive.finish();
                }
                Decoding::Plain(codec) => match codec.decode(blob) {
                    Ok(mut archive) => feed(&mut *archive, &send, &empty),
                    Err(error) => drop(send.send(Err(error))),
                },
            });
            self.unpack_archive(Pieces::new(receive, give_back), layer, root)
        })
    }

    /// Unpacks a tar stream and checks its digest.
    fn unpack_archive(
        &self,
        archive: impl Read,
        layer: &PackedLayer<'_>,
        root: BorrowedFd<'_>,
    ) -> Result<Unpacked> {
        let mut hashed = HashingReader::new(archive, None);
        let mut limits = self.limits();
        if let Some((_, size)) = layer.blob {
            limits = limits.of_compressed(size);
        }
        let mut reader = TarReader::new(&mut hashed, Mode::Layer, limits)
            .with_plain_names(self.plain_names(&layer.diff_id)?);
        let mut unpacker = Unpacker::new(self, layer, root, limits);
        while let Some((entry, mut content)) = reader.next_entry()? {
            unpacker.take(entry, content.place(), &mut content)?;
        }
        drop(reader);
        // Writers pad archives to whole records; the limit applies to the padding too.
        let most = limits.max_total_bytes;
        io::copy(&mut (&mut hashed).take(most), &mut io::sink()).map_err(Error::read_archive)?;
        let (actual, _) = hashed.finish();
        if actual != layer.diff_id {
            return Err(Error::LayerMismatch { expected: layer.diff_id, actual });
        }
        unpacker.finish()
    }
}
