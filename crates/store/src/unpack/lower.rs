//! Files of the layers below that an archive refers to.

use std::cmp::Ordering;
use std::sync::Arc;

use layer::{Entry, EntryKind, LayerIndex, compare_paths, shown};
use oci::Digest;

use super::parents::prefixes;
use super::unpacker::Unpacker;
use crate::options::Privileges;
use crate::{Error, Result};

impl Unpacker<'_> {
    /// Copies a file of a lower layer that the archive has a hard link to.
    pub(super) fn copy_lower(&mut self, entry: &Entry, target: &[u8]) -> Result<()> {
        let missing = || {
            let problem = format!("a hard link to `{}`, which is nowhere", shown(target));
            Error::entry(&entry.path, problem)
        };
        let (diff_id, lower) = self.find_lower(target)?.ok_or_else(missing)?;
        // A hard link there is another name of a file there; the layer's folder has its content
        // too.
        let is_file = matches!(lower.kind, EntryKind::File { .. } | EntryKind::HardLink { .. });
        if !is_file {
            return Err(missing());
        }
        if let Some(wait_for) = self.layer.wait_for {
            wait_for(&diff_id)?;
        }
        let root = self.store.layer_root(&diff_id)?;
        let mut file = crate::folder::open_regular(&root, target)
            .map_err(Error::file("open", shown(target)))?;
        let copy = Entry { path: entry.path.clone(), ..lower };
        self.folder.file(&copy, &mut file, false)
    }

    /// Returns the entry that lower layers have for a path, by their indexes.
    fn find_lower(&self, path: &[u8]) -> Result<Option<(Digest, Entry)>> {
        lower_entry(self.layer.parents, path, |diff_id| {
            let has_own = self.store.has_own_index(diff_id);
            if !has_own && self.store.hollow_layer(diff_id).is_some() {
                self.rests_on_loan.set(true);
                return self.store.index(diff_id);
            }
            if let Some(wait_for) = self.layer.wait_for
                && !has_own
            {
                wait_for(diff_id)?;
            }
            self.store.own_index(diff_id)
        })
    }

    /// Returns the metadata of a directory that the archive does not describe: that of the layers
    /// below, because in an overlay the uppermost directory's metadata counts.
    pub(super) fn passed_directory(&self, path: Box<[u8]>) -> Result<Entry> {
        let mut found = None;
        if self.store.privileges() != Privileges::None {
            found = self.find_lower(&path)?;
        }
        let lower = found.map(|(_, entry)| entry);
        let lower = lower.filter(|entry| entry.kind == EntryKind::Directory);
        Ok(lower.unwrap_or_else(|| Entry::new(path, EntryKind::Directory, 0o755)))
    }
}

/// Returns the entry that layers have for a path, and the layer; `layers` are from the bottom up.
pub(crate) fn lower_entry(
    layers: &[Digest],
    path: &[u8],
    index_of: impl Fn(&Digest) -> Result<Arc<LayerIndex>>,
) -> Result<Option<(Digest, Entry)>> {
    for diff_id in layers.iter().rev() {
        let index = index_of(diff_id)?;
        if let Some(entry) = index.get(path) {
            match entry.kind {
                EntryKind::Whiteout => return Ok(None),
                EntryKind::Opaque => {}
                _ => return Ok(Some((*diff_id, entry.clone()))),
            }
        }
        let ends = prefixes(path).any(|prefix| {
            let entries = index.entries();
            let first = entries
                .partition_point(|entry| compare_paths(&entry.path, prefix) == Ordering::Less);
            let mut same = entries[first..].iter().take_while(|entry| &*entry.path == prefix);
            same.any(|entry| entry.kind != EntryKind::Directory)
        });
        if ends {
            return Ok(None);
        }
    }
    Ok(None)
}
