//! The cache that other machines share: a map in redis or on an HTTP server, whose layers are in
//! the repository that the image goes to.

use crate::args::compound::bucket::duration;
use crate::personalities::flags::Given;
use crate::personalities::{field, word};
use crate::settings::Hidden;

/// The variables, of this process alone, that secrets are read from: none is in a line.
const PASSWORD: &str = "KILN_MAKISU_REDIS_PASSWORD";
const HEADER: &str = "KILN_MAKISU_HTTP_HEADER_";

/// What the flags of a shared cache ask for.
#[derive(Debug, Default)]
pub struct RemoteCache {
    /// Words of `kiln build`.
    pub words: Vec<String>,
    /// Variables that its secrets are read from.
    pub secrets: Vec<(String, Hidden)>,
    /// What changes nothing.
    pub notes: Vec<String>,
}

/// Reads the flags: redis, else HTTP, as Makisu chooses.
///
/// # Errors
/// A sentence that names the flag. It has no value that is secret.
pub fn read(given: &Given, pushed: &[String]) -> Result<RemoteCache, String> {
    let redis = given.last("redis-cache-addr").filter(|address| !address.is_empty());
    let http = given.last("http-cache-addr").filter(|address| !address.is_empty());
    let password = given.last("redis-cache-password").filter(|password| !password.is_empty());
    let ttl = given.last("redis-cache-ttl").filter(|ttl| !ttl.is_empty());
    let headers = given.all("http-cache-header");
    let mut cache = RemoteCache::default();
    let (flag, mut place) = match (redis, http) {
        (None, None) => {
            if password.is_some() || ttl.is_some() || !headers.is_empty() {
                cache.notes.push(
                    "what is said of the shared cache changes nothing without `--redis-cache-addr` or `--http-cache-addr`".to_owned(),
                );
            }
            return Ok(cache);
        }
        (Some(address), other) => {
            if other.is_some() {
                let note = "`--http-cache-addr` changes nothing beside `--redis-cache-addr`";
                cache.notes.push(note.to_owned());
            }
            let mut place = vec!["type=redis".to_owned(), field("addr", address)];
            if let Some(password) = password {
                place.push(format!("password-env={PASSWORD}"));
                cache.secrets.push((PASSWORD.to_owned(), Hidden::new(password.to_owned())));
            }
            if let Some(ttl) = ttl {
                duration("--redis-cache-ttl", ttl)?;
                place.push(field("ttl", ttl));
            }
            ("redis-cache-addr", place)
        }
        (None, Some(address)) => {
            let address = match address.contains("://") {
                true => address.to_owned(),
                false => format!("http://{address}"),
            };
            let mut place = vec!["type=http".to_owned(), field("url", &address)];
            for (index, header) in headers.iter().enumerate() {
                let Some((name, value)) = header.split_once(':') else {
                    return Err("`--http-cache-header`: there is one that is not NAME:VALUE".into());
                };
                let (name, variable) = (name.trim(), format!("{HEADER}{index}"));
                place.push(field(&format!("header-{name}-env"), &variable));
                cache.secrets.push((variable, Hidden::new(value.trim().to_owned())));
            }
            ("http-cache-addr", place)
        }
    };
    let Some(repository) = pushed.first() else {
        return Err(format!(
            "`--{flag}` needs `--push`: the layers are kept in the repository that the image goes to"
        ));
    };
    place.push(field("ref", repository));
    let place = place.join(",");
    cache.words =
        vec![word("cache-from", &place), format!("--cache-to={place},mode=max,ignore-error=true")];
    Ok(cache)
}
