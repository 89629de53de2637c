//! Cache mounts that come from beside caches, and are left there.

use cache::Beside;
use cache::beside::{MountFolder, MountLeft, ReadyMount, mount_layers, ready_mount};
use execute::{CacheMounts, FoundMount, MountSource, UsedMount};
use futures_util::future::BoxFuture;

use crate::Host;
use crate::caches::Source;
use crate::request::{CacheFrom, CacheTo};
use crate::solving::Solved;

/// The cache mounts beside the caches of a build, each cache with how large they may be. Nobody is
/// asked before a command wants one.
pub(crate) struct Elsewhere(Vec<(Beside, u64)>);

impl Elsewhere {
    /// Those beside the caches that were read, where that was asked for.
    pub(crate) fn new(sources: &[&Source]) -> Self {
        let wanted = |source: &&Source| match source.from {
            CacheFrom::Registry { mounts, .. } | CacheFrom::Local { mounts, .. } => {
                Some((source.beside.clone()?, mounts?))
            }
            CacheFrom::Elsewhere(_) => None,
        };
        Self(sources.iter().filter_map(wanted).collect())
    }
}

impl MountSource for Elsewhere {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<FoundMount>> {
        Box::pin(async move {
            for (beside, most) in &self.0 {
                let layers = mount_layers(beside, name).await;
                if !layers.is_empty() {
                    return Some(FoundMount { layers, most: *most });
                }
            }
            None
        })
    }
}

/// Reads the cache mounts that commands used, where a cache is to have them; with what is to be said
/// of those that it does not get.
pub(crate) async fn ready(
    host: &Host,
    to: &CacheTo,
    beside: Option<&Beside>,
    solved: &Solved<'_>,
) -> (Vec<ReadyMount>, Vec<String>) {
    let (mut mounts, mut notes) = (Vec::new(), Vec::new());
    let (Some(most), used) = (to.mounts, solved.used_mounts()) else { return (mounts, notes) };
    let Some(beside) = beside else {
        if !used.is_empty() {
            notes.push("no cache mount was left: the cache has no room for them".into());
        }
        return (mounts, notes);
    };
    for mount in used {
        let UsedMount { id, .. } = &mount;
        match ready_one(host, beside, &mount, most).await {
            Ok(Some(ReadyMount { left: MountLeft::TooLarge(bytes), .. })) => notes.push(format!(
                "cache mount `{id}` was not left: it has {bytes} bytes, and at most {most} travel; \
                 `mounts-max-size` allows more"
            )),
            Ok(Some(mount)) => mounts.push(mount),
            Ok(None) => {
                notes.push(format!("cache mount `{id}` was not left: another build is using it"))
            }
            Err(error) => {
                let text = transfer::chain_text(&*error);
                notes.push(format!("cache mount `{id}` was not left: {text}"));
            }
        }
    }
    (mounts, notes)
}

async fn ready_one(
    host: &Host,
    beside: &Beside,
    mount: &UsedMount,
    most: u64,
) -> Result<Option<ReadyMount>, Box<dyn std::error::Error + Send + Sync>> {
    let mounts = CacheMounts::new(host.store.cache_mounts_folder());
    let name = mount.name.clone();
    let Some(held) = transfer::blocking(move || mounts.hold_still(&name)).await? else {
        return Ok(None);
    };
    let folder = MountFolder { name: &mount.name, id: &mount.id, folder: &held.path, most };
    Ok(Some(ready_mount(beside, &host.store, folder).await?))
}
