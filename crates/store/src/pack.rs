//! Writes layers as blobs: in one pass over the contents the archive is made, hashed for the
//! diffID, compressed, hashed for the blob's digest, and stored.

use std::io::{self, Read, Write};

use layer::tar::TarWriter;
use layer::{
    Codec, Compression, Encoder, Entry, EntryKind, HashingWriter, Layer, LayerIndex, SeekTable,
    compare_paths, shown,
};
use oci::{Descriptor, Digest};

use crate::blob::BlobWriter;
use crate::{Error, Result, Store};

impl Store {
    /// Starts a layer whose entries are added one after the other.
    pub fn layer_writer(&self, compression: Compression) -> Result<LayerWriter> {
        let blob = Encoder::new(self.blob_writer()?, compression).map_err(Error::write_archive)?;
        Ok(LayerWriter {
            store: self.clone(),
            compression,
            archive: TarWriter::new(HashingWriter::new(blob)),
            entries: Vec::new(),
        })
    }

    /// Returns the blob of a layer under a kind of compression: a known one, or one made from
    /// another of its blobs, or from the layer's unpacked folder and index.
    ///
    /// # Errors
    /// If only the folder is in the store and the layer's archive was not laid out as by kiln:
    /// [`Error::NotReproducible`].
    pub fn compress(&self, diff_id: &Digest, compression: Compression) -> Result<Descriptor> {
        let kind = compression.kind();
        if let Some(blob) = self.db().blob_of(diff_id, &kind)?
            && self.has_blob(&blob.digest)?
        {
            return Ok(blob);
        }
        let mut other = None;
        for blob in self.db().blobs_of(diff_id)? {
            if self.has_blob(&blob.digest)? {
                other = Some(blob);
                break;
            }
        }
        let blob = match other {
            Some(blob) => self.recompress(diff_id, &blob, compression)?,
            None => self.compress_folder(diff_id, compression)?,
        };
        self.db().put_blob_of(diff_id, &kind, &blob)?;
        self.note_seen(&blob.digest, diff_id)?;
        Ok(blob)
    }

    /// Remembers a blob of a layer that came from elsewhere, so that [`compress`](Self::compress)
    /// can start from it. The blob must be in the store.
    pub fn remember_blob(&self, diff_id: &Digest, blob: &Descriptor) -> Result<()> {
        // Its level is not known, so it gets a kind of its own.
        let kind = format!("from elsewhere: {}", blob.media_type);
        self.db().put_blob_of(diff_id, &kind, blob)
    }

    /// Returns a blob of a layer that is in the store, with any compression.
    pub fn stored_blob(&self, diff_id: &Digest) -> Result<Option<Descriptor>> {
        for blob in self.db().blobs_of(diff_id)? {
            if self.has_blob(&blob.digest)? {
                return Ok(Some(blob));
            }
        }
        Ok(None)
    }

    fn recompress(
        &self,
        diff_id: &Digest,
        blob: &Descriptor,
        compression: Compression,
    ) -> Result<Descriptor> {
        let failed = Error::read_archive;
        let file = self.open_blob(&blob.digest)?;
        let codec = Codec::of_media_type(&blob.media_type)?;
        let mut archive =
            codec.decode(io::BufReader::with_capacity(256 << 10, file)).map_err(failed)?;
        let out = Encoder::new(self.blob_writer()?, compression).map_err(failed)?;
        let mut tee = HashingWriter::new(out);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = archive.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            tee.write_all(&buffer[..count]).map_err(failed)?;
        }
        let (actual, out) = tee.finish();
        if actual != *diff_id {
            return Err(Error::LayerMismatch { expected: *diff_id, actual });
        }
        let (blob, seek_table) = finish_blob(out, compression)?;
        let index = self.own_index(diff_id).ok();
        // An index with a seek table belongs to an archive that is laid out as by kiln.
        if let Some(index) = index.filter(|index| index.has_seek_tables()) {
            self.add_seek_table(diff_id, &index, seek_table)?;
        }
        Ok(blob)
    }

    fn add_seek_table(
        &self,
        diff_id: &Digest,
        index: &LayerIndex,
        seek_table: SeekTable,
    ) -> Result<()> {
        self.put_index(diff_id, &index.clone().with_seek_table(seek_table))
    }

    fn compress_folder(&self, diff_id: &Digest, compression: Compression) -> Result<Descriptor> {
        let root = self.layer_root(diff_id)?;
        let index = self.own_index(diff_id)?;
        let mut writer = self.layer_writer(compression)?;
        for entry in index.entries() {
            if matches!(entry.kind, EntryKind::File { .. }) {
                let mut content = crate::folder::open_regular(&root, &entry.path)
                    .map_err(Error::file("open", shown(&entry.path)))?;
                writer.archive.append(entry, &mut content)?;
            } else {
                writer.archive.append(entry, &mut io::empty())?;
            }
        }
        let (actual, out) = writer.archive.finish()?.finish();
        if actual != *diff_id {
            return Err(Error::NotReproducible(*diff_id));
        }
        let (blob, seek_table) = finish_blob(out, compression)?;
        self.add_seek_table(diff_id, &index, seek_table)?;
        Ok(blob)
    }
}

/// Writes a layer as a blob. Dropped without [`finish`](Self::finish), it leaves nothing.
pub struct LayerWriter {
    store: Store,
    compression: Compression,
    archive: TarWriter<HashingWriter<Encoder<BlobWriter>>>,
    entries: Vec<Entry>,
}

impl LayerWriter {
    /// Adds an entry. `content` is for regular files only and must be as long as the entry says.
    ///
    /// # Errors
    /// If entries are not in order (see [`Entry`]), or one cannot be in an archive.
    pub fn append(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        if let Some(last) = self.entries.last() {
            let is_mark = entry.kind == EntryKind::Opaque && last.kind == EntryKind::Directory;
            let follows = match compare_paths(&last.path, &entry.path) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => is_mark,
                std::cmp::Ordering::Greater => false,
            };
            if !follows {
                let problem = "it comes out of order";
                return Err(layer::Error::Unwritable { path: shown(&entry.path), problem }.into());
            }
        }
        match content {
            Some(content) => self.archive.append(entry, content)?,
            None => self.archive.append(entry, &mut io::empty())?,
        }
        self.entries.push(entry.clone());
        Ok(())
    }

    /// Ends the layer: stores its blob and index, and remembers that they belong together. The
    /// layer is not unpacked.
    pub fn finish(self) -> Result<Layer> {
        let Self { store, compression, archive, entries } = self;
        let (diff_id, out) = archive.finish()?.finish();
        let (blob, seek_table) = finish_blob(out, compression)?;
        store.note_plain_names(&diff_id, &entries)?;
        let index = LayerIndex::from_entries(entries).with_seek_table(seek_table);
        store.put_index(&diff_id, &index)?;
        store.db().put_blob_of(&diff_id, &compression.kind(), &blob)?;
        store.note_seen(&blob.digest, &diff_id)?;
        Ok(Layer { diff_id, blob: Some(blob), created: None, places: Vec::new() })
    }
}

fn finish_blob(
    out: Encoder<BlobWriter>,
    compression: Compression,
) -> Result<(Descriptor, SeekTable)> {
    let (blob, written) = out.finish_blocks().map_err(Error::write_archive)?;
    let (digest, size) = blob.commit(None)?;
    let blob = Descriptor::new(compression.media_type(), digest, size);
    let seek_table = SeekTable::of(&blob, written);
    Ok((blob, seek_table))
}
