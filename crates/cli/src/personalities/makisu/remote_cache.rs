//! The cache that machines share: a map in redis or on an HTTP server, whose layers are in the
//! repository that the image is pushed to.

use build::{BackendCredentials, BackendSettings, CacheFrom, CacheTarget, MapSettings, MapStore};
use oci::Reference;

use crate::args::compound::bucket::{duration, web_address};
use crate::args::compound::service;
use crate::args::{BuildFlags, FlagError, InFlag as _};
use crate::personalities::flags::ParsedFlags;

/// A store and its credentials.
type CacheService = (MapStore, BackendCredentials);

/// Reads the flags: redis, else HTTP, as Makisu chooses. Returns notes on flags without effect.
///
/// # Errors
/// If a flag is wrong. The error has no value that is secret.
pub fn read(
    given: &ParsedFlags,
    pushed: &[String],
    flags: &mut BuildFlags,
) -> Result<Vec<String>, FlagError> {
    let redis = given.last("redis-cache-addr");
    let http = given.last("http-cache-addr");
    let password = given.last("redis-cache-password");
    let ttl = given.last("redis-cache-ttl");
    let headers = given.all("http-cache-header");
    let mut notes = Vec::new();
    let (flag, (store, credentials)) = match (redis, http) {
        (None, None) => {
            if password.is_some() || ttl.is_some() || !headers.is_empty() {
                notes.push(
                    "what is said of the shared cache changes nothing without `--redis-cache-addr` or `--http-cache-addr`".to_owned(),
                );
            }
            return Ok(notes);
        }
        (Some(address), other) => {
            if other.is_some() {
                let note = "`--http-cache-addr` changes nothing beside `--redis-cache-addr`";
                notes.push(note.to_owned());
            }
            ("--redis-cache-addr", redis_store(address, password)?)
        }
        (None, Some(address)) => ("--http-cache-addr", http_store(address, &headers)?),
    };
    let ttl = match ttl {
        Some(text) if redis.is_some() => duration("--redis-cache-ttl", text)
            .map_err(|error| FlagError::Usage(error.to_string()))?,
        _ => service::TTL,
    };
    let Some(repository) = pushed.first() else {
        return Err(FlagError::Requires {
            flag: flag.into(),
            other: "--push",
            reason: ": the layers are kept in the repository that the image goes to",
        });
    };
    let reference = repository.parse::<Reference>().in_flag("--push")?;
    let backend = BackendSettings::Map(MapSettings {
        store,
        name: service::MAP_NAME.into(),
        ttl,
        repository: reference.repository().clone(),
        insecure: false,
        credentials,
    });
    flags.cache_from.push(CacheFrom::new(backend.clone()));
    flags.add_optional_cache(CacheTarget::Backend(backend));
    Ok(notes)
}

fn redis_store(address: &str, password: Option<&str>) -> Result<CacheService, FlagError> {
    const ADDRESS: &str = "--redis-cache-addr";
    let address = service::RedisAddress::parse("addr", address).in_flag(ADDRESS)?;
    let server = address.server(None, None).in_flag(ADDRESS)?;
    let credentials = BackendCredentials::new(password.map(service::redis_password));
    Ok((MapStore::Redis(server), credentials))
}

fn http_store(address: &str, headers: &[&str]) -> Result<CacheService, FlagError> {
    const HEADER: &str = "--http-cache-header";
    let address =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let url = web_address("url", address).in_flag("--http-cache-addr")?;
    let headers = headers.iter().map(|header| {
        let not_a_pair = || FlagError::bad(HEADER, "there is one that is not NAME:VALUE");
        let (name, value) = header.split_once(':').ok_or_else(not_a_pair)?;
        service::header(name.trim(), value.trim()).in_flag(HEADER)
    });
    let headers: Vec<(String, String)> = headers.collect::<Result<_, _>>()?;
    Ok((MapStore::Http { url }, BackendCredentials::new(headers)))
}
