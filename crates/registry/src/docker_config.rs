//! Credentials from docker's `config.json` and podman's `auth.json`.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures_util::future::BoxFuture;
use oci::Repository;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::hosts::{HUB, HUB_REGISTRY};
use crate::{Credentials, Error, Result, Secret, helper};

/// The key of Docker Hub in `config.json`, and its name for credential helpers.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Credentials of registries, as docker and podman keep them: several files, the first that knows
/// a registry wins. Within a file `credHelpers` come before `credsStore`, and that before `auths`.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    /// The search path for credential helpers, in the form of `PATH`; the process's own if unset.
    pub helper_path: Option<OsString>,
    /// Somebody else's logins, which are all that is used where there are any to ask for.
    source: Option<Arc<dyn LoginSource>>,
    files: Vec<File>,
    /// Helpers are slow, and some ask the user.
    asked: Arc<Mutex<Answers>>,
}

/// Logins that somebody else keeps: asked for when a registry wants one.
pub trait LoginSource: Send + Sync + std::fmt::Debug {
    /// The login for a registry; none where there is none.
    ///
    /// # Errors
    /// If nobody answers.
    fn login<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>>;
}

/// Helpers' answers, by helper and server.
type Answers = HashMap<(String, String), Option<Credentials>>;

/// The content of one file.
#[derive(Clone, Debug, Default)]
struct File {
    auths: BTreeMap<String, Credentials>,
    store: Option<String>,
    helpers: BTreeMap<String, String>,
}

/// The parts of `config.json` that are about credentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileText {
    auths: Option<BTreeMap<String, AuthText>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct AuthText {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl DockerConfig {
    /// Reads a `config.json` or `auth.json`. A file that does not exist is one without
    /// credentials.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn load(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|error| Error::file(path, error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::file(path, error)),
        }
    }

    /// Reads the text of such a file, as in `DOCKER_AUTH_CONFIG`. A blank one, which an unset
    /// variable of a pipeline makes, is one without credentials.
    ///
    /// # Errors
    /// If it is not JSON of that form. The error does not show the text.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let refused =
            |reason: String| Error::Setting { setting: "registry credentials".into(), reason };
        let text: FileText = serde_json::from_str(text).map_err(|error| {
            // The message of serde shows values of the wrong type, which may be secrets.
            refused(format!("wrong JSON in line {}, column {}", error.line(), error.column()))
        })?;
        let mut auths = BTreeMap::new();
        for (key, auth) in text.auths.into_iter().flatten() {
            let credentials = auth.credentials();
            match credentials.map_err(|reason| refused(format!("`auths` of `{key}`: {reason}")))? {
                Some(credentials) => _ = auths.insert(key, credentials),
                // Docker marks registries so whose credentials are in `credsStore`.
                None => continue,
            }
        }
        let store = text.creds_store.filter(|store| !store.is_empty());
        let file = File { auths, store, helpers: text.cred_helpers.unwrap_or_default() };
        Ok(Self { files: vec![file], ..Self::default() })
    }

    /// The logins of somebody else, and no others.
    pub fn of_source(source: Arc<dyn LoginSource>) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// These credentials, and `fallback` for registries that they do not know.
    #[must_use]
    pub fn merge(mut self, fallback: Self) -> Self {
        self.files.extend(fallback.files);
        self.helper_path = self.helper_path.or(fallback.helper_path);
        self
    }

    /// Puts credentials of one registry before all others.
    #[must_use]
    pub fn with_credentials(mut self, registry: &str, credentials: Credentials) -> Self {
        let auths = BTreeMap::from([(registry.into(), credentials)]);
        self.files.insert(0, File { auths, ..File::default() });
        self
    }

    /// The credentials for a repository, if there are any.
    ///
    /// # Errors
    /// If a helper fails. That a helper does not know the registry is no failure.
    pub async fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>> {
        if let Some(source) = &self.source {
            // One question for each registry, however many requests it answers.
            let mut asked = self.asked.lock().await;
            let key = (String::new(), server_name(repository.host()).to_owned());
            if let Some(answer) = asked.get(&key) {
                return Ok(answer.clone());
            }
            let answer = source.login(repository.host()).await?;
            return Ok(asked.entry(key).or_insert(answer).clone());
        }
        for file in &self.files {
            let server = server_name(repository.host());
            if let Some(helper) = file.helper(repository.host())
                && let Some(credentials) = self.ask(helper, server).await?
            {
                return Ok(Some(credentials));
            }
            if let Some(credentials) = file.find(repository) {
                return Ok(Some(credentials.clone()));
            }
        }
        Ok(None)
    }

    async fn ask(&self, helper: &str, server: &str) -> Result<Option<Credentials>> {
        let mut asked = self.asked.lock().await;
        let key = (helper.to_owned(), server.to_owned());
        if let Some(answer) = asked.get(&key) {
            return Ok(answer.clone());
        }
        let answer = helper::get(helper, server, self.helper_path.as_deref()).await?;
        Ok(asked.entry(key).or_insert(answer).clone())
    }

    /// The helper that keeps the credentials of a registry.
    pub(crate) fn helper(&self, registry: &str) -> Option<&str> {
        self.files.iter().find_map(|file| file.helper(registry))
    }
}

