//! Disk usage and pruning.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use execute::{CacheMounts, StoredMount};
use oci::{Digest, Reference};
use store::{ItemKind, PruneFilter, Store, UsedItem};

use super::ImageError;
use crate::image_store::{self, Kept};

/// Something that takes room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskEntry {
    /// A digest; for a cache mount that of its name, and the number of the copy.
    pub id: String,
    /// The kind.
    pub kind: DiskKind,
    /// Bytes.
    pub size: u64,
    /// True if a prune of all may remove it.
    pub reclaimable: bool,
    /// When it was used last, in milliseconds since 1970.
    pub last_used: i64,
    /// The images that have it.
    pub description: String,
}

/// Kinds of data in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A compressed layer, a manifest, a config.
    Blob,
    /// An unpacked layer.
    Layer,
    /// The list of a layer's files.
    Index,
    /// A folder of `RUN --mount=type=cache`.
    CacheMount,
}

impl DiskKind {
    fn of(item: ItemKind) -> Self {
        match item {
            ItemKind::Blob => Self::Blob,
            ItemKind::Layer => Self::Layer,
            ItemKind::Index => Self::Index,
        }
    }

    /// The store's kind; cache mounts are not items of the store.
    fn item(self) -> Option<ItemKind> {
        match self {
            Self::Blob => Some(ItemKind::Blob),
            Self::Layer => Some(ItemKind::Layer),
            Self::Index => Some(ItemKind::Index),
            Self::CacheMount => None,
        }
    }
}

impl std::fmt::Display for DiskKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Index => "index",
            Self::CacheMount => "cache mount",
        })
    }
}

/// The data to remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// Also what images with names have and can be made again of their blobs, lists of files, and
    /// cache mounts.
    pub all: bool,
    /// Only until so much is left; no limits mean that all goes that may.
    pub limits: Limits,
    /// Only what fits.
    pub filter: DiskFilter,
}

/// Bytes that may stay. The least recently used data goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most that stays.
    pub max_used: Option<u64>,
    /// Bytes of the disk to keep free.
    pub min_free: Option<u64>,
    /// Bytes that stay however full the disk is, whatever the other two say. Alone it is the
    /// most that stays.
    pub reserved: Option<u64>,
}

impl Limits {
    /// The part of `used` bytes that may stay on a disk with `free` bytes, by BuildKit's rule
    /// (`cache/manager.go`); none without limits.
    pub fn keep(self, used: u64, free: u64) -> Option<u64> {
        let by_free = self.min_free.map(|wanted| used.saturating_sub(wanted.saturating_sub(free)));
        let most = match (self.max_used, by_free) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        // None is less than any floor.
        most.max(self.reserved)
    }
}

/// Some of what takes room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFilter {
    /// Data unused for this long.
    pub unused_for: Option<Duration>,
    /// Data of this kind.
    pub kind: Option<DiskKind>,
}

impl DiskFilter {
    /// True if an entry fits; `now` is in milliseconds since 1970.
    pub fn fits(&self, entry: &DiskEntry, now: i64) -> bool {
        self.kind.is_none_or(|kind| kind == entry.kind) && self.is_old(entry.last_used, now)
    }

    fn is_old(&self, last_used: i64, now: i64) -> bool {
        let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        self.unused_for.is_none_or(|age| last_used <= now.saturating_sub(millis(age)))
    }
}

/// Everything that takes room, what was used longest ago first.
///
/// # Errors
/// If the store cannot be read.
pub fn usage(store: &Store) -> Result<Vec<DiskEntry>, ImageError> {
    // First of all: looking for names is a use.
    let items = store.usage()?.items;
    let images = image_store::named(store)?;
    let fixed = only_unpacked(store, &images);
    let owners = owners(&images);
    let mut entries: Vec<DiskEntry> =
        items.iter().map(|item| entry(item, &fixed, &owners)).collect();
    let mounts = mounts(store).list()?;
    entries.extend(mounts.iter().map(mount_entry));
    entries.sort_by_key(|entry| entry.last_used);
    Ok(entries)
}

