//! Cache mounts in a sidecar: the folders of `RUN --mount=type=cache`, as layers.
//!
//! Entries `mounts/<hash of the name>/<number>`: number 0 is the whole folder, each following one the
//! changes since. An entry names its layer and the layer below, so that a chain that two writers mixed
//! up ends where it no longer fits.

use std::path::{Path, PathBuf};

use layer::{Compression, Layer, Place};
use oci::{Annotations, Descriptor, Digest};
use store::{FolderLayer, Store};

use super::{BlobContent, Catalogue, CatalogueChange, CatalogueEntry, NewEntry, Sidecar, now};
use crate::Error;

const KIND: &str = "mounts/";
/// Annotations: the layer's diffID, that of the layer below, and the mount's id in the Dockerfile.
const DIFF_ID: &str = "vnd.kiln.diff-id";
const BELOW: &str = "vnd.kiln.below";
const ID: &str = "vnd.kiln.mount";

/// Changes on a whole folder before it is written anew.
const MOST_CHANGES: usize = 8;
/// The age of a noted use, in seconds, from which it is noted again.
const NOTED_AGAIN: i64 = 24 * 3600;
/// The time after which unused mounts are removed, in seconds: a month.
const LONGEST_UNUSED: i64 = 30 * 24 * 3600;

/// A cache mount to add to a sidecar.
#[derive(Clone, Copy, Debug)]
pub struct MountFolder<'a> {
    /// Its unique name.
    pub name: &'a str,
    /// Its id in the Dockerfile.
    pub id: &'a str,
    /// Its folder, locked by the caller.
    pub folder: &'a Path,
    /// The most bytes of its files; a larger mount is left out.
    pub most: u64,
}

/// The outcome for a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountLeft {
    /// A layer of this number of bytes was sent.
    Sent(u64),
    /// The sidecar had all of it.
    Known,
    /// Its files have this number of bytes, more than allowed.
    TooLarge(u64),
}

/// The layers of a cache mount, from the bottom up; empty if the sidecar has none.
pub async fn mount_layers(sidecar: &Sidecar, name: &str) -> Vec<Layer> {
    let Some(place) = sidecar.place() else { return Vec::new() };
    let catalogue = sidecar.catalogue().await;
    chain(&catalogue, name).into_iter().map(|link| link.layer(&place)).collect()
}

/// A cache mount that was read.
pub struct ReadyMount {
    hash: String,
    id: String,
    /// DiffIDs of the layers below.
    below: Vec<Digest>,
    /// The changes, or the whole folder, with the file of the blob; none if nothing has changed.
    layer: Option<(Digest, Descriptor, PathBuf)>,
    /// The outcome.
    pub left: MountLeft,
}

/// Reads a cache mount: the changes to the sidecar's layers, or the whole folder.
///
/// # Errors
/// If its folder cannot be read.
pub async fn ready_mount(
    sidecar: &Sidecar,
    store: &Store,
    mount: MountFolder<'_>,
) -> Result<ReadyMount, Error> {
    let catalogue = sidecar.catalogue().await;
    let there = chain(&catalogue, mount.name);
    let below: Vec<Digest> = if is_worth_growing(&there, store) {
        there.iter().map(|link| link.diff_id).collect()
    } else {
        Vec::new()
    };
    let (reader, folder, most) = (store.clone(), mount.folder.to_owned(), mount.most);
    let known = below.clone();
    let written = transfer::blocking(move || {
        reader.folder_layer(&folder, &known, Compression::Zstd(None), most)
    });
    let written = written.await.map_err(|error| Error::Damaged(transfer::chain_text(&error)))?;
    let (layer, left) = match written {
        FolderLayer::TooLarge(bytes) => (None, MountLeft::TooLarge(bytes)),
        FolderLayer::Unchanged => (None, MountLeft::Known),
        FolderLayer::Changed(layer) => match layer.blob {
            Some(blob) => {
                let (left, path) = (MountLeft::Sent(blob.size), store.blob_path(&blob.digest));
                (Some((layer.diff_id, blob, path)), left)
            }
            None => (None, MountLeft::Known),
        },
    };
    Ok(ReadyMount { hash: hash(mount.name), id: mount.id.into(), below, layer, left })
}