impl File {
    fn helper(&self, host: &str) -> Option<&str> {
        let own = host_keys(host).iter().find_map(|key| self.helpers.get(*key));
        own.or(self.store.as_ref()).map(String::as_str).filter(|helper| !helper.is_empty())
    }

    /// The most specific entry: the repository, the paths above it, the host. A key of a path is
    /// never used for another path (containers-auth.json(5)).
    fn find(&self, repository: &Repository) -> Option<&Credentials> {
        let hosts = host_keys(repository.host());
        let mut path = repository.path();
        loop {
            for host in &hosts {
                let name = match path {
                    "" => (*host).to_owned(),
                    path => format!("{host}/{path}"),
                };
                let exact = self.auths.get(&name);
                let spelled =
                    || self.auths.iter().find(|(key, _)| plain_key(key) == name).map(|(_, v)| v);
                if let Some(credentials) = exact.or_else(spelled) {
                    return Some(credentials);
                }
            }
            if path.is_empty() {
                return None;
            }
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }
}

/// The keys under which a host's credentials are found.
fn host_keys(host: &str) -> Vec<&str> {
    match host {
        HUB | "index.docker.io" | HUB_REGISTRY => {
            vec![HUB_KEY, "index.docker.io", HUB, HUB_REGISTRY]
        }
        other => vec![other],
    }
}

/// Docker's name for a registry.
pub(crate) fn server_name(registry: &str) -> &str {
    match registry {
        HUB | "index.docker.io" | HUB_REGISTRY | "" => HUB_KEY,
        other => other,
    }
}

/// A key without what old versions of docker put around a host.
fn plain_key(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

/// A malformed `auth` of a login. The message shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum AuthTextError {
    #[error("`auth` is not base64")]
    NotBase64,
    #[error("`auth` is not text")]
    NotText,
    #[error("`auth` is not `name:password` in base64")]
    NoPassword,
}

impl AuthText {
    fn credentials(self) -> Result<Option<Credentials>, AuthTextError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(Credentials::Registry(Secret::new(token))));
        }
        let (username, password) = match given(self.auth) {
            Some(auth) => decode(&auth)?,
            None => (self.username.unwrap_or_default(), self.password.unwrap_or_default()),
        };
        if let Some(token) = given(self.identitytoken) {
            return Ok(Some(Credentials::Identity { username, token: Secret::new(token) }));
        }
        let empty = username.is_empty() && password.is_empty();
        let password = Secret::new(password);
        Ok((!empty).then_some(Credentials::Password { username, password }))
    }
}

