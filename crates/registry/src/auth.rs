//! Authentication: tokens and passwords, remembered for each registry.
//!
//! Nothing is asked beforehand: the first request goes out bare, the 401 says how to authenticate,
//! and from then on requests to that registry carry it at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use oci::Repository;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::challenge::{Challenge, challenges};
use crate::redirect::Downgrade;
use crate::response::{Requester, Response};
use crate::transport::{BareRequest, Transport};
use crate::{Credentials, Error, Result, Secret};

/// Token services answer less than this, in bytes.
const MOST_TOKEN: u64 = 1 << 20;
/// A token's life where the service does not say (distribution, token spec), in seconds.
const DEFAULT_LIFE: u64 = 60;
/// Tokens are renewed this long before they end, or a fifth of their life if that is shorter.
const MARGIN: Duration = Duration::from_secs(30);

/// Access that a token grants, by repository: pull, or pull and push. The first repository's
/// credentials are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(Vec<(String, bool)>);

impl Scopes {
    pub(crate) fn pull(path: String) -> Self {
        Self(vec![(path, false)])
    }

    pub(crate) fn push(path: String) -> Self {
        Self(vec![(path, true)])
    }

    pub(crate) fn and_pull(mut self, path: &str) -> Self {
        self.0.push((path.into(), false));
        self
    }

    fn cover(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(path, push)| {
            self.0.iter().any(|(own, own_push)| own == path && (*own_push || !push))
        })
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, push)) in self.0.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            let actions = if *push { "pull,push" } else { "pull" };
            write!(f, "{space}repository:{path}:{actions}")?;
        }
        Ok(())
    }
}

/// The parts of a request to a registry that its authorization depends on.
pub(crate) struct AuthRequest<'a> {
    /// The registry's own address.
    pub registry: Url,
    /// The registry's host and port, for errors.
    pub authority: &'a str,
    /// The repository whose credentials are used, by its name at the registry.
    pub repository: Repository,
    /// True if certificates are not verified.
    pub insecure: bool,
    pub downgrade: Downgrade,
    pub scopes: &'a Scopes,
    /// The thing that is asked for, for errors.
    pub what: &'a str,
}

/// A registry's authentication method and the tokens received so far.
#[derive(Default)]
pub(crate) struct Authenticator {
    method: Mutex<AuthMethod>,
    tokens: Mutex<HashMap<Scopes, TokenCell>>,
    /// True once the registry accepted credentials.
    welcome: AtomicBool,
}

/// Held while a token is fetched, so that each is fetched once.
type TokenCell = Arc<tokio::sync::Mutex<Tokens>>;

#[derive(Clone, Default)]
enum AuthMethod {
    /// No 401 yet.
    #[default]
    Unknown,
    Basic,
    Bearer(Arc<Service>),
}

/// A token service.
struct Service {
    realm: Url,
    name: Option<String>,
}

#[derive(Default)]
struct Tokens {
    /// Scopes that the registry named in addition to the request's.
    extra: Option<String>,
    token: Option<Token>,
}

struct Token {
    secret: Secret,
    good_until: Instant,
}

impl Token {
    fn is_good(&self) -> bool {
        Instant::now() < self.good_until
    }
}

/// The credentials sent with a request.
pub(crate) struct Authorization {
    pub header: HeaderValue,
    /// True if it cannot be renewed: a refusal then means that the user is refused.
    pub fresh: bool,
}