impl ReadyMount {
    pub(crate) fn change(&self, there: &Catalogue) -> CatalogueChange {
        let Self { hash, below, .. } = self;
        let forget = unused(there, hash);
        let links = chain_of(there, hash);
        let is_as_it_was = links.len() >= below.len()
            && links.iter().zip(below).all(|(link, diff_id)| link.diff_id == *diff_id);
        let Some((diff_id, blob, path)) = &self.layer else {
            let used = if self.left == MountLeft::Known { due(there, hash) } else { Vec::new() };
            return CatalogueChange { used, forget, ..CatalogueChange::default() };
        };
        let is_there = links.get(below.len()).is_some_and(|link| link.diff_id == *diff_id);
        if is_there || !is_as_it_was {
            // Another writer has changed the mount; its folder is as good.
            return CatalogueChange { forget, ..CatalogueChange::default() };
        }
        let mut notes = Annotations::from([
            (DIFF_ID.to_owned(), diff_id.to_string()),
            (ID.to_owned(), self.id.clone()),
        ]);
        notes.extend(below.last().map(|below| (BELOW.to_owned(), below.to_string())));
        let put = NewEntry {
            name: entry_name(hash, below.len()),
            media_type: blob.media_type.clone(),
            content: BlobContent::File { path: path.clone(), digest: blob.digest, size: blob.size },
            notes,
        };
        let above = (below.len() + 1..=MOST_CHANGES + 1).map(|number| entry_name(hash, number));
        let above = above.filter(|name| there.get(name).is_some());
        let used = (0..below.len()).map(|number| entry_name(hash, number)).collect();
        CatalogueChange { put: vec![put], forget: above.chain(forget).collect(), used }
    }
}

/// A layer of a mount's chain.
struct MountLayer<'a> {
    diff_id: Digest,
    entry: &'a CatalogueEntry,
}

impl MountLayer<'_> {
    fn layer(&self, place: &Place) -> Layer {
        Layer {
            diff_id: self.diff_id,
            blob: Some(self.entry.blob.clone()),
            created: None,
            places: vec![place.clone()],
        }
    }
}

/// The chain of a mount, up to the first layer that does not fit the one before.
fn chain<'a>(catalogue: &'a Catalogue, name: &str) -> Vec<MountLayer<'a>> {
    chain_of(catalogue, &hash(name))
}

fn chain_of<'a>(catalogue: &'a Catalogue, hash: &str) -> Vec<MountLayer<'a>> {
    let mut links: Vec<MountLayer<'a>> = Vec::new();
    while links.len() <= MOST_CHANGES
        && let Some(entry) = catalogue.get(&entry_name(hash, links.len()))
        && let Some(Ok(diff_id)) = entry.notes.get(DIFF_ID).map(|text| text.parse())
        && entry.notes.get(BELOW).cloned() == links.last().map(|link| link.diff_id.to_string())
    {
        links.push(MountLayer { diff_id, entry });
    }
    links
}

/// True if changes should be added to a chain: its indexes are here, it is not too long, and its
/// changes are not larger than its first layer.
fn is_worth_growing(chain: &[MountLayer<'_>], store: &Store) -> bool {
    let Some((first, changes)) = chain.split_first() else { return false };
    let size = |link: &MountLayer<'_>| link.entry.blob.size;
    changes.len() < MOST_CHANGES
        && changes.iter().map(size).sum::<u64>() <= size(first)
        && chain.iter().all(|link| store.has_own_index(&link.diff_id))
}

/// Entries of other mounts that were unused for [`LONGEST_UNUSED`].
fn unused(there: &Catalogue, hash: &str) -> Vec<String> {
    let oldest = now() - LONGEST_UNUSED;
    let own = format!("{KIND}{hash}/");
    let entries = there.starting_with(KIND);
    let old = entries.filter(|(name, entry)| entry.used < oldest && !name.starts_with(&own));
    old.map(|(name, _)| name.to_owned()).collect()
}

/// Entries of a mount whose use is to be noted again.
fn due(there: &Catalogue, hash: &str) -> Vec<String> {
    let own = format!("{KIND}{hash}/");
    let entries = there.starting_with(&own);
    let due = entries.filter(|(_, entry)| entry.used < now() - NOTED_AGAIN);
    due.map(|(name, _)| name.to_owned()).collect()
}

fn hash(name: &str) -> String {
    Digest::of(name).hex()[..32].to_owned()
}

/// Looks up the mount of every entry.
#[cfg(any(fuzzing, debug_assertions))]
pub(super) fn read_hostile(catalogue: &Catalogue) {
    for (name, _) in catalogue.starting_with(KIND) {
        let hash = name[KIND.len()..].split('/').next().unwrap_or_default();
        assert!(chain_of(catalogue, hash).len() <= MOST_CHANGES + 1);
        let _ = (unused(catalogue, hash), due(catalogue, hash));
    }
}

fn entry_name(hash: &str, number: usize) -> String {
    format!("{KIND}{hash}/{number}")
}
