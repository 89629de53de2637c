//! The transport: sends requests over pooled connections and waits for answers. Knows no registry.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use crate::hosts::authority;
use crate::http::Pool;
use crate::payload::Payload;
use crate::redirect::{Downgrade, RedirectError, Way};
use crate::response::Response;
use crate::retry::insist;
use crate::traffic::Counters;
use crate::{Error, Result, Settings};

/// The connections, counters and timeouts that a client shares with its clones.
pub(crate) struct Transport {
    settings: Arc<Settings>,
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    /// Hosts that said nothing when they were asked last.
    silent: Mutex<BTreeSet<String>>,
}

/// A request to a server that is not a registry.
pub(crate) struct BareRequest {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    /// Credentials, sent to the address's own origin only.
    pub authorization: Option<HeaderValue>,
    /// The body, sent to the address's own origin only.
    pub body: Bytes,
    /// True if certificates are not verified.
    pub insecure: bool,
    pub downgrade: Downgrade,
    /// The thing that is asked for, for errors.
    pub what: String,
}

impl Transport {
    pub(crate) fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self {
            pool: Arc::new(Pool::new(settings.clone())),
            settings,
            counters: Arc::default(),
            silent: Mutex::default(),
        }
    }

    /// The same connections with other settings, and counters of its own.
    pub(crate) fn with_settings(&self, settings: Settings) -> Self {
        Self {
            pool: self.pool.clone(),
            settings: Arc::new(settings),
            counters: Arc::default(),
            silent: Mutex::default(),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The time that a host may take to begin a response. It is shorter after a timeout: a build
    /// that can continue without the host would otherwise wait the full time for each request.
    fn patience(&self, host: &str) -> Duration {
        let timeouts = self.settings.timeouts;
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.contains(host) { timeouts.idle_again.min(timeouts.idle) } else { timeouts.idle }
    }

    fn note_silence(&self, host: &str, is_silent: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if is_silent {
            silent.insert(host.to_owned());
        } else {
            silent.remove(host);
        }
    }

    /// Sends a request to a server that is not a registry, with the retries of [`insist`] and
    /// without a registry's credentials.
    pub(crate) async fn bare<T, F: Future<Output = Result<T>>>(
        &self,
        send: &BareRequest,
        read: impl Fn(Response) -> F,
    ) -> Result<T> {
        insist(self.settings.retry, || self.follow_bare(send), read).await
    }

    async fn follow_bare(&self, send: &BareRequest) -> Result<Response> {
        let mut way = Way::from(send.url.clone(), send.downgrade);
        loop {
            let mut headers = send.headers.clone();
            if let Some(header) = send.authorization.as_ref().filter(|_| way.is_home()) {
                headers.insert(AUTHORIZATION, header.clone());
            }
            let client = self.pool.client(way.url(), send.insecure).await?;
            let mut request = reqwest::Request::new(send.method.clone(), way.url().clone());
            *request.headers_mut() = headers;
            if send.method != Method::GET {
                *request.body_mut() = Some(send.body.clone().into());
            }
            let answer = self.send(client, request, way.is_home(), &Payload::EMPTY).await?;
            let refused = |error: RedirectError| Error::Protocol {
                host: answer.host.clone(),
                what: send.what.clone(),
                reason: error.to_string(),
            };
            if !way.follow(&answer, &send.method).map_err(refused)? {
                return Ok(answer);
            }
            if !way.is_home() && !send.body.is_empty() {
                return Err(refused(RedirectError::Credentials));
            }
            answer.drain().await;
        }
    }

    /// Sends a request once, and follows no redirect.
    pub(crate) async fn send(
        &self,
        client: reqwest::Client,
        request: reqwest::Request,
        own: bool,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        let host = authority(request.url()).unwrap_or_default();
        let asked = Logged::new(&request);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let counters = self.counters.clone();
        counters.requests.fetch_add(1, Ordering::Relaxed);
        if let Payload::Bytes(bytes) = payload {
            counters.bytes_up.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let timeouts = self.settings.timeouts;
        let commit = match is_read {
            true => self.patience(&host),
            false => timeouts.commit,
        };
        let response = watch(client.execute(request), payload, timeouts.idle, commit).await;
        self.note_silence(&host, response.is_err());
        let response = response
            .map_err(|waited| Error::silent(&host, waited))
            .and_then(|response| response.map_err(|source| Error::reach(&host, source)));
        asked.log(&response);
        let response = response?;
        Ok(Response { inner: response, host, own, idle: timeouts.idle, counters })
    }
}

/// A request as diagnostics show it: without headers, and without what an address may hide.
struct Logged {
    method: Method,
    url: Option<String>,
    since: Instant,
}

impl Logged {
    fn new(request: &reqwest::Request) -> Self {
        // Most runs log nothing, and an address is long.
        let url = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| oci::shown_text(request.url().as_str()));
        Self { method: request.method().clone(), url, since: Instant::now() }
    }

    fn log(&self, response: &Result<reqwest::Response>) {
        let (method, milliseconds) = (&self.method, self.since.elapsed().as_millis());
        let Some(url) = &self.url else { return };
        match response {
            Ok(response) => {
                let status = response.status().as_u16();
                tracing::debug!(%method, url, status, milliseconds, "request");
            }
            Err(error) => {
                let error = oci::shown_text(&oci::chain_text(error));
                tracing::debug!(%method, url, error, milliseconds, "request failed");
            }
        }
    }
}

/// Waits as long as bytes move: `idle` between two looks while there are some to send, then
/// `commit` for the answer.
async fn watch<T>(
    sending: impl Future<Output = T>,
    payload: &Payload<'_>,
    idle: Duration,
    commit: Duration,
) -> Result<T, Duration> {
    let mut sending = pin!(sending);
    let mut before = None;
    loop {
        let moved = payload.moved();
        let limit = if moved >= payload.len() { commit } else { idle };
        if before == Some(moved) {
            return Err(limit);
        }
        before = Some(moved);
        if let Ok(done) = tokio::time::timeout(limit, &mut sending).await {
            return Ok(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_with_a_silent_host_is_shorter_until_it_answers() {
        let transport = Transport::new(Settings::default());
        let timeouts = Settings::default().timeouts;
        transport.note_silence("a", true);
        assert_eq!(
            (transport.patience("a"), transport.patience("b")),
            (timeouts.idle_again, timeouts.idle)
        );
        transport.note_silence("a", false);
        assert_eq!(transport.patience("a"), timeouts.idle);
    }
}
