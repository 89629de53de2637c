//! One request and its answer: authentication, redirects, retries.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oci::Repository;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Body, Method, StatusCode, Url};

use crate::auth::{self, Scopes};
use crate::client::Client;
use crate::error::is_final;
use crate::hosts::{Endpoint, Scheme, authority};
use crate::redirect::{Downgrade, Way};
use crate::response::{Requester, Response};
use crate::retry::{Retry, RetryPolicy, asked_delay, is_passing};
use crate::{Error, Result};

/// Rounds in which one request may learn something new about its registry.
const MOST_ROUNDS: u32 = 6;
/// Times that accepted credentials are sent again after a refusal.
const MOST_DOUBTS: u32 = 2;

/// A question to a registry.
pub(crate) struct ApiRequest<'a> {
    pub endpoint: &'a Endpoint,
    /// The repository whose credentials are used.
    pub repository: &'a Repository,
    pub scopes: Scopes,
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    /// The thing that is asked for, for errors.
    pub what: String,
}

/// A request's destination.
pub(crate) enum Target {
    /// Below `/v2/` of the endpoint.
    Path(String),
    /// An address given by the registry.
    Url(Url),
}

/// A request's body.
pub(crate) enum Payload<'a> {
    Bytes(Bytes),
    Part(&'a dyn Part),
}

impl Payload<'_> {
    pub(crate) const EMPTY: Self = Payload::Bytes(Bytes::new());

    fn len(&self) -> u64 {
        match self {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Part(part) => part.len(),
        }
    }

    fn moved(&self) -> u64 {
        match self {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Part(part) => part.moved(),
        }
    }
}

/// Part of a blob, to be sent perhaps more than once.
pub(crate) trait Part: Send + Sync {
    /// The bytes, from the part's beginning.
    fn body(&self) -> BoxFuture<'_, Result<Body>>;
    /// The part's size in bytes.
    fn len(&self) -> u64;
    /// Bytes taken since `body` was last called.
    fn moved(&self) -> u64;
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

impl ApiRequest<'_> {
    fn url(&self) -> Result<Url> {
        match &self.target {
            Target::Path(path) => self.endpoint.url(path),
            Target::Url(url) => Ok(url.clone()),
        }
    }

    fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    pub(crate) fn asked(&self, user: Option<String>) -> Requester {
        let repository = self.endpoint.repository(self.repository);
        Requester { registry: repository.host().to_owned(), user }
    }

    pub(crate) fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol {
            host: self.endpoint.authority.clone(),
            what: self.what.clone(),
            reason: reason.into(),
        }
    }
}

impl Client {
    /// Asks, and asks again after passing faults. Every other answer is the caller's to judge.
    ///
    /// # Errors
    /// If there is no answer, or no way to authenticate.
    pub(crate) async fn call(
        &self,
        ask: &ApiRequest<'_>,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        self.converse(ask, payload, async |answer| Ok(answer)).await
    }

