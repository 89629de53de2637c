//! The upkeep of caches, apart from builds: what one holds, whether it is sound, less of it, and a
//! copy elsewhere.

pub use cache::Pruned;
pub use cache::upkeep::{Copied, Fault, HeldLayer, HeldRecord, Holdings, PruneRule, Verified};

use cache::Place;
use transfer::Transfer;

use crate::request::{CacheFrom, CacheTarget};
use crate::{Error, Host, caches};

fn failed(error: &cache::Error) -> Error {
    Error::Request(transfer::chain_text(error))
}

/// Reads what a cache holds, and no layer.
///
/// # Errors
/// If there is no cache, or it cannot be read.
pub async fn inspect(host: &Host, cache: &CacheFrom) -> Result<Holdings, Error> {
    let place = place_from(host, cache)?;
    cache::upkeep::inspect(&host.client, &place).await.map_err(|error| failed(&error))
}

/// Reads every blob of a cache and compares it with what the cache says.
///
/// # Errors
/// If there is no cache, or its documents cannot be read.
pub async fn verify(host: &Host, cache: &CacheFrom) -> Result<Verified, Error> {
    let place = place_from(host, cache)?;
    cache::upkeep::verify(&host.client, &place).await.map_err(|error| failed(&error))
}

/// Takes out of a cache what a rule says; none if nothing goes.
///
/// # Errors
/// If there is no cache, or it cannot be written.
pub async fn prune(
    host: &Host,
    cache: &CacheFrom,
    rule: PruneRule,
) -> Result<Option<Pruned>, Error> {
    let place = place_from(host, cache)?;
    let pruned = cache::upkeep::prune(&transfer(host, [&place]), &place, rule).await;
    pruned.map_err(|error| failed(&error))
}

/// Adds what a cache holds to another one.
///
/// # Errors
/// If there is no cache, or a place does not give or take something.
pub async fn copy(host: &Host, from: &CacheFrom, to: &CacheTarget) -> Result<Copied, Error> {
    let Some(to) = caches::place_to(to, &host.client) else {
        return Err(Error::Request(
            "a cache is copied to a place of its own, not into an image".into(),
        ));
    };
    let (from, to) = (place_from(host, from)?, to.map_err(|error| failed(&error))?);
    let transfer = transfer(host, [&from, &to]);
    cache::upkeep::copy(&transfer, &from, &to).await.map_err(|error| failed(&error))
}

fn place_from(host: &Host, cache: &CacheFrom) -> Result<Place, Error> {
    caches::place_from(cache, &host.client).map_err(|error| failed(&error))
}

fn transfer<'a>(host: &Host, places: impl IntoIterator<Item = &'a Place>) -> Transfer {
    let remotes = places.into_iter().filter_map(Place::remote).collect();
    let (store, client) = (host.store.clone(), host.client.clone());
    Transfer::with_remotes(store, client, host.events.clone(), remotes)
}
