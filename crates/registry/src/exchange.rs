//! One request and its answer: authentication, redirects, retries.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oci::Repository;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Body, Method, StatusCode, Url};

use crate::answer::Answer;
use crate::auth::{self, Scopes};
use crate::client::Client;
use crate::hosts::{Endpoint, Scheme, authority};
use crate::retry::{Retry, RetryPolicy, asked_delay, is_passing};
use crate::{Error, Result};

/// How often one request may learn something new of its registry.
const MOST_ROUNDS: u32 = 5;
/// How often a registry may send us elsewhere.
const MOST_REDIRECTS: u32 = 10;

/// A question to a registry.
pub(crate) struct Ask<'a> {
    pub endpoint: &'a Endpoint,
    /// Whose credentials are used.
    pub repository: &'a Repository,
    pub scopes: Scopes,
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    /// What is asked for, for errors.
    pub what: String,
}

/// Where a question goes.
pub(crate) enum Target {
    /// Below `/v2/` of the endpoint.
    Path(String),
    /// Where the registry said.
    Url(Url),
}

/// What goes along with a question.
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
pub(crate) trait Part: std::marker::Send + Sync {
    /// The bytes, from the part's beginning.
    fn body(&self) -> BoxFuture<'_, Result<Body>>;
    /// How many they are.
    fn len(&self) -> u64;
    /// How many of them were taken since `body` was last called.
    fn moved(&self) -> u64;
}

/// A request to somebody who is no registry.
pub(crate) struct Send {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Ask<'_> {
    fn url(&self) -> Result<Url> {
        match &self.target {
            Target::Path(path) => self.endpoint.url(path),
            Target::Url(url) => Ok(url.clone()),
        }
    }

    fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
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
    pub(crate) async fn call(&self, ask: &Ask<'_>, payload: &Payload<'_>) -> Result<Answer> {
        let policy = self.settings().retry;
        // A mirror is worth little patience: there is another place to ask.
        let attempts = if ask.endpoint.mirror_of.is_some() { 1 } else { policy.attempts };
        insist(RetryPolicy { attempts, ..policy }, || self.exchange(ask, payload)).await
    }

    /// As [`Client::call`]; an answer that is not a success is an error.
    pub(crate) async fn call_well(&self, ask: &Ask<'_>, payload: &Payload<'_>) -> Result<Answer> {
        let answer = self.call(ask, payload).await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.refusal(ask, answer).await),
        }
    }

    /// The error that an answer is.
    pub(crate) async fn refusal(&self, ask: &Ask<'_>, answer: Answer) -> Error {
        let user = match answer.status() {
            StatusCode::UNAUTHORIZED => auth::user(self, ask).await,
            _ => None,
        };
        answer.refusal(&ask.what, user).await
    }

    /// Asks once, and again when a 401 says how.
    pub(crate) async fn exchange(&self, ask: &Ask<'_>, payload: &Payload<'_>) -> Result<Answer> {
        let endpoint = ask.endpoint;
        for _ in 0..MOST_ROUNDS {
            let url = ask.url()?;
            let authorization = match endpoint.owns(&url) {
                true => endpoint.authenticator.authorization(self, ask).await?,
                false => None,
            };
            let header = authorization.as_ref().map(|authorization| &authorization.header);
            let answer = match self.follow(ask, url, header, payload).await {
                Err(Error::Reach { source, .. })
                    if endpoint.scheme() == Scheme::Either && source.is_connect() =>
                {
                    endpoint.settle(Scheme::Http);
                    continue;
                }
                answer => answer?,
            };
            if endpoint.scheme() == Scheme::Either {
                endpoint.settle(Scheme::Https);
            }
            let refused = answer.status() == StatusCode::UNAUTHORIZED && answer.own;
            if !refused || authorization.as_ref().is_some_and(|used| used.fresh) {
                return Ok(answer);
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

    /// Sends, and follows redirects of reads. Who asks is told to the registry only.
    async fn follow(
        &self,
        ask: &Ask<'_>,
        mut url: Url,
        authorization: Option<&HeaderValue>,
        payload: &Payload<'_>,
    ) -> Result<Answer> {
        let endpoint = ask.endpoint;
        for _ in 0..MOST_REDIRECTS {
            let own = endpoint.owns(&url);
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
            let client = self.pool().client(&url, endpoint.insecure).await?;
            let mut request = reqwest::Request::new(ask.method.clone(), url.clone());
            *request.headers_mut() = headers;
            if !ask.is_read() {
                *request.body_mut() = Some(body);
            }
            let answer = self.send(client, request, own, payload).await?;
            let Some(location) = redirected(ask, &answer) else { return Ok(answer) };
            let next = url.join(location).map_err(|_| ask.protocol("it redirects to nowhere"))?;
            if url.scheme() == "https" && next.scheme() != "https" && !endpoint.insecure {
                return Err(ask.protocol("it redirects from TLS to plain HTTP"));
            }
            answer.drain().await;
            url = next;
        }
        Err(ask.protocol("it redirects for ever"))
    }

    /// A request to somebody who is no registry: no registry's credentials, but retries.
    pub(crate) async fn send_bare(&self, send: &Send, insecure: bool) -> Result<Answer> {
        let client = self.pool().client(&send.url, insecure).await?;
        insist(self.settings().retry, async || {
            let mut request = reqwest::Request::new(send.method.clone(), send.url.clone());
            *request.headers_mut() = send.headers.clone();
            if send.method != Method::GET {
                *request.body_mut() = Some(send.body.clone().into());
            }
            self.send(client.clone(), request, false, &Payload::EMPTY).await
        })
        .await
    }

    async fn send(
        &self,
        client: reqwest::Client,
        request: reqwest::Request,
        own: bool,
        payload: &Payload<'_>,
    ) -> Result<Answer> {
        let host = authority(request.url()).unwrap_or_default();
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
        let response = response.map_err(|waited| Error::silent(&host, waited))?;
        let response = response.map_err(|source| Error::reach(&host, source))?;
        Ok(Answer { response, host, own, idle: timeouts.idle, counters })
    }
}

/// Asks again after passing faults. The last answer is handed over, whatever it is.
async fn insist<F: Future<Output = Result<Answer>>>(
    policy: RetryPolicy,
    ask: impl Fn() -> F,
) -> Result<Answer> {
    let mut retry = Retry::new(policy);
    loop {
        match ask().await {
            Ok(answer) if is_passing(answer.status()) => {
                if !retry.pause(asked_delay(answer.headers())).await {
                    return Ok(answer);
                }
                answer.drain().await;
            }
            Err(error) if error.is_passing() => {
                if !retry.pause_after(&error).await {
                    return Err(error);
                }
            }
            done => return done,
        }
    }
}

fn redirected<'a>(ask: &Ask<'_>, answer: &'a Answer) -> Option<&'a str> {
    let redirects = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    if redirects && ask.is_read() { answer.header(LOCATION) } else { None }
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