/// Removes what is not needed; hands back what it was. What running builds use stays, and so do
/// images with names.
///
/// # Errors
/// If the store cannot be read, or something cannot be removed.
pub fn prune(store: &Store, request: PruneRequest) -> Result<Vec<DiskEntry>, ImageError> {
    let usage = store.usage()?;
    let mounts = mounts(store);
    let stored_mounts = mounts.list()?;
    let mount_bytes: u64 = stored_mounts.iter().map(|mount| mount.bytes).sum();
    let used = usage.bytes() + mount_bytes;
    let limit = request.limits.keep(used, store.free_bytes()?);

    let images = image_store::named(store)?;
    let mut layers = only_unpacked(store, &images);
    if !request.all {
        layers.extend(images.iter().flat_map(Kept::all_layers).map(|layer| layer.diff_id));
    }
    let (now, kind) = (now(), request.filter.kind);
    let are_indexes_wanted = request.all || kind == Some(DiskKind::Index);
    let is_wanted = |item: &&UsedItem| {
        let is_movable = match item.kind {
            ItemKind::Blob => true,
            ItemKind::Layer => !layers.contains(&item.digest),
            ItemKind::Index => are_indexes_wanted,
        };
        let is_kind = kind.is_none_or(|kind| kind == DiskKind::of(item.kind));
        !item.in_use && is_movable && is_kind && request.filter.is_old(item.last_use, now)
    };
    let are_mounts_wanted = kind.map_or(request.all, |kind| kind == DiskKind::CacheMount);
    let is_mount_wanted = |mount: &&StoredMount| {
        are_mounts_wanted && !mount.in_use && request.filter.is_old(mount.last_use, now)
    };
    let items = usage.items.iter().filter(is_wanted).map(|item| Candidate {
        last_use: item.last_use,
        bytes: item.bytes,
        mount: None,
    });
    let candidates = stored_mounts.iter().filter(is_mount_wanted).map(|mount| Candidate {
        last_use: mount.last_use,
        bytes: mount.bytes,
        mount: Some(mount),
    });
    let going = oldest(items.chain(candidates).collect(), used, limit);

    let of_store = going.iter().filter(|going| going.mount.is_none());
    let of_store: u64 = of_store.map(|going| going.bytes).sum();
    let filter = PruneFilter {
        keep_bytes: limit.map(|_| usage.bytes().saturating_sub(of_store)),
        all: are_indexes_wanted,
        older_than: request.filter.unused_for,
        only: kind.and_then(DiskKind::item),
    };
    let pruned = match kind {
        Some(DiskKind::CacheMount) => store::Pruned::default(),
        _ => store.prune_keeping(filter, &layers)?,
    };
    let nothing = (HashSet::new(), HashMap::new());
    let mut removed: Vec<DiskEntry> =
        pruned.items.iter().map(|item| entry(item, &nothing.0, &nothing.1)).collect();
    for mount in going.iter().filter_map(|going| going.mount) {
        if mounts.discard(mount, |folder| store.discard(folder).map_err(ImageError::from))? {
            removed.push(mount_entry(mount));
        }
    }
    Ok(removed)
}

/// Something that may go.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    last_use: i64,
    bytes: u64,
    /// Set for a cache mount; the store knows its own items.
    mount: Option<&'a StoredMount>,
}

