//! The client: what is shared by all its requests.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Digest, Repository};
use reqwest::header::HeaderValue;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::endpoint::Endpoint;
use crate::traffic::Stats;
use crate::transport::Transport;
use crate::upload_session::BegunUploads;
use crate::{DockerConfig, Error, Result, Settings};

/// Talks to registries. Clones share connections, tokens and what was learned.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Hosts that this clone takes for insecure.
    insecure: Arc<BTreeSet<String>>,
}

struct Shared {
    transport: Transport,
    /// Mirrors of a host and, last, the host itself; apart for insecure use.
    endpoints: Mutex<HashMap<(String, bool), Endpoints>>,
    presence: Mutex<HashMap<(Repository, Digest), PresenceCell>>,
    begun: BegunUploads,
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
        Ok(Self::over(Transport::new(settings)))
    }

    /// A client over the same connections with other logins: nothing that this one's logins have
    /// opened is open to it.
    #[must_use]
    pub fn with_logins(&self, docker_config: DockerConfig) -> Self {
        let settings = Settings { docker_config, ..Settings::clone(self.settings()) };
        Self::over(self.transport().with_settings(settings))
    }

    fn over(transport: Transport) -> Self {
        let shared = Shared {
            transport,
            endpoints: Mutex::default(),
            presence: Mutex::default(),
            begun: BegunUploads::default(),
        };
        Self { shared: Arc::new(shared), insecure: Arc::default() }
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

    /// Requests and bytes of this client and its clones so far.
    pub fn stats(&self) -> Stats {
        self.transport().counters().stats()
    }

    /// The HTTP client that this one would ask a URL with: its certificates and its proxy, no
    /// redirects, nothing sent again. For other protocols over the same wires.
    ///
    /// # Errors
    /// If the URL has no host, or the host's certificates or proxy cannot be used.
    pub async fn wire(&self, url: &reqwest::Url) -> Result<reqwest::Client> {
        self.transport().pool().client(url, false).await
    }

    /// Begins TLS with a host, given as `host:port`, on an open connection: with the certificates
    /// that this client trusts and shows there. For protocols other
    /// than HTTP. The caller limits the time.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if the host's certificate is not trusted; others if the certificates
    /// here cannot be used, or the host does not know TLS.
    pub async fn connect_tls(
        &self,
        authority: &str,
        connection: TcpStream,
    ) -> Result<TlsStream<TcpStream>> {
        self.transport().pool().connect_tls(authority, connection).await
    }

    /// Counts what went over a [`Client::wire`].
    pub fn count(&self, traffic: Stats) {
        self.transport().counters().add(traffic);
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.transport().settings()
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

    pub(crate) fn begun(&self) -> &BegunUploads {
        &self.shared.begun
    }

    pub(crate) fn presence(&self, repository: &Repository, digest: Digest) -> PresenceCell {
        let mut presence = self.shared.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.entry((repository.clone(), digest)).or_default().clone()
    }
}
