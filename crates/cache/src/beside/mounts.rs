//! Cache mounts beside a cache: the folders of `RUN --mount=type=cache`, as layers.
//!
//! Entries `mounts/<hash of the name>/<number>`: number 0 is the whole folder, each next one what
//! has changed since. An entry says which layer it is and which one it stands on, so that a chain
//! that two writers mixed up ends where it no longer fits.

use std::path::{Path, PathBuf};

use oci::{Annotations, Descriptor, Digest};
use store::{Compression, FolderLayer, Layer, Place, Store};

use super::{Beside, Catalogue, Change, Content, Entry, Put, now};
use crate::Error;

const KIND: &str = "mounts/";
/// Notes: the layer's diffID, that of the one below, and what the Dockerfile calls the mount.
const DIFF_ID: &str = "vnd.kiln.diff-id";
const BELOW: &str = "vnd.kiln.below";
const ID: &str = "vnd.kiln.mount";

/// So many changes stand on a whole folder before it is written anew.
const MOST_CHANGES: usize = 8;
/// A use is noted when the last one is so long ago, in seconds.
const NOTED_AGAIN: i64 = 24 * 3600;
/// Mounts that nobody used for so long go, in seconds: a month.
const LONGEST_UNUSED: i64 = 30 * 24 * 3600;

/// A cache mount that is to be left beside a cache.
#[derive(Clone, Copy, Debug)]
pub struct MountFolder<'a> {
    /// Its name, by which it is told from others.
    pub name: &'a str,
    /// What the Dockerfile calls it.
    pub id: &'a str,
    /// Its folder, which nobody else writes to meanwhile.
    pub folder: &'a Path,
    /// Nothing is left of a larger one, in bytes of its files.
    pub most: u64,
}

/// What became of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountLeft {
    /// So many bytes were sent.
    Sent(u64),
    /// All of it was there.
    Known,
    /// Its files have so many bytes, which is more than was allowed.
    TooLarge(u64),
}

/// The layers of a cache mount, from the bottom up; none where it is not there.
pub async fn mount_layers(beside: &Beside, name: &str) -> Vec<Layer> {
    let Some(place) = beside.place() else { return Vec::new() };
    let catalogue = beside.catalogue().await;
    chain(&catalogue, name).into_iter().map(|link| link.layer(&place)).collect()
}

/// A cache mount that was read, and is to be left beside a cache.
pub struct ReadyMount {
    hash: String,
    id: String,
    /// The layers below, by diffID.
    below: Vec<Digest>,
    /// What has changed since, or all of it; none where nothing has. With it the file of its blob.
    layer: Option<(Digest, Descriptor, PathBuf)>,
    /// What became of it.
    pub left: MountLeft,
}

/// Reads a cache mount that is to be left beside a cache: what has changed in it, or all of it.
///
/// # Errors
/// If its folder cannot be read.
pub async fn ready_mount(
    beside: &Beside,
    store: &Store,
    mount: MountFolder<'_>,
) -> Result<ReadyMount, Error> {
    let catalogue = beside.catalogue().await;
    let there = chain(&catalogue, mount.name);
    let below: Vec<Digest> = match is_worth_growing(&there, store) {
        true => there.iter().map(|link| link.diff_id).collect(),
        false => Vec::new(),
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
    pub(super) fn change(&self, there: &Catalogue) -> Change {
        let Self { hash, below, .. } = self;
        let forget = unused(there, hash);
        let links = chain_of(there, hash);
        let is_as_it_was = links.len() >= below.len()
            && links.iter().zip(below).all(|(link, diff_id)| link.diff_id == *diff_id);
        let Some((diff_id, blob, path)) = &self.layer else {
            let used = if self.left == MountLeft::Known { due(there, hash) } else { Vec::new() };
            return Change { used, forget, ..Change::default() };
        };
        let is_there = links.get(below.len()).is_some_and(|link| link.diff_id == *diff_id);
        if is_there || !is_as_it_was {
            // Another writer was quicker: its folder is as good.
            return Change { forget, ..Change::default() };
        }
        let mut notes = Annotations::from([
            (DIFF_ID.to_owned(), diff_id.to_string()),
            (ID.to_owned(), self.id.clone()),
        ]);
        notes.extend(below.last().map(|below| (BELOW.to_owned(), below.to_string())));
        let put = Put {
            name: entry_name(hash, below.len()),
            media_type: blob.media_type.clone(),
            content: Content::File { path: path.clone(), digest: blob.digest, size: blob.size },
            notes,
        };
        let above = (below.len() + 1..=MOST_CHANGES + 1).map(|number| entry_name(hash, number));
        let above = above.filter(|name| there.get(name).is_some());
        let used = (0..below.len()).map(|number| entry_name(hash, number)).collect();
        Change { put: vec![put], forget: above.chain(forget).collect(), used }
    }
}

/// A layer of a mount's chain.
struct Link<'a> {
    diff_id: Digest,
    entry: &'a Entry,
}

impl Link<'_> {
    fn layer(&self, place: &Place) -> Layer {
        Layer {
            diff_id: self.diff_id,
            blob: Some(self.entry.blob.clone()),
            created: None,
            places: vec![place.clone()],
        }
    }
}

/// The chain of a mount, as far as each layer stands on the one before.
fn chain<'a>(catalogue: &'a Catalogue, name: &str) -> Vec<Link<'a>> {
    chain_of(catalogue, &hash(name))
}

fn chain_of<'a>(catalogue: &'a Catalogue, hash: &str) -> Vec<Link<'a>> {
    let mut links: Vec<Link<'a>> = Vec::new();
    while links.len() <= MOST_CHANGES
        && let Some(entry) = catalogue.get(&entry_name(hash, links.len()))
        && let Some(Ok(diff_id)) = entry.notes.get(DIFF_ID).map(|text| text.parse())
        && entry.notes.get(BELOW).cloned() == links.last().map(|link| link.diff_id.to_string())
    {
        links.push(Link { diff_id, entry });
    }
    links
}

/// Whether a change is to be written on a chain: its indexes are here, it is not too long, and its
/// changes are not larger than its first layer.
fn is_worth_growing(chain: &[Link<'_>], store: &Store) -> bool {
    let Some((first, changes)) = chain.split_first() else { return false };
    let size = |link: &Link<'_>| link.entry.blob.size;
    changes.len() < MOST_CHANGES
        && changes.iter().map(size).sum::<u64>() <= size(first)
        && chain.iter().all(|link| store.has_own_index(&link.diff_id))
}

/// Entries of other mounts that nobody used for long.
fn unused(there: &Catalogue, hash: &str) -> Vec<String> {
    let oldest = now() - LONGEST_UNUSED;
    let own = format!("{KIND}{hash}/");
    let entries = there.starting_with(KIND);
    let old = entries.filter(|(name, entry)| entry.used < oldest && !name.starts_with(&own));
    old.map(|(name, _)| name.to_owned()).collect()
}

/// Entries of a mount whose use was noted long ago.
fn due(there: &Catalogue, hash: &str) -> Vec<String> {
    let own = format!("{KIND}{hash}/");
    let entries = there.starting_with(&own);
    let due = entries.filter(|(_, entry)| entry.used < now() - NOTED_AGAIN);
    due.map(|(name, _)| name.to_owned()).collect()
}

fn hash(name: &str) -> String {
    Digest::of(name).hex()[..32].to_owned()
}

/// Looks for a mount of every entry's name.
#[cfg(fuzzing)]
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
