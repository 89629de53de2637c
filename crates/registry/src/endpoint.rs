//! Endpoints: the real addresses of hosts and mirrors, their schemes, and how each authenticates.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use oci::Repository;
use reqwest::Url;

use crate::auth::Authenticator;
use crate::hosts::{HUB, HUB_REGISTRY, HostConfig, HostsConfig, authority, canonical, is_loopback};
use crate::redirect::Downgrade;
use crate::{Error, Result};

/// The scheme to reach an endpoint with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Scheme {
    Http,
    Https,
    /// TLS if it works, else not: insecure hosts that were not yet talked to.
    Either,
    /// Plain HTTP if it works, else [`Scheme::Either`]: hosts of this machine that were not yet
    /// talked to.
    PlainFirst,
}

/// A registry that a host's requests go to: itself or a mirror.
pub(crate) struct Endpoint {
    /// Host and port.
    pub authority: String,
    /// Between `/v2/` and the repository's path: empty or ends in `/`.
    prefix: String,
    /// The host that it is a mirror of.
    pub mirror_of: Option<String>,
    /// True if certificates are not verified.
    pub insecure: bool,
    /// A mirror that could not be reached, or sent wrong bytes, is not asked again.
    pub down: AtomicBool,
    scheme: AtomicU8,
    /// The endpoint's authentication method and tokens.
    pub authenticator: Authenticator,
}

impl Endpoint {
    /// The registry behind a host of references.
    pub(crate) fn of_host(host: &str, config: &HostConfig, insecure: bool) -> Self {
        let authority = if canonical(host) == HUB { HUB_REGISTRY } else { host };
        Self::new(authority, String::new(), config, insecure)
    }

    /// A mirror by its URL or name.
    ///
    /// # Errors
    /// If it is neither.
    pub(crate) fn of_mirror(mirror: &str, host: &str, hosts: &HostsConfig) -> Result<Self> {
        let refused = || Error::Setting {
            setting: format!("mirror `{mirror}` of `{host}`"),
            reason: "it is neither a URL nor `host[:port][/path]`".into(),
        };
        let with_scheme = match mirror.contains("://") {
            true => mirror.to_owned(),
            false => format!("https://{mirror}"),
        };
        let url: Url = with_scheme.parse().map_err(|_| refused())?;
        let authority = authority(&url).ok_or_else(refused)?;
        let mut config = hosts.host(&authority)?;
        match (url.scheme(), mirror.contains("://")) {
            ("http", _) => config.plain_http = Some(true),
            ("https", true) => config.plain_http = Some(false),
            ("https", false) => {}
            _ => return Err(refused()),
        }
        let path = url.path().trim_matches('/');
        let path = path
            .strip_prefix("v2")
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .unwrap_or(path);
        let prefix = match path.trim_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let endpoint = Self::new(&authority, prefix, &config, false);
        Ok(Self { mirror_of: Some(host.into()), ..endpoint })
    }

    fn new(authority: &str, prefix: String, config: &HostConfig, insecure: bool) -> Self {
        let insecure = insecure || config.insecure;
        let has_certificates = !config.ca.is_empty() || !config.client_certificates.is_empty();
        let scheme = match config.plain_http {
            Some(true) => Scheme::Http,
            Some(false) => Scheme::Https,
            None if is_loopback(authority) && !has_certificates => Scheme::PlainFirst,
            None if insecure => Scheme::Either,
            None => Scheme::Https,
        };
        Self {
            authority: authority.into(),
            prefix,
            mirror_of: None,
            insecure,
            down: AtomicBool::new(false),
            scheme: AtomicU8::new(scheme as u8),
            authenticator: Authenticator::default(),
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match self.scheme.load(Ordering::Relaxed) {
            0 => Scheme::Http,
            1 => Scheme::Https,
            2 => Scheme::Either,
            _ => Scheme::PlainFirst,
        }
    }

    /// Settles what `from` left open. False if it is settled already.
    pub(crate) fn settle(&self, from: Scheme, to: Scheme) -> bool {
        let (from, to) = (from as u8, to as u8);
        self.scheme.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The scheme of its addresses, as far as is known.
    fn scheme_text(&self) -> &'static str {
        match self.scheme() {
            Scheme::Http | Scheme::PlainFirst => "http",
            Scheme::Https | Scheme::Either => "https",
        }
    }

    /// The policy for redirects from TLS to plain HTTP.
    pub(crate) fn downgrade(&self) -> Downgrade {
        if self.insecure { Downgrade::Allowed } else { Downgrade::Refused }
    }

    /// The address of a path below `/v2/`.
    ///
    /// # Errors
    /// If the host's name is none.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        let scheme = self.scheme_text();
        let query = match &self.mirror_of {
            // Mirrors of several registries tell them apart by this (containerd's convention).
            Some(host) if !path.is_empty() => format!("?ns={host}"),
            _ => String::new(),
        };
        format!("{scheme}://{}/v2/{path}{query}", self.authority).parse().map_err(|_| {
            Error::Setting {
                setting: format!("registry `{}`", self.authority),
                reason: "it is not a host".into(),
            }
        })
    }

