//! Maintenance of caches apart from builds: listing, verifying, pruning, copying.

pub use cache::Pruned;
pub use cache::upkeep::{
    BlobFault, Copied, Fault, HeldLayer, HeldRecord, Holdings, PruneRule, Verified,
};

use std::sync::Arc;

use cache::{Backend, BackendSettings};
use transfer::Transfer;

use crate::request::CacheTarget;
use crate::{Error, Host};

fn failed(error: &cache::Error) -> Error {
    Error::Request(transfer::chain_text(error))
}

/// Lists the content of a cache. No layer is read.
///
/// # Errors
/// If there is no cache, or it cannot be read.
pub async fn inspect(host: &Host, cache: &BackendSettings) -> Result<Holdings, Error> {
    cache::upkeep::inspect(&*open(host, cache)?).await.map_err(|error| failed(&error))
}

/// Reads every blob of a cache and compares it with what the cache says.
///
/// # Errors
/// If there is no cache, or its documents cannot be read.
pub async fn verify(host: &Host, cache: &BackendSettings) -> Result<Verified, Error> {
    cache::upkeep::verify(&host.client, &*open(host, cache)?).await.map_err(|error| failed(&error))
}

/// Removes records from a cache; `None` if there is nothing to remove.
///
/// # Errors
/// If there is no cache, or it cannot be written.
pub async fn prune(
    host: &Host,
    cache: &BackendSettings,
    rule: PruneRule,
) -> Result<Option<Pruned>, Error> {
    let backend = open(host, cache)?;
    let transfer = transfer(host, [&backend]);
    let pruned = cache::upkeep::prune(&transfer, &*backend, rule).await;
    pruned.map_err(|error| failed(&error))
}

/// Adds the records and layers of a cache to another one.
///
/// # Errors
/// If there is no cache, or a request to a back end fails.
pub async fn copy(host: &Host, from: &BackendSettings, to: &CacheTarget) -> Result<Copied, Error> {
    let Some(to) = to.backend() else {
        return Err(Error::Request(
            "a cache is copied to a place of its own, not into an image".into(),
        ));
    };
    let (from, to) = (open(host, from)?, open(host, to)?);
    let transfer = transfer(host, [&from, &to]);
    cache::upkeep::copy(&transfer, &*from, &*to).await.map_err(|error| failed(&error))
}

fn open(host: &Host, settings: &BackendSettings) -> Result<Arc<dyn Backend>, Error> {
    settings.open(&host.client).map_err(|error| failed(&error))
}

fn transfer<'a>(host: &Host, backends: impl IntoIterator<Item = &'a Arc<dyn Backend>>) -> Transfer {
    let remotes = backends.into_iter().filter_map(|backend| backend.remote()).collect();
    let (store, client) = (host.store.clone(), host.client.clone());
    Transfer::with_remotes(store, client, host.events.clone(), remotes)
}