/// Base64 of `name:password`; docker forgives a missing padding and zero bytes at the end.
fn decode(auth: &str) -> Result<(String, String), AuthTextError> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, lenient)
        .decode(auth.trim())
        .map_err(|_| AuthTextError::NotBase64)?;
    let text = String::from_utf8(bytes).map_err(|_| AuthTextError::NotText)?;
    let (username, password) = text.split_once(':').ok_or(AuthTextError::NoPassword)?;
    Ok((username.into(), password.trim_end_matches('\0').into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn user(config: &DockerConfig, host: &str, path: &str) -> Option<String> {
        let found = config.credentials(&Repository::new(host, path)).await.unwrap();
        found.map(|credentials| match credentials {
            Credentials::Password { username, password } => {
                format!("{username}:{}", password.reveal())
            }
            Credentials::Identity { token, .. } => format!("identity {}", token.reveal()),
            Credentials::Registry(token) => format!("registry {}", token.reveal()),
        })
    }

    #[tokio::test]
    async fn keys_have_many_spellings() {
        let config = DockerConfig::parse(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
                "https://old.io/v2/": {"auth": "b2xkOnA6dw=="},
                "plain.io:5000": {"username": "u", "password": "p"},
                "az.io": {"auth": "MDA6", "identitytoken": "refresh"},
                "tok.io": {"registrytoken": "bearer"},
                "marked.io": {},
                "nopad.io": {"auth": "b2xkOnA6dw"}
            }, "HttpHeaders": {"x": "y"}, "psFormat": "z"}"#,
        )
        .unwrap();
        for (host, expected) in [
            ("docker.io", Some("hub:pw")),
            ("registry-1.docker.io", Some("hub:pw")),
            ("old.io", Some("old:p:w")),
            ("nopad.io", Some("old:p:w")),
            ("plain.io:5000", Some("u:p")),
            ("plain.io", None),
            ("az.io", Some("identity refresh")),
            ("tok.io", Some("registry bearer")),
            ("marked.io", None),
        ] {
            assert_eq!(user(&config, host, "a/b").await.as_deref(), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn the_longest_path_wins_and_siblings_get_nothing() {
        let config = DockerConfig::parse(
            r#"{"auths": {
                "q.io/team": {"username": "team", "password": ""},
                "q.io/team/app": {"username": "app", "password": ""},
                "docker.io/me": {"username": "me", "password": ""}
            }}"#,
        )
        .unwrap();
        assert_eq!(user(&config, "q.io", "team/app").await.as_deref(), Some("app:"));
        assert_eq!(user(&config, "q.io", "team/app/x").await.as_deref(), Some("app:"));
        assert_eq!(user(&config, "q.io", "team/apps").await.as_deref(), Some("team:"));
        assert_eq!(user(&config, "q.io", "teams/x").await, None);
        assert_eq!(user(&config, "q.io", "other").await, None);
        assert_eq!(user(&config, "docker.io", "me/x").await.as_deref(), Some("me:"));
        assert_eq!(user(&config, "docker.io", "library/x").await, None);
    }

    #[tokio::test]
    async fn the_first_file_that_knows_wins() {
        let of = |name: &str| {
            let text = format!(r#"{{"auths": {{"r.io": {{"username": "{name}"}}}}}}"#);
            DockerConfig::parse(&text).unwrap()
        };
        let empty = DockerConfig::parse("{}").unwrap();
        let merged = empty.merge(of("first")).merge(of("second"));
        assert_eq!(user(&merged, "r.io", "x").await.as_deref(), Some("first:"));
        let given = Credentials::Password { username: "me".into(), password: Secret::new("") };
        let merged = merged.with_credentials("r.io", given);
        assert_eq!(user(&merged, "r.io", "x").await.as_deref(), Some("me:"));
    }

    #[tokio::test]
    async fn a_blank_text_is_one_without_credentials() {
        for text in ["", " ", "\n", "\r\n\t"] {
            let config = DockerConfig::parse(text).unwrap();
            assert_eq!(user(&config, "r.io", "x").await, None, "{text:?}");
        }
        assert!(DockerConfig::parse("x").is_err());
    }

    #[test]
    fn errors_and_debug_show_no_secret() {
        for text in [
            r#"{"auths": {"r.io": {"auth": "hunter2!"}}}"#,
            r#"{"auths": {"r.io": "hunter2"}}"#,
            r#"{"auths": {"r.io": {"auth": "aHVudGVyMg=="}}}"#,
        ] {
            let error = DockerConfig::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("aHVu"), "{error}");
        }
        let config = DockerConfig::parse(r#"{"auths": {"r": {"password": "hunter2"}}}"#).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