impl Authenticator {
    /// The authorization for a request, as far as the method is known.
    ///
    /// # Errors
    /// If a credential helper or the token service fails, or the latter refuses the user.
    pub(crate) async fn authorization(
        &self,
        transport: &Transport,
        request: &AuthRequest<'_>,
    ) -> Result<Option<Authorization>> {
        let method = self.method.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let service = match method {
            AuthMethod::Unknown => return Ok(None),
            AuthMethod::Basic => {
                let header = match credentials(transport, &request.repository).await? {
                    Some(Credentials::Password { username, password }) => {
                        basic(&username, &password)?
                    }
                    Some(Credentials::Identity { token, .. }) => basic("<token>", &token)?,
                    Some(Credentials::Registry(token)) => bearer(&token)?,
                    None => return Ok(None),
                };
                return Ok(Some(Authorization { header, fresh: true }));
            }
            AuthMethod::Bearer(service) => service,
        };
        if let Some(token) = self.covering(request.scopes) {
            return Ok(Some(Authorization { header: bearer(&token)?, fresh: false }));
        }
        let cell = self.cell(request.scopes);
        let mut tokens = cell.lock().await;
        if let Some(token) = tokens.token.as_ref().filter(|token| token.is_good()) {
            return Ok(Some(Authorization { header: bearer(&token.secret)?, fresh: false }));
        }
        let token = service.fetch(transport, request, tokens.extra.as_deref()).await?;
        let header = bearer(&token.secret)?;
        tokens.token = Some(token);
        Ok(Some(Authorization { header, fresh: true }))
    }

    /// Notes that credentials were taken.
    pub(crate) fn note_welcome(&self) {
        self.welcome.store(true, Ordering::Relaxed);
    }

    /// True if a refusal may be a mistake. A user that was never accepted is not tried again,
    /// because repeated failures can lock an account.
    pub(crate) fn was_welcome(&self) -> bool {
        self.welcome.load(Ordering::Relaxed)
    }

    /// Learns from a 401. Whether it is worth asking again.
    ///
    /// # Errors
    /// If a credential helper fails, or the token service's address is not to be trusted.
    pub(crate) async fn learn(
        &self,
        transport: &Transport,
        request: &AuthRequest<'_>,
        headers: &HeaderMap,
        used: Option<&Authorization>,
    ) -> Result<bool> {
        let challenges = challenges(headers);
        let by_scheme = |scheme: &str| challenges.iter().find(|found| found.scheme == scheme);
        let service = by_scheme("bearer").and_then(|found| Some((found, found.get("realm")?)));
        let method = match service {
            Some((challenge, realm)) => {
                let service = Service::new(request, realm, challenge)?;
                self.note(request.scopes, challenge.get("scope"), used).await;
                AuthMethod::Bearer(Arc::new(service))
            }
            None if by_scheme("basic").is_some() => {
                if credentials(transport, &request.repository).await?.is_none() {
                    return Ok(false);
                }
                AuthMethod::Basic
            }
            None => return Ok(false),
        };
        *self.method.lock().unwrap_or_else(PoisonError::into_inner) = method;
        Ok(true)
    }

    /// Forgets refused tokens and keeps the scopes that the registry asked for in addition to ours.
    async fn note(&self, scopes: &Scopes, asked: Option<&str>, used: Option<&Authorization>) {
        let cells: Vec<TokenCell> = {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.values().cloned().collect()
        };
        for cell in cells {
            let mut tokens = cell.lock().await;
            let refused = |token: &Token| {
                used.is_some_and(|used| {
                    bearer(&token.secret).is_ok_and(|header| header == used.header)
                })
            };
            if tokens.token.as_ref().is_some_and(refused) {
                tokens.token = None;
            }
        }
        let own = scopes.to_string();
        let resource = |scope: &str| scope.rsplit_once(':').map(|(name, _)| name.to_owned());
        let known: Vec<_> = own.split(' ').filter_map(resource).collect();
        let beside = asked.into_iter().flat_map(str::split_whitespace);
        let beside: Vec<_> =
            beside.filter(|scope| !resource(scope).is_some_and(|r| known.contains(&r))).collect();
        if !beside.is_empty() {
            self.cell(scopes).lock().await.extra = Some(beside.join(" "));
        }
    }

    fn cell(&self, scopes: &Scopes) -> TokenCell {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(scopes.clone()).or_default().clone()
    }

