//! Garbage collection after a build, so that a machine that builds every day
//! does not fill up.
//!
//! The rules are those of BuildKit's default policy: what is easily made again goes first, then what
//! was not used for long, then whatever is too much.

use std::time::Duration;

use store::Store;

use super::disk::{mount_entry, mounts};
use super::{DiskEntry, DiskFilter, ImageError, Limits, PruneRequest, prune};

/// Limits of the data that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectPolicy {
    /// The least recently used data goes until no more than this is left.
    pub max_used: Option<Space>,
    /// The least recently used data goes until this much of the disk is free.
    pub min_free: Option<Space>,
    /// However full the disk is, so much may stay.
    pub reserved: Option<Space>,
    /// Data that was unused for this long goes in any case.
    pub unused_for: Option<Duration>,
    /// The shortest time between two collections: a build soon after another has little to find.
    pub every: Duration,
}

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the disk, up to a number of bytes.
    Percent(u64, u64),
}

impl Space {
    fn bytes(self, disk: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent, most) => (disk / 100).saturating_mul(percent).min(most),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for CollectPolicy {
    /// BuildKit's defaults (cmd/buildkitd/config/gcpolicy.go), once an hour at most.
    fn default() -> Self {
        Self {
            max_used: Some(Space::Percent(80, 100_000_000_000)),
            min_free: Some(Space::Percent(20, u64::MAX)),
            reserved: Some(Space::Percent(10, 10_000_000_000)),
            unused_for: Some(60 * DAY),
            every: Duration::from_secs(3600),
        }
    }
}

/// Cache mounts that were not used for so long go while all of them are larger than that.
const MOUNTS_UNUSED_FOR: Duration = Duration::from_secs(48 * 3600);
const MOUNTS_BYTES: u64 = 512_000_000;

/// Under which kind and key of the store's memo the last look is remembered.
const LAST: (&str, &[u8]) = ("collected", b"last");

/// Removes what a policy does not want to stay, if it is time to look. What running builds use
/// stays, and so do images with names.
///
/// # Errors
/// If the store cannot be read, or something cannot be removed.
pub fn collect(store: &Store, policy: &CollectPolicy) -> Result<Vec<DiskEntry>, ImageError> {
    if !is_due(store, policy.every)? {
        return Ok(Vec::new());
    }
    let disk = store.disk_bytes()?;
    let mut removed = unused_mounts(store)?;
    if policy.unused_for.is_some() {
        let filter = DiskFilter { unused_for: policy.unused_for, kind: None };
        removed
            .extend(prune(store, PruneRequest { all: true, filter, ..PruneRequest::default() })?);
    }
    if let Some(limit) = limit(store, policy, disk)? {
        let limits = Limits { max_used: Some(limit), ..Limits::default() };
        let request = PruneRequest { limits, ..PruneRequest::default() };
        removed.extend(prune(store, request)?);
        removed.extend(prune(store, PruneRequest { all: true, ..request })?);
    }
    Ok(removed)
}

/// The bytes that may stay; none if all may.
fn limit(store: &Store, policy: &CollectPolicy, disk: u64) -> Result<Option<u64>, ImageError> {
    let used: u64 = super::usage(store)?.iter().map(|entry| entry.size).sum();
    let bytes = |space: Option<Space>| space.map(|space| space.bytes(disk));
    let limits = Limits {
        max_used: bytes(policy.max_used),
        min_free: bytes(policy.min_free),
        reserved: bytes(policy.reserved),
    };
    Ok(limits.keep(used, store.free_bytes()?).filter(|limit| *limit < used))
}

fn unused_mounts(store: &Store) -> Result<Vec<DiskEntry>, ImageError> {
    let mounts = mounts(store);
    let stored = mounts.list()?;
    let mut left: u64 = stored.iter().map(|mount| mount.bytes).sum();
    let filter = DiskFilter { unused_for: Some(MOUNTS_UNUSED_FOR), kind: None };
    let mut removed = Vec::new();
    for mount in &stored {
        let entry = mount_entry(mount);
        if left > MOUNTS_BYTES
            && filter.fits(&entry, jiff::Timestamp::now().as_millisecond())
            && mounts.discard(mount, |folder| store.discard(folder).map_err(ImageError::from))?
        {
            left = left.saturating_sub(mount.bytes);
            removed.push(entry);
        }
    }
    Ok(removed)
}

/// True if the last collection was long enough ago. A root without one is new.
fn is_due(store: &Store, every: Duration) -> Result<bool, ImageError> {
    let (kind, key) = LAST;
    let now = jiff::Timestamp::now().as_second();
    let last = store.db().memo_get(kind, &[key])?.pop().flatten();
    let last = last.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
    let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
    // A clock that was ahead must not put it off for ever.
    let is_due = every == 0 || last.is_some_and(|last| now - last >= every || last > now);
    if is_due || last.is_none() {
        store.db().memo_put(kind, &[(key, &now.to_le_bytes())])?;
    }
    Ok(is_due)
}

#[cfg(test)]
mod tests {
    use store::{OpenOptions, Privileges};

    use super::*;

    fn age(store: &Store, millis: i64) {
        let sql = format!("UPDATE blobs SET last_use = {millis}");
        store.db().with("age", |connection| connection.execute_batch(&sql)).unwrap();
    }

    #[test]
    fn what_is_too_much_goes_and_what_another_build_uses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        let earlier = open();
        let [old, used] = [b"old blob", b"used one"].map(|text| earlier.put_blob(text).unwrap());
        age(&earlier, 5);
        drop(earlier);
        // A build that runs at the same time, in the same root.
        let other = open();
        assert!(other.has_blob(&used).unwrap());
        let store = open();
        let none = CollectPolicy {
            max_used: Some(Space::Bytes(0)),
            min_free: None,
            reserved: None,
            unused_for: None,
            every: Duration::ZERO,
        };
        let reserved = CollectPolicy { reserved: Some(Space::Bytes(1 << 20)), ..none };
        assert_eq!(collect(&store, &reserved).unwrap(), []);
        let removed = collect(&store, &none).unwrap();
        let ids: Vec<_> = removed.iter().map(|entry| entry.id.clone()).collect();
        assert_eq!(ids, [old.to_string()]);
        assert!(other.has_blob(&used).unwrap() && !other.has_blob(&old).unwrap());
    }

    #[test]
    fn what_is_not_used_goes_by_age_and_not_at_every_build() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        let earlier = open();
        let old = earlier.put_blob(b"old").unwrap();
        age(&earlier, 5);
        drop(earlier);
        let store = open();
        let policy = CollectPolicy::default();
        // The first look at a root is not one.
        assert_eq!(collect(&store, &policy).unwrap(), []);
        assert_eq!(collect(&store, &policy).unwrap(), []);
        let always = CollectPolicy { every: Duration::ZERO, ..policy };
        assert_eq!(collect(&store, &always).unwrap()[0].id, old.to_string());
    }
}
