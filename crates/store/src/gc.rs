//! The store's content, and its pruning.
//!
//! Builds may run meanwhile. A build notes each item that it uses, and an item that was used since
//! the oldest running process began is kept. Items are removed inside a write transaction of the
//! database: a process that notes a use waits for it, and sees afterwards that the item is gone.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use oci::{Digest, Index, Manifest};
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use crate::db::{Table, now};
use crate::disk::remove_tree;
use crate::run::oldest_start;
use crate::{Error, Result, Store};

/// The content of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The items, least recently used first.
    pub items: Vec<UsedItem>,
}

/// An item that takes space in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedItem {
    /// The kind of item.
    pub kind: ItemKind,
    /// Digest of the blob, or diffID of the layer.
    pub digest: Digest,
    /// Size in bytes; for a layer that of its files and its index.
    pub bytes: u64,
    /// The time of its last use, in milliseconds since 1970.
    pub last_use: i64,
    /// True if a running process may use it, or it belongs to an image with a name or is held.
    pub in_use: bool,
}

/// The kind of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ItemKind {
    /// A blob.
    Blob,
    /// A layer's unpacked folder with its index.
    Layer,
    /// The index alone of a layer that is not unpacked.
    Index,
}

/// The items to prune. Items in use are always kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// Only items that were not used for this long.
    pub older_than: Option<Duration>,
    /// Only until at most this many bytes are left, least recently used items first.
    pub keep_bytes: Option<u64>,
    /// Also indexes, which are small and save downloads.
    pub all: bool,
    /// Only items of this kind.
    pub only: Option<ItemKind>,
}

/// The result of pruning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Sum of the items' sizes, in bytes.
    pub bytes: u64,
    /// The items.
    pub items: Vec<UsedItem>,
}

impl Usage {
    /// Returns the sum of all sizes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

impl Store {
    /// Lists the store's items.
    pub fn usage(&self) -> Result<Usage> {
        let oldest = oldest_start(&self.inner.base)?.min(self.inner.run.started);
        self.usage_since(oldest)
    }

    /// Returns the bytes of the store's file system that are free for this user.
    pub fn free_bytes(&self) -> Result<u64> {
        let base = &self.inner.base;
        let about = rustix::fs::statvfs(base).map_err(Error::file("look at", base))?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }

    /// Returns the size of the store's file system in bytes.
    pub fn disk_bytes(&self) -> Result<u64> {
        let base = &self.inner.base;
        let about = rustix::fs::statvfs(base).map_err(Error::file("look at", base))?;
        Ok(about.f_blocks.saturating_mul(about.f_frsize))
    }

    /// Removes items that are not in use, within the filter.
    pub fn prune(&self, filter: PruneFilter) -> Result<Pruned> {
        self.prune_keeping(filter, &HashSet::new())
    }