    /// A token that allows this and perhaps more.
    fn covering(&self, wanted: &Scopes) -> Option<Secret> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let covering = tokens.iter().filter(|(scopes, _)| scopes.cover(wanted));
        covering.filter_map(|(_, cell)| cell.try_lock().ok()).find_map(|tokens| {
            let token = tokens.token.as_ref().filter(|token| token.is_good());
            token.map(|token| token.secret.clone())
        })
    }
}

/// The name of who asks, for errors.
pub(crate) async fn user(transport: &Transport, repository: &Repository) -> Option<String> {
    let found = credentials(transport, repository).await.ok().flatten()?;
    Some(found.username().unwrap_or("with a token").to_owned())
}

async fn credentials(
    transport: &Transport,
    repository: &Repository,
) -> Result<Option<Credentials>> {
    transport.settings().docker_config.credentials(repository).await
}

fn basic(username: &str, password: &Secret) -> Result<HeaderValue> {
    let pair = STANDARD.encode(format!("{username}:{}", password.reveal()));
    sensitive(&format!("Basic {pair}"))
}

fn bearer(token: &Secret) -> Result<HeaderValue> {
    sensitive(&format!("Bearer {}", token.reveal()))
}

fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Setting {
        setting: "credentials".into(),
        reason: "a token has characters that HTTP does not allow".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[derive(Deserialize)]
struct TokenText {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Service {
    /// # Errors
    /// If the realm is not an address, or would get passwords over a worse connection than the
    /// registry's own.
    fn new(request: &AuthRequest<'_>, realm: &str, challenge: &Challenge) -> Result<Self> {
        let refused = |reason: &str| Error::Protocol {
            host: request.authority.to_owned(),
            what: request.what.to_owned(),
            reason: format!("its token service {reason}"),
        };
        let own = &request.registry;
        let realm = own.join(realm).map_err(|_| refused("has no address"))?;
        match realm.scheme() {
            "https" => {}
            "http" if own.scheme() == "http" || request.insecure => {}
            _ => return Err(refused("is not reached over TLS, as the registry is")),
        }
        Ok(Self { realm, name: challenge.get("service").map(str::to_owned) })
    }

    async fn fetch(
        &self,
        transport: &Transport,
        request: &AuthRequest<'_>,
        extra: Option<&str>,
    ) -> Result<Token> {
        let credentials = credentials(transport, &request.repository).await?;
        let mut scopes: Vec<String> =
            request.scopes.to_string().split_whitespace().map(str::to_owned).collect();
        scopes.extend(extra.into_iter().flat_map(str::split_whitespace).map(str::to_owned));
        let user = credentials.as_ref().and_then(Credentials::username).map(str::to_owned);
        let question = Question { service: self, transport, request, scopes, user };
        let token = match &credentials {
            Some(Credentials::Registry(token)) => return Ok(Token::for_ever(token.clone())),
            Some(Credentials::Identity { token, .. }) => question.exchange_identity(token).await,
            Some(Credentials::Password { username, password }) => {
                question.ask(Some((username.as_str(), password))).await
            }
            None => question.ask(None).await,
        };
        token.map_err(|error| {
            // Wrong credentials stay `Unauthorized`, also when the token service reports them.
            if error.is_unauthorized() {
                error
            } else {
                Error::Token { host: request.authority.to_owned(), source: Box::new(error) }
            }
        })
    }
}

/// A request to a token service.
struct Question<'a> {
    service: &'a Service,
    transport: &'a Transport,
    request: &'a AuthRequest<'a>,
    scopes: Vec<String>,
    /// The user's name, for errors.
    user: Option<String>,
}

impl Question<'_> {
    /// GET with a password or without (distribution, token spec).
    async fn ask(&self, login: Option<(&str, &Secret)>) -> Result<Token> {
        let mut url = self.service.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.service.name.as_ref().map(|name| ("service", name)));
            query.extend_pairs(self.scopes.iter().map(|scope| ("scope", scope)));
            query.extend_pairs(login.map(|(username, _)| ("account", username)));
        }
        let authorization = login.map(|(username, password)| basic(username, password));
        let authorization = authorization.transpose()?;
        self.read(&BareRequest { authorization, ..self.send(Method::GET, url) }).await
    }

    /// POST with a refresh token (distribution, OAuth2 token spec).
    async fn exchange_identity(&self, token: &Secret) -> Result<Token> {
        // Only to write a form: it goes into the body.
        let mut form = self.service.realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", token.reveal())
            .append_pair("service", self.service.name.as_deref().unwrap_or_default())
            .append_pair("scope", &self.scopes.join(" "))
            .append_pair("client_id", "kiln");
        let body = Bytes::from(form.query().unwrap_or_default().to_owned());
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        let send = self.send(Method::POST, self.service.realm.clone());
        match self.read(&BareRequest { headers, body, ..send }).await {
            // Services that know no OAuth2 take the token as a password.
            Err(Error::NotFound { .. } | Error::Refused { status: 405, .. }) => {
                self.ask(Some(("<token>", token))).await
            }
            done => done,
        }
    }

    fn send(&self, method: Method, url: Url) -> BareRequest {
        BareRequest {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Bytes::new(),
            insecure: self.request.insecure,
            downgrade: self.request.downgrade,
            what: "a token".into(),
        }
    }

    async fn read(&self, send: &BareRequest) -> Result<Token> {
        let read = async |answer: Response| {
            let status = answer.status();
            if !status.is_success() {
                let about_user = matches!(status.as_u16(), 401 | 403);
                let what = if about_user { self.request.what } else { &send.what };
                let registry = self.request.repository.host().to_owned();
                let requester = Requester { registry, user: self.user.clone() };
                return Err(answer.refusal(what, requester).await);
            }
            let host = answer.host.clone();
            let body = answer.bytes(MOST_TOKEN, "the answer of a token service").await?;
            Token::read(&body).map_err(|error| Error::Protocol {
                host,
                what: send.what.clone(),
                reason: error.to_string(),
            })
        };
        self.transport.bare(send, read).await
    }
}