    /// Like [`Client::call`], but any status except success is an error.
    pub(crate) async fn call_well(
        &self,
        ask: &ApiRequest<'_>,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        let answer = self.call(ask, payload).await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.refusal(ask, answer).await),
        }
    }

    /// Asks for something and reads it; asks again also if it breaks off, or `read` finds wrong
    /// bytes in it. An answer that is not a success is an error.
    pub(crate) async fn read<T, F: Future<Output = Result<T>>>(
        &self,
        ask: &ApiRequest<'_>,
        read: impl Fn(Response) -> F,
    ) -> Result<T> {
        let read = &read;
        self.converse(ask, &Payload::EMPTY, async |answer| match answer.status().is_success() {
            true => read(answer).await,
            false => Err(self.refusal(ask, answer).await),
        })
        .await
    }

    /// Like [`Client::read`], but `read` judges every response.
    pub(crate) async fn converse<T, F: Future<Output = Result<T>>>(
        &self,
        ask: &ApiRequest<'_>,
        payload: &Payload<'_>,
        read: impl Fn(Response) -> F,
    ) -> Result<T> {
        let policy = self.settings().retry;
        // A mirror is worth little patience: there is another place to ask.
        let attempts = if ask.endpoint.mirror_of.is_some() { 1 } else { policy.attempts };
        insist(RetryPolicy { attempts, ..policy }, || self.exchange(ask, payload), read).await
    }

    /// The error that an answer is.
    pub(crate) async fn refusal(&self, ask: &ApiRequest<'_>, answer: Response) -> Error {
        let user = match answer.status() {
            StatusCode::UNAUTHORIZED => auth::user(self, ask).await,
            _ => None,
        };
        answer.refusal(&ask.what, ask.asked(user)).await
    }

    /// Asks once, and again when a 401 says how, or when it turns out how to talk.
    pub(crate) async fn exchange(
        &self,
        ask: &ApiRequest<'_>,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        let endpoint = ask.endpoint;
        let mut doubts = 0;
        for _ in 0..MOST_ROUNDS {
            let url = ask.url()?;
            let (is_own, is_plain) = (endpoint.owns(&url), url.scheme() == "http");
            let authorization = match is_own {
                true => endpoint.authenticator.authorization(self, ask).await?,
                false => None,
            };
            let header = authorization.as_ref().map(|authorization| &authorization.header);
            let answer = self.follow(ask, url, header, payload).await;
            if is_own && other_way(endpoint, is_plain, &answer) {
                continue;
            }
            let answer = answer?;
            if answer.status() != StatusCode::UNAUTHORIZED || !answer.own {
                if authorization.is_some() && !is_passing(answer.status()) {
                    endpoint.authenticator.note_welcome();
                }
                return Ok(answer);
            }
            if authorization.as_ref().is_some_and(|used| used.fresh) {
                // A session behind a registry may end while it is used.
                if doubts == MOST_DOUBTS || !endpoint.authenticator.was_welcome() {
                    return Ok(answer);
                }
                doubts += 1;
            }
            let learned =
                endpoint.authenticator.learn(self, ask, answer.headers(), authorization.as_ref());
            if !learned.await? {
                return Ok(answer);
            }
            answer.drain().await;
        }
        Err(ask.protocol("it asks for other credentials again and again"))
    }

    /// Sends, and follows redirects. Who asks is told to the registry only.
    async fn follow(
        &self,
        ask: &ApiRequest<'_>,
        url: Url,
        authorization: Option<&HeaderValue>,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        let endpoint = ask.endpoint;
        let mut way = Way::from(url, endpoint.downgrade());
        loop {
            let own = way.is_home() && endpoint.owns(way.url());
            let mut headers = ask.headers.clone();
            if let Some(header) = authorization.filter(|_| own) {
                headers.insert(AUTHORIZATION, header.clone());
            }
            let body = match payload {
                Payload::Bytes(bytes) => Body::from(bytes.clone()),
                Payload::Part(part) => part.body().await?,
            };
            if !ask.is_read() {
                headers.insert(CONTENT_LENGTH, payload.len().into());
            }
            let client = self.pool().client(way.url(), endpoint.insecure).await?;
            let mut request = reqwest::Request::new(ask.method.clone(), way.url().clone());
            *request.headers_mut() = headers;
            if !ask.is_read() {
                *request.body_mut() = Some(body);
            }
            let answer = self.send(client, request, own, payload).await?;
            if !way.follow(&answer, &ask.method).map_err(|reason| ask.protocol(reason))? {
                return Ok(answer);
            }
            answer.drain().await;
        }
    }

    /// Sends a request to a server that is not a registry, with the retries of [`Client::read`] and
    /// without a registry's credentials.
    pub(crate) async fn bare<T, F: Future<Output = Result<T>>>(
        &self,
        send: &BareRequest,
        read: impl Fn(Response) -> F,
    ) -> Result<T> {
        insist(self.settings().retry, || self.follow_bare(send), read).await
    }

    async fn follow_bare(&self, send: &BareRequest) -> Result<Response> {
        let mut way = Way::from(send.url.clone(), send.downgrade);
        loop {
            let mut headers = send.headers.clone();
            if let Some(header) = send.authorization.as_ref().filter(|_| way.is_home()) {
                headers.insert(AUTHORIZATION, header.clone());
            }
            let client = self.pool().client(way.url(), send.insecure).await?;
            let mut request = reqwest::Request::new(send.method.clone(), way.url().clone());
            *request.headers_mut() = headers;
            if send.method != Method::GET {
                *request.body_mut() = Some(send.body.clone().into());
            }
            let answer = self.send(client, request, way.is_home(), &Payload::EMPTY).await?;
            let refused = |reason: &str| Error::Protocol {
                host: answer.host.clone(),
                what: send.what.clone(),
                reason: reason.into(),
            };
            if !way.follow(&answer, &send.method).map_err(refused)? {
                return Ok(answer);
            }
            if !way.is_home() && !send.body.is_empty() {
                return Err(refused("it redirects credentials to another host"));
            }
            answer.drain().await;
        }
    }

    async fn send(
        &self,
        client: reqwest::Client,
        request: reqwest::Request,
        own: bool,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        let host = authority(request.url()).unwrap_or_default();
        let asked = Logged::new(&request);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let counters = self.counters().clone();
        counters.requests.fetch_add(1, Ordering::Relaxed);
        if let Payload::Bytes(bytes) = payload {
            counters.bytes_up.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let timeouts = self.settings().timeouts;
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

/// Asks and reads, again and again while faults pass. The last answer is read, whatever it is.
async fn insist<T, A, R>(
    policy: RetryPolicy,
    ask: impl Fn() -> A,
    read: impl Fn(Response) -> R,
) -> Result<T>
where
    A: Future<Output = Result<Response>>,
    R: Future<Output = Result<T>>,
{
    let mut retry = Retry::new(policy);
    loop {
        let error = match ask().await {
            Ok(answer) if is_passing(answer.status()) => {
                if !retry.pause(asked_delay(answer.headers())).await {
                    return read(answer).await;
                }
                answer.drain().await;
                continue;
            }
            Ok(answer) => match read(answer).await {
                Err(error) if error.is_passing() || error.is_garbled() => error,
                done => return done,
            },
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        if !retry.pause_after(&error).await {
            return Err(error);
        }
    }
}

/// Learns from an answer how an endpoint is talked to. True if it has to be asked in the other way.
fn other_way(endpoint: &Endpoint, is_plain: bool, answer: &Result<Response>) -> bool {
    match (is_plain, answer) {
        // Servers of TLS answer plain HTTP with 400, or break off.
        (true, Ok(answer)) if answer.status() == StatusCode::BAD_REQUEST => {
            endpoint.settle(Scheme::PlainFirst, Scheme::Either)
        }
        (true, Err(Error::Reach { source, .. })) if !is_final(source) => {
            endpoint.settle(Scheme::PlainFirst, Scheme::Either)
        }
        (true, Ok(_)) => {
            endpoint.settle(Scheme::PlainFirst, Scheme::Http);
            false
        }
        (false, Err(Error::Reach { source, .. })) if source.is_connect() => {
            endpoint.settle(Scheme::Either, Scheme::Http) || endpoint.scheme() == Scheme::Http
        }
        (false, Ok(_)) => {
            endpoint.settle(Scheme::Either, Scheme::Https);
            false
        }
        (_, Err(_)) => false,
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