    /// Does the same as [`Store::prune`], but `layers` (diffIDs) stay unpacked.
    pub fn prune_keeping(&self, filter: PruneFilter, layers: &HashSet<Digest>) -> Result<Pruned> {
        let oldest = oldest_start(&self.inner.base)?.min(self.inner.run.started);
        let usage = self.usage_since(oldest)?;
        let youngest = filter
            .older_than
            .map(|age| now().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let mut left = usage.bytes();
        let mut chosen = Vec::new();
        for item in usage.items {
            let is_old = youngest.is_none_or(|youngest| item.last_use <= youngest);
            let is_too_much = filter.keep_bytes.is_none_or(|keep| left > keep);
            let is_kind = match item.kind {
                ItemKind::Blob => true,
                ItemKind::Layer => !layers.contains(&item.digest),
                ItemKind::Index => filter.all,
            };
            let is_kind = is_kind && filter.only.is_none_or(|only| only == item.kind);
            if !item.in_use && is_old && is_too_much && is_kind {
                left -= item.bytes;
                chosen.push(item);
            }
        }
        let pruned = self.take_away(chosen, oldest, filter.all)?;
        self.forget_seen();
        Ok(pruned)
    }

    fn usage_since(&self, oldest: i64) -> Result<Usage> {
        let mut items = Vec::new();
        let named = self.named_blobs()?;
        let held = self.held()?;
        let rows = self.rows(Table::Blobs)?;
        for (digest, path) in self.entries("blobs/sha256")? {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let last_use = rows.get(&digest).map_or_else(|| modified(&metadata), |row| row.1);
            let is_kept = named.contains(&digest) || held.blobs.contains(&digest);
            let in_use = last_use >= oldest || is_kept;
            let bytes = metadata.len();
            items.push(UsedItem { kind: ItemKind::Blob, digest, bytes, last_use, in_use });
        }
        let rows = self.rows(Table::Layers)?;
        for (digest, path) in self.entries("layers")? {
            let index = fs::metadata(path.join("index")).ok();
            let mut bytes = index.as_ref().map_or(0, std::fs::Metadata::len);
            let written = index.as_ref().map_or(0, modified);
            let folder = path.join("fs");
            let (kind, last_use) = if folder.is_dir() {
                let row = rows.get(&digest);
                bytes += row.map_or_else(|| folder_size(&folder), |row| row.0);
                (ItemKind::Layer, row.map_or(written, |row| row.1))
            } else {
                (ItemKind::Index, written)
            };
            let in_use = last_use >= oldest || held.layers.contains(&digest);
            items.push(UsedItem { kind, digest, bytes, last_use, in_use });
        }
        items.sort_by_key(|item| (item.last_use, item.kind, item.digest));
        Ok(Usage { items })
    }

    /// Moves items into the temporary folder in one transaction, and removes them after it. Unless
    /// `indexes` are removed too, a layer's index stays: a COPY onto the layer needs nothing else
    /// of it.
    fn take_away(&self, chosen: Vec<UsedItem>, oldest: i64, indexes: bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let mut trash = Vec::new();
        let mut failed = None;
        self.db().with("prune", |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for mut item in chosen {
                let (path, select, delete) = match item.kind {
                    ItemKind::Blob => (
                        self.blob_path(&item.digest),
                        "SELECT last_use FROM blobs WHERE digest = ?1",
                        "DELETE FROM blobs WHERE digest = ?1",
                    ),
                    ItemKind::Layer | ItemKind::Index => (
                        match indexes || item.kind == ItemKind::Index {
                            true => self.layer_path(&item.digest),
                            false => {
                                let index = self.layer_path(&item.digest).join("index");
                                item.bytes -= fs::metadata(index).map_or(0, |index| index.len());
                                self.layer_folder(&item.digest)
                            }
                        },
                        "SELECT last_use FROM layers WHERE diff_id = ?1",
                        "DELETE FROM layers WHERE diff_id = ?1",
                    ),
                };
                let key = params![item.digest.as_bytes()];
                let used: Option<i64> = transaction
                    .prepare_cached(select)?
                    .query_row(key, |row| row.get(0))
                    .optional()?;
                if used.is_some_and(|used| used >= oldest) {
                    continue;
                }
                let target = self.temporary("pruned");
                if let Err(error) = fs::rename(&path, &target) {
                    if error.kind() != std::io::ErrorKind::NotFound {
                        failed = Some(Error::file("prune", &path)(error));
                        break;
                    }
                } else {
                    trash.push(target);
                    pruned.bytes += item.bytes;
                }
                transaction.prepare_cached(delete)?.execute(key)?;
                if item.kind == ItemKind::Blob {
                    let pattern = format!("%{}%", item.digest);
                    transaction
                        .prepare_cached("DELETE FROM blob_of WHERE descriptor LIKE ?1")?
                        .execute([pattern])?;
                }
                pruned.items.push(item);
            }
            transaction.commit()
        })?;
        for path in trash {
            remove_tree(&path).map_err(Error::file("remove", &path))?;
        }
        failed.map_or(Ok(pruned), Err)
    }

    /// Returns the blobs of the images that have names: manifests, configs, layers.
    fn named_blobs(&self) -> Result<HashSet<Digest>> {
        let mut found = HashSet::new();
        let mut open: Vec<Digest> =
            self.db().images()?.into_iter().map(|image| image.digest).collect();
        while let Some(digest) = open.pop() {
            if !found.insert(digest) {
                continue;
            }
            // A blob that is missing or no manifest refers to no others.
            let Ok(bytes) = fs::read(self.blob_path(&digest)) else { continue };
            if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
                found.insert(manifest.config.digest);
                found.extend(manifest.layers.iter().map(|layer| layer.digest));
            } else if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
                let manifests = index.manifests.into_iter();
                open.extend(manifests.map(|manifest| manifest.digest));
            }
        }
        Ok(found)
    }

    /// Returns size and last use by digest.
    fn rows(&self, table: Table) -> Result<HashMap<Digest, (u64, i64)>> {
        let items = self.db().items(table)?;
        Ok(items.into_iter().map(|item| (item.digest, (item.size, item.last_use))).collect())
    }

    /// Returns the entries of a folder whose names are digests.
    fn entries(&self, folder: &str) -> Result<Vec<(Digest, PathBuf)>> {
        let folder = self.inner.base.join(folder);
        let entries = fs::read_dir(&folder).map_err(Error::file("list", &folder))?;
        Ok(entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let digest = format!("sha256:{}", entry.file_name().to_str()?).parse().ok()?;
                Some((digest, entry.path()))
            })
            .collect())
    }
}

fn modified(metadata: &fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    };
    entries.filter_map(|entry| Some(size(entry.ok()?))).sum()
}
