//! The client: what is shared by all its requests.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci::{Digest, Repository};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::auth::Scopes;
use crate::exchange::{ApiRequest, Payload, Target};
use crate::hosts::Endpoint;
use crate::http::Pool;
use crate::permission::Begun;
use crate::{Error, Result, Settings};

/// Talks to registries. Clones share connections, tokens and what was learned.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Hosts that this clone takes for insecure.
    insecure: Arc<BTreeSet<String>>,
}

struct Shared {
    settings: Arc<Settings>,
    pool: Pool,
    counters: Arc<Counters>,
    /// Mirrors of a host and, last, the host itself; apart for insecure use.
    endpoints: Mutex<HashMap<(String, bool), Endpoints>>,
    presence: Mutex<HashMap<(Repository, Digest), PresenceCell>>,
    begun: Begun,
    /// Hosts that said nothing when they were asked last.
    silent: Mutex<BTreeSet<String>>,
}

/// A host's endpoints in the order in which they are tried.
type Endpoints = Arc<[Arc<Endpoint>]>;

/// A blob's presence in a repository; unset until asked. Held during the request, so that it is
/// sent once.
pub(crate) type PresenceCell = Arc<tokio::sync::Mutex<Option<Presence>>>;

/// A blob's presence in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    /// There, with its size if the registry said it.
    Present(Option<u64>),
}

/// Traffic so far.
#[derive(Default)]
pub(crate) struct Counters {
    pub requests: AtomicU64,
    pub bytes_down: AtomicU64,
    pub bytes_up: AtomicU64,
}

/// Requests and bytes of a client and its clones so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent, those for tokens and repeated ones included.
    pub requests: u64,
    /// Bytes of bodies received.
    pub bytes_down: u64,
    /// Bytes of bodies sent.
    pub bytes_up: u64,
}