/// An answer of a token service without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum TokenError {
    #[error("it is not JSON with `token`")]
    NotJson,
    #[error("it has no token")]
    Missing,
}

impl Token {
    fn for_ever(secret: Secret) -> Self {
        Self { secret, good_until: Instant::now() + Duration::from_secs(365 * 24 * 3600) }
    }

    fn read(body: &[u8]) -> Result<Self, TokenError> {
        let text: TokenText = serde_json::from_slice(body).map_err(|_| TokenError::NotJson)?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let secret = given(text.token).or(given(text.access_token)).ok_or(TokenError::Missing)?;
        let life = text.expires_in.map_or(DEFAULT_LIFE, |seconds| seconds.clamp(0.0, 1e9) as u64);
        let life = Duration::from_secs(life);
        let good_until = Instant::now() + life - MARGIN.min(life / 5);
        Ok(Self { secret: Secret::new(secret), good_until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_tokens_serve_narrower_requests() {
        let both = Scopes::push("a".into()).and_pull("b");
        assert_eq!(both.to_string(), "repository:a:pull,push repository:b:pull");
        assert!(both.cover(&Scopes::pull("a".into())));
        assert!(both.cover(&Scopes::pull("b".into())));
        assert!(!both.cover(&Scopes::push("b".into())));
        assert!(!both.cover(&Scopes::pull("c".into())));
        assert!(both.cover(&Scopes::default()));
    }

    #[test]
    fn tokens_have_two_spellings_and_a_default_life() {
        let life = |text: &str| {
            let token = Token::read(text.as_bytes()).unwrap();
            assert_eq!(token.secret.reveal(), "t");
            token.good_until.saturating_duration_since(Instant::now()).as_secs_f64().round()
        };
        assert_eq!(life(r#"{"token": "t"}"#), 48.0);
        assert_eq!(life(r#"{"access_token": "t", "token": "", "expires_in": 300}"#), 270.0);
        assert_eq!(life(r#"{"token": "t", "expires_in": 0}"#), 0.0);
        assert!(Token::read(b"{}").is_err());
        assert!(Token::read(b"<html>").is_err());
    }
}
