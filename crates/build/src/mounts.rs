//! Cache mounts that come from beside caches, and are left there.

use cache::Beside;
use cache::Place;
use cache::beside::{MountFolder, MountLeft, keep_mount, mount_layers};
use execute::{CacheMounts, MountSource, UsedMount};
use futures_util::future::BoxFuture;
use store::Layer;

use crate::Host;
use crate::caches::Source;
use crate::request::{CacheFrom, CacheTo};
use crate::solving::Solved;

/// The cache mounts beside the caches of a build. Nobody is asked before a command wants one.
pub(crate) struct Elsewhere(Vec<Beside>);

impl Elsewhere {
    /// Those beside the caches that were read, unless that was refused.
    pub(crate) fn new(sources: &[Source]) -> Self {
        let is_wanted = |source: &&Source| match source.from {
            CacheFrom::Registry { mounts, .. } | CacheFrom::Local { mounts, .. } => mounts,
            CacheFrom::Elsewhere(_) => true,
        };
        Self(sources.iter().filter(is_wanted).filter_map(|source| source.beside.clone()).collect())
    }
}

impl MountSource for Elsewhere {
    fn layers<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<Layer>> {
        Box::pin(async move {
            for beside in &self.0 {
                let layers = mount_layers(beside, name).await;
                if !layers.is_empty() {
                    return layers;
                }
            }
            Vec::new()
        })
    }
}

/// Leaves the cache mounts that commands used beside a cache, where that was asked for; what is to
/// be said of it.
pub(crate) async fn leave(
    host: &Host,
    to: &CacheTo,
    place: &Place,
    solved: &Solved<'_>,
) -> Vec<String> {
    let Some(most) = to.mounts else { return Vec::new() };
    let used = solved.used_mounts();
    if used.is_empty() {
        return Vec::new();
    }
    let Some(beside) = place.beside(&host.client) else {
        return vec![format!("no cache mount was left: `{}` has no room for them", place.name())];
    };
    let mut notes = Vec::new();
    for mount in used {
        let UsedMount { id, .. } = &mount;
        match leave_one(host, &beside, &mount, most).await {
            Ok(Some(MountLeft::TooLarge(bytes))) => notes.push(format!(
                "cache mount `{id}` was not left: it has {bytes} bytes, and at most {most} travel; \
                 `mounts-max-size` allows more"
            )),
            Ok(Some(MountLeft::Sent(_) | MountLeft::Known)) => (),
            Ok(None) => {
                notes.push(format!("cache mount `{id}` was not left: another build is using it"))
            }
            Err(error) => {
                let text = transfer::chain_text(&*error);
                notes.push(format!("cache mount `{id}` was not left: {text}"));
            }
        }
    }
    notes
}

async fn leave_one(
    host: &Host,
    beside: &Beside,
    mount: &UsedMount,
    most: u64,
) -> Result<Option<MountLeft>, Box<dyn std::error::Error + Send + Sync>> {
    let mounts = CacheMounts::new(host.store.cache_mounts_folder());
    let name = mount.name.clone();
    let Some(held) = transfer::blocking(move || mounts.hold_still(&name)).await? else {
        return Ok(None);
    };
    let folder = MountFolder { name: &mount.name, id: &mount.id, folder: &held.path, most };
    Ok(Some(keep_mount(beside, &host.store, folder).await?))
}