impl Client {
    /// A client. Nothing is read or connected before the first request.
    ///
    /// # Errors
    /// If the user agent is none. Wrong settings of a host are found when it is first talked to.
    pub fn new(settings: Settings) -> Result<Self> {
        if HeaderValue::from_str(&settings.user_agent).is_err() {
            return Err(Error::Setting {
                setting: "user agent".into(),
                reason: "it has characters that HTTP does not allow".into(),
            });
        }
        let settings = Arc::new(settings);
        let shared = Shared {
            pool: Pool::new(settings.clone()),
            settings,
            counters: Arc::default(),
            endpoints: Mutex::default(),
            presence: Mutex::default(),
            begun: Begun::default(),
            silent: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), insecure: Arc::default() })
    }

    /// This client, taking a host for insecure if asked to: certificates go unchecked, and plain
    /// HTTP will do where there is no TLS.
    #[must_use]
    pub fn for_host(&self, host: &str, insecure: bool) -> Self {
        if insecure { self.with_insecure(host) } else { self.clone() }
    }

    /// This client, taking a host for insecure.
    #[must_use]
    pub fn with_insecure(&self, host: &str) -> Self {
        let mut insecure = BTreeSet::clone(&self.insecure);
        insecure.insert(host.into());
        Self { shared: self.shared.clone(), insecure: Arc::new(insecure) }
    }

    /// The time that a host may take to begin a response. It is shorter after a timeout: a build
    /// that can continue without the host would otherwise wait the full time for each request.
    pub(crate) fn patience(&self, host: &str) -> Duration {
        let timeouts = self.settings().timeouts;
        let silent = self.shared.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.contains(host) { timeouts.idle_again.min(timeouts.idle) } else { timeouts.idle }
    }

    pub(crate) fn note_silence(&self, host: &str, is_silent: bool) {
        let mut silent = self.shared.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if is_silent {
            silent.insert(host.to_owned());
        } else {
            silent.remove(host);
        }
    }

    /// Requests and bytes of this client and its clones so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            requests: counters.requests.load(Ordering::Relaxed),
            bytes_down: counters.bytes_down.load(Ordering::Relaxed),
            bytes_up: counters.bytes_up.load(Ordering::Relaxed),
        }
    }

    /// The HTTP client that this one would ask a URL with: its certificates and its proxy, no
    /// redirects, nothing sent again. For other protocols over the same wires.
    ///
    /// # Errors
    /// If the URL has no host, or the host's certificates or proxy cannot be used.
    pub async fn wire(&self, url: &reqwest::Url) -> Result<reqwest::Client> {
        self.pool().client(url, false).await
    }

    /// Counts what went over a [`Client::wire`].
    pub fn count(&self, traffic: Stats) {
        let counters = self.counters();
        counters.requests.fetch_add(traffic.requests, Ordering::Relaxed);
        counters.bytes_down.fetch_add(traffic.bytes_down, Ordering::Relaxed);
        counters.bytes_up.fetch_add(traffic.bytes_up, Ordering::Relaxed);
    }

    /// Checks that a host is a registry that accepts the user, as `docker login` does.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if the credentials are wrong or missing.
    pub async fn ping(&self, host: &str) -> Result<()> {
        let endpoint = self.origin(host)?;
        let ask = ApiRequest {
            endpoint: &endpoint,
            repository: &Repository::new(host, ""),
            scopes: Scopes::default(),
            method: Method::GET,
            target: Target::Path(String::new()),
            headers: HeaderMap::new(),
            what: "its API".into(),
        };
        self.call_well(&ask, &Payload::EMPTY).await?.drain().await;
        Ok(())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// The registry itself.
    pub(crate) fn origin(&self, host: &str) -> Result<Arc<Endpoint>> {
        let endpoints = self.endpoints(host)?;
        Ok(endpoints.last().cloned().expect("the host itself is the last of its endpoints"))
    }

    fn endpoints(&self, host: &str) -> Result<Endpoints> {
        let key = (host.to_owned(), self.insecure.contains(host));
        let mut endpoints = self.shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = endpoints.get(&key) {
            return Ok(found.clone());
        }
        let hosts = &self.settings().hosts;
        let config = hosts.host(host)?;
        let mirrors = config.mirrors.iter().map(|mirror| Endpoint::of_mirror(mirror, host, hosts));
        let origin = Endpoint::of_host(host, &config, key.1);
        let all: Vec<Arc<Endpoint>> = mirrors
            .chain([Ok(origin)])
            .map(|endpoint| endpoint.map(Arc::new))
            .collect::<Result<_>>()?;
        Ok(endpoints.entry(key).or_insert(all.into()).clone())
    }

    /// Tries a host's mirrors and then the host itself until one succeeds. A mirror's errors are
    /// not reported, because the host itself decides. A mirror that sends wrong bytes or cannot be
    /// reached is not used again.
    pub(crate) async fn first<T, F: Future<Output = Result<T>>>(
        &self,
        host: &str,
        ask: impl Fn(Arc<Endpoint>) -> F,
    ) -> Result<T> {
        for endpoint in self.endpoints(host)?.iter().filter(|found| found.mirror_of.is_some()) {
            if endpoint.down.load(Ordering::Relaxed) {
                continue;
            }
            match ask(endpoint.clone()).await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_garbled() || error.is_about_the_way() => endpoint.leave(),
                Err(_) => {}
            }
        }
        ask(self.origin(host)?).await
    }

    pub(crate) fn begun(&self) -> &Begun {
        &self.shared.begun
    }

    pub(crate) fn presence(&self, repository: &Repository, digest: Digest) -> PresenceCell {
        let mut presence = self.shared.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.entry((repository.clone(), digest)).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_with_a_silent_host_is_shorter_until_it_answers() {
        let client = Client::new(Settings::default()).unwrap();
        let timeouts = Settings::default().timeouts;
        client.note_silence("a", true);
        assert_eq!(
            (client.patience("a"), client.patience("b")),
            (timeouts.idle_again, timeouts.idle)
        );
        client.note_silence("a", false);
        assert_eq!(client.patience("a"), timeouts.idle);
    }
}
