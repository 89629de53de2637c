//! Cache mounts in sidecars of caches.

use cache::sidecar::{MountFolder, MountLeft, ReadyMount, mount_layers, ready_mount};
use cache::{ImportedCache, Sidecar};
use execute::{CacheMounts, FoundMount, MountSource, UsedMount};
use futures_util::future::BoxFuture;

use crate::Request;
use crate::request::CacheTo;
use crate::session::Build;

/// The sidecars of a build's caches, each with the most bytes of a mount that may come from it. Nothing
/// is read before a command wants a mount.
pub(crate) struct SidecarMounts(Vec<(Sidecar, u64)>);

impl SidecarMounts {
    /// The sidecars of imported caches from which the request allows mounts.
    pub(crate) fn new(request: &Request, imported: &[&ImportedCache]) -> Self {
        let allowed = |cache: &ImportedCache| {
            let mut from = request.cache_from.iter();
            from.find(|from| *from.backend.identity() == *cache.identity)?.mounts
        };
        let sidecars =
            imported.iter().filter_map(|cache| Some((cache.sidecar.clone()?, allowed(cache)?)));
        Self(sidecars.collect())
    }
}

impl MountSource for SidecarMounts {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<FoundMount>> {
        Box::pin(async move {
            for (sidecar, most) in &self.0 {
                let layers = mount_layers(sidecar, name).await;
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
    build: &Build<'_>,
    to: &CacheTo,
    sidecar: Option<&Sidecar>,
    used: Vec<UsedMount>,
) -> (Vec<ReadyMount>, Vec<String>) {
    let (mut mounts, mut notes) = (Vec::new(), Vec::new());
    let Some(most) = to.mounts else { return (mounts, notes) };
    let Some(sidecar) = sidecar else {
        if !used.is_empty() {
            notes.push("no cache mount was left: the cache has no room for them".into());
        }
        return (mounts, notes);
    };
    for mount in used {
        let UsedMount { id, .. } = &mount;
        match ready_one(build, sidecar, &mount, most).await {
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
    build: &Build<'_>,
    sidecar: &Sidecar,
    mount: &UsedMount,
    most: u64,
) -> Result<Option<ReadyMount>, Box<dyn std::error::Error + Send + Sync>> {
    let mounts = CacheMounts::new(build.session.store().cache_mounts_folder());
    let name = mount.name.clone();
    let Some(held) = transfer::blocking(move || mounts.hold_still(&name)).await? else {
        return Ok(None);
    };
    let folder = MountFolder { name: &mount.name, id: &mount.id, folder: &held.path, most };
    Ok(Some(ready_mount(sidecar, build.session.store(), folder).await?))
}
