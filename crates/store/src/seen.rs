//! The layer of a blob: known once the blob's bytes were read here, independently of all claims.

use std::io::{self, BufReader, Read as _};

use layer::{Codec, digest_of};
use oci::{Descriptor, Digest};

use crate::{Error, Result, Store};

/// The kind of memo under which a blob's diffID is remembered.
const SEEN: &str = "layers of blobs";

impl Store {
    /// Returns the diffIDs of blobs that were read or written here; `None` for others.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn seen_layers(&self, blobs: &[Digest]) -> Result<Vec<Option<Digest>>> {
        let keys: Vec<&[u8]> = blobs.iter().map(|blob| blob.as_bytes().as_slice()).collect();
        let known = self.db().memo_get(SEEN, &keys)?;
        let digest = |bytes: Vec<u8>| bytes.try_into().ok().map(Digest::from_bytes);
        Ok(known.into_iter().map(|bytes| bytes.and_then(digest)).collect())
    }

    /// Notes the layer of a blob, as found from its bytes.
    pub(crate) fn note_seen(&self, blob: &Digest, diff_id: &Digest) -> Result<()> {
        self.db().memo_put(SEEN, &[(blob.as_bytes(), diff_id.as_bytes())])
    }

    /// Refuses a blob of this store that is not the layer that it was claimed to be. The blob is
    /// read for that once, and only if it was never unpacked, nor made here. A blob whose media
    /// type is not that of a layer is not checked.
    ///
    /// # Errors
    /// If the blob is another layer ([`Error::LayerMismatch`]), or cannot be read.
    pub fn check_layer_blob(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        let Ok(codec) = Codec::of_media_type(&blob.media_type) else { return Ok(()) };
        let actual = match self.seen_layers(&[blob.digest])?.pop().flatten() {
            Some(known) => known,
            None => {
                let read = self.read_diff_id(codec, &blob.digest);
                let actual = read.map_err(Error::read_archive)?;
                self.note_seen(&blob.digest, &actual)?;
                actual
            }
        };
        match actual == *diff_id {
            true => Ok(()),
            false => Err(Error::LayerMismatch { expected: *diff_id, actual }),
        }
    }

    fn read_diff_id(&self, codec: Codec, blob: &Digest) -> io::Result<Digest> {
        let file = self.open_blob(blob).map_err(io::Error::other)?;
        let archive = codec.decode(BufReader::with_capacity(256 << 10, file))?;
        let most = self.limits().max_total_bytes;
        digest_of(archive.take(most))
    }
}

#[cfg(test)]
mod tests {
    use oci::media_type;

    use super::*;
    use crate::{OpenOptions, Privileges};

    #[test]
    fn a_blob_is_the_layer_that_its_bytes_are() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        let zstd = zstd::encode_all(&b"archive"[..], 1).unwrap();
        let blob = Descriptor::of(media_type::OCI_LAYER_ZSTD, &zstd);
        store.put_blob(&zstd).unwrap();
        assert_eq!(store.seen_layers(&[blob.digest]).unwrap(), [None]);
        let wrong = store.check_layer_blob(&blob, &Digest::of("other"));
        assert!(matches!(wrong, Err(Error::LayerMismatch { .. })), "{wrong:?}");
        store.check_layer_blob(&blob, &Digest::of("archive")).unwrap();
        assert_eq!(store.seen_layers(&[blob.digest]).unwrap(), [Some(Digest::of("archive"))]);

        let other = Descriptor::of("application/vnd.in-toto+json", b"{}");
        store.check_layer_blob(&other, &Digest::of("anything")).unwrap();
        let damaged = Descriptor::of(media_type::OCI_LAYER_GZIP, b"no gzip");
        store.put_blob(b"no gzip").unwrap();
        assert!(store.check_layer_blob(&damaged, &Digest::of("x")).is_err());
    }
}
