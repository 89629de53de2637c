//! One request and its answer: authentication, redirects, retries.

use oci::Repository;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Body, Method, StatusCode, Url};

use crate::auth::{self, AuthRequest, Scopes};
use crate::client::Client;
use crate::endpoint::{Endpoint, Scheme};
use crate::error::is_final;
use crate::payload::Payload;
use crate::redirect::Way;
use crate::response::{Requester, Response};
use crate::retry::{RetryPolicy, insist, is_passing};
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

    fn to_authorize(&self) -> Result<AuthRequest<'_>> {
        Ok(AuthRequest {
            registry: self.endpoint.url("")?,
            authority: &self.endpoint.authority,
            repository: self.endpoint.repository(self.repository),
            insecure: self.endpoint.insecure,
            downgrade: self.endpoint.downgrade(),
            scopes: &self.scopes,
            what: &self.what,
        })
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
        let repository = ask.endpoint.repository(ask.repository);
        let user = match answer.status() {
            StatusCode::UNAUTHORIZED => auth::user(self.transport(), &repository).await,
            _ => None,
        };
        let requester = Requester { registry: repository.host().to_owned(), user };
        answer.refusal(&ask.what, requester).await
    }

    /// Asks once, and again when a 401 says how, or when it turns out how to talk.
    pub(crate) async fn exchange(
        &self,
        ask: &ApiRequest<'_>,
        payload: &Payload<'_>,
    ) -> Result<Response> {
        let (endpoint, transport) = (ask.endpoint, self.transport());
        let mut doubts = 0;
        for _ in 0..MOST_ROUNDS {
            let url = ask.url()?;
            let (is_own, is_plain) = (endpoint.owns(&url), url.scheme() == "http");
            let request = ask.to_authorize()?;
            let authorization = if is_own {
                endpoint.authenticator.authorization(transport, &request).await?
            } else {
                None
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
            let authenticator = &endpoint.authenticator;
            let learned =
                authenticator.learn(transport, &request, answer.headers(), authorization.as_ref());
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
        let (endpoint, transport) = (ask.endpoint, self.transport());
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
            let client = transport.pool().client(way.url(), endpoint.insecure).await?;
            let mut request = reqwest::Request::new(ask.method.clone(), way.url().clone());
            *request.headers_mut() = headers;
            if !ask.is_read() {
                *request.body_mut() = Some(body);
            }
            let answer = transport.send(client, request, own, payload).await?;
            if !way.follow(&answer, &ask.method).map_err(|error| ask.protocol(error.to_string()))? {
                return Ok(answer);
            }
            answer.drain().await;
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
