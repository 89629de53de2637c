//! HTTP clients: one for each host, since certificates and proxies differ by host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Url, redirect, retry};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hosts::{authority, split_port};
use crate::tls::Tls;
use crate::{Error, Result, Settings};

/// Scheme, authority and whether certificates go unchecked.
type PoolKey = (bool, String, bool);

/// The HTTP clients, made when a host is first talked to.
pub(crate) struct Pool {
    settings: Arc<Settings>,
    tls: Arc<Tls>,
    clients: Mutex<HashMap<PoolKey, Arc<OnceCell<reqwest::Client>>>>,
}

impl Pool {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let tls = Arc::new(Tls::new(settings.roots.clone()));
        Self { settings, tls, clients: Mutex::default() }
    }

    /// The client for the host of a URL.
    ///
    /// # Errors
    /// If the host's certificates or its proxy cannot be used.
    pub(crate) async fn client(&self, url: &Url, insecure: bool) -> Result<reqwest::Client> {
        let Some(authority) = authority(url) else {
            let setting = format!("address of scheme `{}`", url.scheme());
            return Err(Error::Setting { setting, reason: "it has no host".into() });
        };
        let key = (url.scheme() == "https", authority.clone(), insecure);
        let cell = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.entry(key).or_default().clone()
        };
        let client = cell.get_or_try_init(|| self.make(url.clone(), authority, insecure)).await?;
        Ok(client.clone())
    }

    async fn make(&self, url: Url, authority: String, insecure: bool) -> Result<reqwest::Client> {
        let tls = match url.scheme() {
            "https" => self.tls_config(authority.clone(), insecure).await?,
            _ => self.tls.nobody()?,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // Blobs move faster on connections of their own than interleaved on one (and
            // GitLab's registry is slow over HTTP/2).
            .http1_only()
            .user_agent(&self.settings.user_agent)
            .connect_timeout(self.settings.timeouts.connect)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy();
        if let Some(proxy) = self.settings.proxies.for_url(&url, &authority)? {
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(|source| Error::Reach { host: authority, source })
    }

    /// Begins TLS with a host on an open connection. The certificate must be a trusted one.
    ///
    /// # Errors
    /// If the host's certificates cannot be used, or the handshake fails.
    pub(crate) async fn connect_tls(
        &self,
        authority: &str,
        connection: TcpStream,
    ) -> Result<TlsStream<TcpStream>> {
        let host = split_port(authority).0.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Setting {
            setting: format!("host `{authority}`"),
            reason: "it is neither a name nor an address".into(),
        })?;
        let config = self.tls_config(authority.to_owned(), false).await?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, connection);
        connecting.await.map_err(|source| Error::handshake(authority, source))
    }

    async fn tls_config(&self, authority: String, insecure: bool) -> Result<ClientConfig> {
        let (tls, settings) = (self.tls.clone(), self.settings.clone());
        let read = move || tls.for_host(&settings.hosts.host(&authority)?, insecure);
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Error::Setting { setting: "TLS".into(), reason: error.to_string() })?
    }
}
