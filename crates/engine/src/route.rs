//! From a method and a path to an endpoint.

use crate::endpoints::{Endpoint, endpoints};
use crate::{API, ApiError, MIN_API};

/// The endpoint that a request is for.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) endpoint: &'static Endpoint,
    /// The object in the path.
    pub(crate) name: String,
    /// The version of the API that the client speaks.
    pub(crate) version: Version,
}

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub u32, pub u32);

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// Finds the endpoint of a request.
///
/// # Errors
/// If there is none, or the client's version is not served.
pub(crate) fn route(method: &str, path: &str) -> Result<Route, ApiError> {
    let (version, path) = take_version(path)?;
    let path = decode(path);
    let mut other = None;
    for endpoint in endpoints() {
        let Some(name) = matched(endpoint.path, &path) else { continue };
        if endpoint.method == method {
            return Ok(Route { endpoint, name: name.to_owned(), version });
        }
        // The first is the most specific: `/images/json` is also an image called `json`.
        other.get_or_insert(endpoint.method);
    }
    let message = match other {
        Some(known) => format!("`{path}` is there for {known}, and not for {method}"),
        None => "page not found".to_owned(),
    };
    Err(ApiError::NotFound(message))
}

/// The version at the beginning of a path, and the rest.
fn take_version(path: &str) -> Result<(Version, &str), ApiError> {
    let newest = Version::parse(API).unwrap_or(Version(1, 0));
    let Some((text, rest)) = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        let is_version = version.contains('.')
            && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        is_version.then(|| (version, &rest[version.len()..]))
    }) else {
        return Ok((newest, path));
    };
    let wrong =
        |what: &str| Err(ApiError::BadRequest(format!("client version {text} is too {what}")));
    match Version::parse(text) {
        None => Err(ApiError::BadRequest(format!("`{text}` is no version of the API"))),
        Some(version) if Some(version) < Version::parse(MIN_API) => wrong(&format!(
            "old. Minimum supported API version is {MIN_API}, please upgrade your client to a newer version"
        )),
        Some(version) if version > newest => {
            wrong(&format!("new. Maximum supported API version is {API}"))
        }
        Some(version) => Ok((version, rest)),
    }
}

/// The object in a path that a pattern has; empty where a pattern has none.
fn matched<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some("");
    };
    let (kind, after) = rest.split_once('}')?;
    let object = path.strip_prefix(before)?.strip_suffix(after)?;
    let fits = !object.is_empty() && (kind == "name" || !object.contains('/'));
    fits.then_some(object)
}

/// A path without percent signs. What is no UTF-8 has replacement characters.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let value =
            pair.filter(|_| *byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_endpoints() {
        for (method, path, pattern, name) in [
            ("HEAD", "/_ping", "/_ping", ""),
            ("GET", "/v1.41/images/json", "/images/json", ""),
            ("GET", "/images/r:5000/a/b:1/json", "/images/{name}/json", "r:5000/a/b:1"),
            ("GET", "/v1.24/images/sha256:abc/history", "/images/{name}/history", "sha256:abc"),
            ("GET", "/images/a%2Fb%3A1/get", "/images/{name}/get", "a/b:1"),
            ("GET", "/images/get", "/images/get", ""),
            ("DELETE", "/images/a/b", "/images/{name}", "a/b"),
            ("POST", "/v1.51/images/json/push", "/images/{name}/push", "json"),
            ("GET", "/containers/x/json", "/containers/{id}/json", "x"),
            ("POST", "/session", "/session", ""),
        ] {
            let route = route(method, path).unwrap();
            assert_eq!((route.endpoint.path, route.name.as_str()), (pattern, name), "{path}");
        }
    }

    #[test]
    fn wrong_requests_say_why() {
        for (method, path, word) in [
            ("GET", "/v1.23/_ping", "too old"),
            ("GET", "/v1.99/_ping", "too new"),
            ("GET", "/v1.4.1/_ping", "no version"),
            ("PUT", "/images/json", "for GET"),
            ("GET", "/nothing", "page not found"),
            ("GET", "/containers/a/b/json", "page not found"),
            ("GET", "/images/", "page not found"),
        ] {
            let error = route(method, path).unwrap_err().to_string();
            assert!(error.contains(word), "{path}: {error}");
        }
        assert_eq!(decode("/a%zz%4"), "/a%zz%4");
    }
}
