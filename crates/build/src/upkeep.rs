//! Maintenance of caches apart from builds: listing, verifying, pruning, copying.

pub use cache::Pruned;
pub use cache::upkeep::{
    BlobFault, Copied, Fault, HeldLayer, HeldRecord, Holdings, PruneRule, Verified,
};

use std::sync::Arc;

use cache::{Backend, BackendSettings};
use graph::Events;
use transfer::Transfer;

use crate::request::CacheTarget;
use crate::{Error, Session};

fn failed(error: &cache::Error) -> Error {
    Error::Request(transfer::chain_text(error))
}

/// Lists the content of a cache. No layer is read.
///
/// # Errors
/// If there is no cache, or it cannot be read.
pub async fn inspect(session: &Session, cache: &BackendSettings) -> Result<Holdings, Error> {
    cache::upkeep::inspect(&*open(session, cache)?).await.map_err(|error| failed(&error))
}

/// Reads every blob of a cache and compares it with what the cache says.
///
/// # Errors
/// If there is no cache, or its documents cannot be read.
pub async fn verify(session: &Session, cache: &BackendSettings) -> Result<Verified, Error> {
    cache::upkeep::verify(session.client(), &*open(session, cache)?)
        .await
        .map_err(|error| failed(&error))
}

/// Removes records from a cache; `None` if there is nothing to remove.
///
/// # Errors
/// If there is no cache, or it cannot be written.
pub async fn prune(
    session: &Session,
    cache: &BackendSettings,
    rule: PruneRule,
) -> Result<Option<Pruned>, Error> {
    let backend = open(session, cache)?;
    let transfer = transfer(session, [&backend]);
    let pruned = cache::upkeep::prune(&transfer, &*backend, rule).await;
    pruned.map_err(|error| failed(&error))
}

/// Adds the records and layers of a cache to another one.
///
/// # Errors
/// If there is no cache, or a request to a back end fails.
pub async fn copy(
    session: &Session,
    from: &BackendSettings,
    to: &CacheTarget,
) -> Result<Copied, Error> {
    let Some(to) = to.backend() else {
        return Err(Error::Request(
            "a cache is copied to a place of its own, not into an image".into(),
        ));
    };
    let (from, to) = (open(session, from)?, open(session, to)?);
    let transfer = transfer(session, [&from, &to]);
    cache::upkeep::copy(&transfer, &*from, &*to).await.map_err(|error| failed(&error))
}

fn open(session: &Session, settings: &BackendSettings) -> Result<Arc<dyn Backend>, Error> {
    settings.open(session.client()).map_err(|error| failed(&error))
}

fn transfer<'a>(
    session: &Session,
    backends: impl IntoIterator<Item = &'a Arc<dyn Backend>>,
) -> Transfer {
    let remotes = backends.into_iter().filter_map(|backend| backend.remote()).collect();
    let (store, client) = (session.store().clone(), session.client().clone());
    Transfer::with_remotes(store, client, Events::none(), remotes)
}
