//! Layers that are needed by something other than images: those of containers.

use std::collections::HashSet;

use oci::Digest;

use crate::{Result, Store};

/// Under which kind of memo holders and their layers are remembered.
const KIND: &str = "held layers";
const DIGEST_BYTES: usize = 32;

impl Store {
    /// Keeps layers from being pruned until their holder [releases](Self::release_layers) them, in this process or a
    /// later one. They take the place of those that the holder had before.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn hold_layers(&self, holder: &str, layers: &[Digest]) -> Result<()> {
        let bytes: Vec<u8> = layers.iter().flat_map(|layer| *layer.as_bytes()).collect();
        self.db().memo_put(KIND, &[(holder.as_bytes(), &bytes)])
    }

    /// Ends what [`Store::hold_layers`] began.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn release_layers(&self, holder: &str) -> Result<()> {
        self.db().memo_remove(KIND, holder.as_bytes())
    }

    /// The layers that are held, and their blobs.
    pub(crate) fn held(&self) -> Result<Held> {
        let keys = self.db().memo_keys(KIND)?;
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut held = Held::default();
        for bytes in self.db().memo_get(KIND, &keys)?.into_iter().flatten() {
            let whole = bytes.chunks_exact(DIGEST_BYTES).filter_map(|chunk| chunk.try_into().ok());
            held.layers.extend(whole.map(Digest::from_bytes));
        }
        for layer in &held.layers {
            held.blobs.extend(self.db().blobs_of(layer)?.into_iter().map(|blob| blob.digest));
        }
        Ok(held)
    }
}

/// Layers that are held, and their blobs.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) layers: HashSet<Digest>,
    pub(crate) blobs: HashSet<Digest>,
}

#[cfg(test)]
mod tests {
    use layer::{Compression, Entry, EntryKind};

    use crate::{OpenOptions, Privileges, PruneFilter, Store};

    #[test]
    fn held_layers_are_not_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        let make = |name: &str| {
            let store = open();
            let mut writer = store.layer_writer(Compression::None).unwrap();
            let entry = Entry::new(name.as_bytes(), EntryKind::Directory, 0o755);
            writer.append(&entry, None).unwrap();
            writer.finish().unwrap()
        };
        let (kept, lost) = (make("kept"), make("lost"));
        open().hold_layers("a", &[kept.diff_id]).unwrap();
        let all = PruneFilter { all: true, ..PruneFilter::default() };
        let left = |layer: &layer::Layer| open().layer_path(&layer.diff_id).join("index").exists();
        // An item that was used in the millisecond of the opening counts as in use.
        while left(&lost) {
            open().prune(all).unwrap();
        }
        assert!(left(&kept));
        assert!(open().has_blob(&kept.blob.as_ref().unwrap().digest).unwrap());
        open().release_layers("a").unwrap();
        while left(&kept) {
            open().prune(all).unwrap();
        }
    }
}