/// The entries to remove: least recently used first, of any kind, until no more than `limit` of
/// `used` bytes are left.
fn oldest(mut candidates: Vec<Candidate<'_>>, used: u64, limit: Option<u64>) -> Vec<Candidate<'_>> {
    candidates.sort_by_key(|candidate| candidate.last_use);
    let mut left = used;
    candidates.retain(|candidate| {
        let goes = limit.is_none_or(|limit| left > limit);
        if goes {
            left = left.saturating_sub(candidate.bytes);
        }
        goes
    });
    candidates
}

/// Milliseconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

pub(super) fn mounts(store: &Store) -> CacheMounts {
    CacheMounts::new(store.cache_mounts_folder())
}

/// Layers of images whose unpacked folder is all that there is of them.
fn only_unpacked(store: &Store, images: &[Kept]) -> HashSet<Digest> {
    let layers = images.iter().flat_map(Kept::all_layers);
    let has_blob = |digest: &Digest| store.blob_path(digest).exists();
    layers
        .filter(|layer| {
            layer.places.is_empty()
                && !layer.blob.as_ref().is_some_and(|blob| has_blob(&blob.digest))
        })
        .map(|layer| layer.diff_id)
        .collect()
}

/// Names of images by the digests of what they have.
fn owners(images: &[Kept]) -> HashMap<Digest, Vec<&Reference>> {
    let mut owners: HashMap<Digest, Vec<&Reference>> = HashMap::new();
    for image in images {
        let blobs =
            image.all_layers().filter_map(|layer| layer.blob.as_ref()).map(|blob| blob.digest);
        let diff_ids = image.all_layers().map(|layer| layer.diff_id);
        let own: HashSet<Digest> =
            blobs.chain(diff_ids).chain(image.manifests()).chain([image.id]).collect();
        for digest in own {
            owners.entry(digest).or_default().extend(&image.names);
        }
    }
    owners
}

fn entry(
    item: &UsedItem,
    fixed: &HashSet<Digest>,
    owners: &HashMap<Digest, Vec<&Reference>>,
) -> DiskEntry {
    let names = owners.get(&item.digest).into_iter().flatten().map(|name| name.familiar());
    let kind = DiskKind::of(item.kind);
    DiskEntry {
        id: item.digest.to_string(),
        kind,
        size: item.bytes,
        reclaimable: !(item.in_use || kind == DiskKind::Layer && fixed.contains(&item.digest)),
        last_used: item.last_use,
        description: names.collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn mount_entry(mount: &StoredMount) -> DiskEntry {
    DiskEntry {
        id: mount.id.clone(),
        kind: DiskKind::CacheMount,
        size: mount.bytes,
        reclaimable: !mount.in_use,
        last_used: mount.last_use,
        description: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of limits that are absent, below and above what is used and free: the
    /// most that stays is never below the floor, and what is enough as it is stays whole.
    #[test]
    fn limits_are_those_of_buildkit() {
        let (used, free) = (1000, 100);
        let values = [None, Some(1), Some(500), Some(5000)];
        for (max_used, min_free, reserved) in values.iter().flat_map(|max| {
            let pairs = values.iter().flat_map(|min| values.iter().map(move |floor| (min, floor)));
            pairs.map(move |(min, floor)| (*max, *min, *floor))
        }) {
            let limits = Limits { max_used, min_free, reserved };
            let keep = limits.keep(used, free);
            // BuildKit's words: 0 stands for what is not given.
            let [max, min, floor] =
                [max_used, min_free, reserved].map(|limit| limit.unwrap_or(0) as i64);
            let (used, free) = (used as i64, free as i64);
            let mut expected = max;
            if min - free > 0 {
                let left = used - (min - free);
                expected = if max == 0 { left } else { max.min(left) };
            } else if min != 0 && max == 0 {
                expected = used;
            }
            let expected = expected.max(floor).max(0) as u64;
            let given = limits != Limits::default();
            // More than there is stays whole either way.
            let enough = |bytes: u64| bytes.min(used as u64);
            assert_eq!(keep.map(enough), given.then_some(expected).map(enough), "{limits:?}");
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_whatever_it_is() {
        let at = |last_use, bytes| Candidate { last_use, bytes, mount: None };
        let all = vec![at(3, 10), at(1, 20), at(2, 30)];
        let uses = |limit| {
            let going = oldest(all.clone(), 100, limit);
            going.iter().map(|going| going.last_use).collect::<Vec<_>>()
        };
        assert!(uses(Some(100)).is_empty());
        assert_eq!(uses(Some(80)), [1]);
        assert_eq!(uses(Some(79)), [1, 2]);
        assert_eq!(uses(Some(0)), [1, 2, 3]);
        assert_eq!(uses(None), [1, 2, 3]);
    }

    #[test]
    fn a_floor_is_no_ceiling() {
        let limits = Limits { max_used: Some(20_000), reserved: Some(1), min_free: None };
        assert_eq!(limits.keep(32, 0), Some(20_000));
        let limits = Limits { min_free: Some(u64::MAX), reserved: Some(30), max_used: None };
        assert_eq!(limits.keep(32, 0), Some(30));
    }
}