    /// A repository's name on this endpoint.
    pub(crate) fn repository(&self, repository: &Repository) -> Repository {
        match &self.mirror_of {
            Some(_) => Repository::new(&self.authority, self.path(repository)),
            None => repository.clone(),
        }
    }

    /// The path of a repository here.
    pub(crate) fn path(&self, repository: &Repository) -> String {
        format!("{}{}", self.prefix, repository.path())
    }

    /// Leaves a mirror that does not give what it should, for the rest of the client's life. The
    /// registry itself stays: there is no other.
    pub(crate) fn leave(&self) {
        if self.mirror_of.is_some() {
            self.down.store(true, Ordering::Relaxed);
        }
    }

    /// True if a URL is of this endpoint's origin, and may receive its credentials.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        let own: Option<Url> = format!("{}://{}/", self.scheme_text(), self.authority).parse().ok();
        own.is_some_and(|own| own.origin() == url.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_get_plain_http() {
        for (host, scheme) in [
            ("127.0.0.1:5000", Scheme::PlainFirst),
            ("127.3.2.1", Scheme::PlainFirst),
            ("[::1]:5000", Scheme::PlainFirst),
            ("localhost:5000", Scheme::PlainFirst),
            ("localhost.example.com", Scheme::Https),
            ("registry.local:5000", Scheme::Https),
        ] {
            let endpoint = Endpoint::of_host(host, &HostConfig::default(), false);
            assert_eq!(endpoint.scheme(), scheme, "{host}");
        }
        let with_ca = HostConfig { ca: vec!["/ca.crt".into()], ..HostConfig::default() };
        assert_eq!(Endpoint::of_host("127.0.0.1:5", &with_ca, false).scheme(), Scheme::Https);
        assert_eq!(
            Endpoint::of_host("r.io", &HostConfig::default(), true).scheme(),
            Scheme::Either
        );
    }

    #[test]
    fn hub_and_mirrors_have_their_addresses() {
        let hub = Endpoint::of_host("docker.io", &HostConfig::default(), false);
        assert_eq!(hub.url("a/b").unwrap().as_str(), "https://registry-1.docker.io/v2/a/b");
        let hosts = HostsConfig::default();
        let repository = Repository::new("docker.io", "library/x");
        for (mirror, url) in [
            ("https://mirror.gcr.io", "https://mirror.gcr.io/v2/library/x?ns=docker.io"),
            ("http://m:5000/v2/", "http://m:5000/v2/library/x?ns=docker.io"),
            ("m.local:5000/hub", "https://m.local:5000/v2/hub/library/x?ns=docker.io"),
        ] {
            let endpoint = Endpoint::of_mirror(mirror, "docker.io", &hosts).unwrap();
            assert_eq!(endpoint.url(&endpoint.path(&repository)).unwrap().as_str(), url);
        }
        assert!(Endpoint::of_mirror("ftp://m", "docker.io", &hosts).is_err());
    }
}
