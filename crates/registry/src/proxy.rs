//! Proxies, by Go's rules: what `docker` takes, kiln takes.

use std::net::IpAddr;

use reqwest::Url;

use crate::hosts::{is_loopback, split_port};
use crate::{Error, Result};

/// Proxies on the way out, as in `http_proxy`, `https_proxy` and `no_proxy`.
#[derive(Clone, Default)]
pub struct Proxies {
    /// Proxy for `http:` addresses.
    pub http: Option<String>,
    /// Proxy for `https:` addresses.
    pub https: Option<String>,
    /// Hosts without a proxy, separated by commas: names (with all names below them), addresses,
    /// networks, each with a port if only that one is meant; `*` for all.
    pub none_for: Option<String>,
}

/// A proxy's address can hold a password.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |proxy: &Option<String>| proxy.as_ref().map(|_| "[set]");
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("none_for", &self.none_for)
            .finish()
    }
}

impl Proxies {
    /// The proxy for a URL, if it has one. Loopback addresses never do, as in Go.
    pub(crate) fn for_url(&self, url: &Url, authority: &str) -> Result<Option<reqwest::Proxy>> {
        let (proxy, name) = match url.scheme() {
            "https" => (&self.https, "https_proxy"),
            _ => (&self.http, "http_proxy"),
        };
        let Some(proxy) = proxy.as_deref().map(str::trim).filter(|proxy| !proxy.is_empty()) else {
            return Ok(None);
        };
        let port = url.port_or_known_default();
        if is_loopback(authority) || self.excludes(split_port(authority).0, port) {
            return Ok(None);
        }
        let address = match proxy.contains("://") {
            true => proxy.to_owned(),
            false => format!("http://{proxy}"),
        };
        let refused = |reason| Error::Setting { setting: name.into(), reason };
        if !address.starts_with("http://") && !address.starts_with("https://") {
            return Err(refused("only http: and https: proxies are known".into()));
        }
        // The error itself would show the address, and with it a password.
        reqwest::Proxy::all(address)
            .map(Some)
            .map_err(|_| refused("its value is not an address".into()))
    }

    fn excludes(&self, host: &str, port: Option<u16>) -> bool {
        let list = self.none_for.as_deref().unwrap_or_default();
        list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
            if entry == "*" {
                return true;
            }
            if let (Some((network, bits)), Ok(address)) =
                (entry.split_once('/'), unbracket(host).parse())
            {
                return in_network(address, network, bits);
            }
            let (name, wanted) = split_port(entry);
            wanted.is_none_or(|wanted| Some(wanted) == port) && is_named(host, name)
        })
    }
}

/// `name` and what is below it; with a leading dot only what is below it.
fn is_named(host: &str, name: &str) -> bool {
    let (host, name) = (host.to_ascii_lowercase(), name.to_ascii_lowercase());
    let below = name.strip_prefix('*').unwrap_or(&name);
    match below.strip_prefix('.') {
        Some(_) => host.ends_with(below),
        None => {
            unbracket(&host) == unbracket(below)
                || host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

fn unbracket(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusions_follow_go() {
        for (list, authority, excluded) in [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", true),
            ("example.com", "badexample.com", false),
            (".example.com", "example.com", false),
            (".example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("x, 10.0.0.0/8", "10.2.3.4", true),
            ("10.0.0.0/8", "11.2.3.4", false),
            ("0.0.0.0/0", "11.2.3.4", true),
            ("r.io:5000", "r.io:5000", true),
            ("r.io:5000", "r.io", false),
            ("fd00::/8", "[fd00::1]:5000", true),
            ("*", "any", true),
            ("", "any", false),
        ] {
            let proxies = Proxies {
                https: Some("proxy:3128".into()),
                none_for: Some(list.into()),
                ..Proxies::default()
            };
            let url = format!("https://{authority}/").parse().unwrap();
            let proxy = proxies.for_url(&url, authority).unwrap();
            assert_eq!(proxy.is_none(), excluded, "{list} {authority}");
        }
    }

    #[test]
    fn a_wrong_proxy_is_refused_without_its_password() {
        let proxies = Proxies { http: Some("socks5://u:hunter2@h".into()), ..Proxies::default() };
        let url = "http://r.io/".parse().unwrap();
        let error = proxies.for_url(&url, "r.io").unwrap_err().to_string();
        assert!(error.contains("http_proxy") && !error.contains("hunter2"), "{error}");
        assert!(!format!("{proxies:?}").contains("hunter2"));
        let loopback = "http://127.0.0.1:5000/".parse().unwrap();
        assert!(proxies.for_url(&loopback, "127.0.0.1:5000").unwrap().is_none());
    }
}
