//! Authentication of clients.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{Response, StatusCode};

use super::FakeRegistry;
use super::requests::{Incoming, Reply, empty, json, query};
use super::state::State;

#[derive(Default)]
pub(super) struct Auth {
    kind: Kind,
    /// The valid tokens.
    tokens: HashMap<String, Token>,
    issued: usize,
}

#[derive(Default)]
enum Kind {
    #[default]
    None,
    Basic {
        header: String,
    },
    Bearer(BearerRules),
}

/// The behaviour of a registry with a token service.
#[derive(Clone, Debug, Default)]
pub struct BearerRules {
    /// The user who may read and write, with a password; none if unset.
    pub user: Option<(String, String)>,
    /// A refresh token of this user.
    pub refresh_token: Option<String>,
    /// True if reading needs no user.
    pub anonymous_pull: bool,
    /// The number of requests that a token is valid for; unlimited if unset.
    pub uses: Option<usize>,
    /// The lifetime of a token that the service reports, in seconds.
    pub expires_in: Option<u64>,
}

struct Token {
    scopes: Vec<String>,
    uses: Option<usize>,
}

impl FakeRegistry {
    /// Requires Basic authentication with this user and password.
    pub fn require_basic(&self, user: &str, password: &str) {
        let header = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        self.shared.lock().auth.kind = Kind::Basic { header };
    }

    /// Requires a token of the service at `/token`.
    pub fn require_bearer(&self, rules: BearerRules) {
        self.shared.lock().auth.kind = Kind::Bearer(rules);
    }

    /// Invalidates all issued tokens.
    pub fn revoke_tokens(&self) {
        self.shared.lock().auth.tokens.clear();
    }
}

/// The refusal of a request, if it is not allowed.
pub(super) fn check(state: &mut State, request: &Incoming, base: &str) -> Option<Reply> {
    let given = request.authorization.as_deref();
    match &state.auth.kind {
        Kind::None => None,
        Kind::Basic { header } if given == Some(header) => None,
        Kind::Basic { .. } => Some(refuse(r#"Basic realm="fake registry""#.into())),
        Kind::Bearer(_) => {
            let wanted = request.scope();
            let token = given.and_then(|given| given.strip_prefix("Bearer "));
            let allowed = token.is_some_and(|token| state.auth.spend(token, wanted.as_deref()));
            let scope = wanted.map(|wanted| format!(r#",scope="{wanted}""#)).unwrap_or_default();
            let realm = format!(r#"Bearer realm="{base}/token",service="fake, registry"{scope}"#);
            (!allowed).then(|| refuse(realm))
        }
    }
}

fn refuse(challenge: String) -> Reply {
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let mut reply = json(StatusCode::UNAUTHORIZED, body.into());
    reply
        .headers_mut()
        .extend(challenge.parse().ok().map(|c| (hyper::header::WWW_AUTHENTICATE, c)));
    reply
}

impl Auth {
    /// Uses up one request of a token. Returns true if the token allows what is wanted.
    fn spend(&mut self, token: &str, wanted: Option<&str>) -> bool {
        let Some(token) = self.tokens.get_mut(token) else { return false };
        let covers = |wanted: &str| {
            token.scopes.iter().any(|scope| {
                scope == wanted
                    || scope.strip_suffix(",push").is_some_and(|pull_only| pull_only == wanted)
            })
        };
        if !wanted.is_none_or(covers) {
            return false;
        }
        match &mut token.uses {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

/// The token service.
pub(super) fn token(state: &mut State, request: &Incoming) -> Reply {
    let Kind::Bearer(rules) = &state.auth.kind else {
        return empty(StatusCode::NOT_FOUND);
    };
    let form = String::from_utf8_lossy(&request.body);
    let fields = if request.method == "POST" { query(&form) } else { query(&request.query) };
    let of = |name: &'static str| {
        fields.iter().filter(move |(key, _)| key == name).map(|(_, v)| v.clone())
    };
    let expected = rules
        .user
        .as_ref()
        .map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
    let is_user = match (request.method.as_str(), &request.authorization) {
        ("POST", _) => {
            let given = of("refresh_token").next();
            if given.is_none() || given != rules.refresh_token {
                return refuse_login();
            }
            true
        }
        (_, Some(given)) if Some(given) != expected.as_ref() => return refuse_login(),
        (_, given) => given.is_some(),
    };
    let wanted =
        of("scope").flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let scopes = wanted.filter_map(|scope| match (is_user, rules.anonymous_pull) {
        (true, _) => Some(scope),
        (false, true) => Some(scope.replace("pull,push", "pull")),
        (false, false) => None,
    });
    let scopes = scopes.collect();
    let (uses, life) = (rules.uses, rules.expires_in);
    state.auth.issued += 1;
    let token = format!("token-{}", state.auth.issued);
    state.auth.tokens.insert(token.clone(), Token { scopes, uses });
    let life = life.map(|seconds| format!(r#","expires_in":{seconds}"#)).unwrap_or_default();
    json(StatusCode::OK, format!(r#"{{"token":"{token}"{life}}}"#))
}

fn refuse_login() -> Response<super::server::Body> {
    json(StatusCode::UNAUTHORIZED, r#"{"details":"incorrect username or password"}"#.into())
}
