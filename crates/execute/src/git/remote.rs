//! A repository's address, and the credentials for it.
//!
//! git sends a configured header wherever a redirect leads (`http_init` in git's `http.c` uses the
//! headers of the first address for all). Therefore redirects are followed here, before git starts,
//! and git itself follows none that could receive credentials.

use base64::Engine as _;
use graph::GitSource;
use oci::{WebAddress, shown_text};
use registry::{Secret, WebRequest};

use crate::Error;
use crate::credentials::BuildCredentials;
use crate::source_fetcher::SourceFetcher;

/// git's first request, and the one by which it accepts a redirect (gitprotocol-http, "smart
/// server").
const FIRST: &str = "info/refs";
const SERVICE: &str = "service=git-upload-pack";

/// A repository's address as git gets it.
#[derive(Clone, Debug)]
pub(crate) struct GitRemote {
    /// Without user and password.
    pub(super) address: String,
    pub(super) login: Option<GitLogin>,
    /// Another origin that it led to, which is not told who asks.
    pub(super) moved_to: Option<String>,
}

/// A login for a repository.
#[derive(Clone, Debug)]
pub(super) struct GitLogin {
    /// The value of the header `Authorization`.
    pub(super) header: Secret,
    /// Addresses below this one are told.
    pub(super) scope: String,
    /// Other texts that must not be shown.
    pub(super) secrets: Vec<Secret>,
}

impl GitRemote {
    /// The address of a source after its redirects, with the caller's credentials for it.
    ///
    /// # Errors
    /// If the address is invalid, or its credentials are not text.
    pub(crate) async fn of(fetcher: &SourceFetcher<'_>, source: &GitSource) -> Result<Self, Error> {
        let is_web = ["http://", "https://"].into_iter().any(|scheme| {
            source.remote.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme))
        });
        if !is_web {
            let address = source.remote.clone();
            return Ok(Self { address, login: None, moved_to: None });
        }
        let address = source.remote.parse::<WebAddress>();
        let mut address = address.map_err(|error| failed(source, error.to_string()))?;
        let user = address.take_user();
        let login = match login(fetcher.credentials, &address).await? {
            Some(login) => Some(login),
            None => user.map(|pair| of_user(&address, &pair)),
        };
        let remote = Self { address: address.as_str().to_owned(), login, moved_to: None };
        match &remote.login {
            Some(_) => remote.at_its_end(fetcher, &address).await,
            // git follows redirects itself: it has nothing to tell.
            None => Ok(remote),
        }
    }

    /// Follows redirects. If the server does not answer, git reports it.
    async fn at_its_end(
        mut self,
        fetcher: &SourceFetcher<'_>,
        from: &WebAddress,
    ) -> Result<Self, Error> {
        let url = format!("{}/{FIRST}?{SERVICE}", self.address.trim_end_matches('/'));
        let authorization = self.login.as_ref().map(|login| login.header.clone());
        let request = WebRequest { url: &url, authorization, known: None };
        let Ok(answer) = fetcher.transfer.client().web(&request).await else { return Ok(self) };
        let mut end = answer.url().clone();
        if end.as_str() == url {
            return Ok(self);
        }
        let (path, query) = (end.path().to_owned(), end.query().unwrap_or_default().to_owned());
        let Some(base) = path.strip_suffix(FIRST).filter(|_| query == SERVICE) else {
            return Ok(self);
        };
        end.set_path(base.trim_end_matches('/'));
        end.set_query(None);
        self.address = end.into();
        if !answer.is_of_origin() {
            self.moved_to = Some(shown_text(&self.address));
            self.login = None;
        } else if let Some(login) = &mut self.login
            && login.scope == from.as_str()
        {
            login.scope = self.address.clone();
        }
        Ok(self)
    }

    /// git settings that send the credentials to this server only.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let Some(GitLogin { header, scope, .. }) = &self.login else { return Vec::new() };
        vec![
            (format!("http.{scope}.extraheader"), format!("Authorization: {}", header.reveal())),
            (format!("http.{scope}.followRedirects"), "false".into()),
        ]
    }
}

/// The first of the secrets that are for this server, as BuildKit takes them.
async fn login(
    credentials: &BuildCredentials,
    address: &WebAddress,
) -> Result<Option<GitLogin>, Error> {
    let (host, with_port) = (address.authority(), address.authority_with_port());
    for (name, is_token) in [
        (format!("GIT_AUTH_HEADER.{host}"), false),
        (format!("GIT_AUTH_HEADER.{with_port}"), false),
        (format!("GIT_AUTH_TOKEN.{host}"), true),
        (format!("GIT_AUTH_TOKEN.{with_port}"), true),
        ("GIT_AUTH_HEADER".to_owned(), false),
        ("GIT_AUTH_TOKEN".to_owned(), true),
    ] {
        let Some(value) = credentials.secret(&name).await? else { continue };
        let text = std::str::from_utf8(&value).ok().map(str::trim_end);
        let text = text.filter(|text| !text.contains(['\0', '\n', '\r']));
        let text = text.ok_or_else(|| Error::SecretNotText { id: name.clone() })?;
        let mut shown = vec![Secret::new(text)];
        let header = match is_token {
            true => {
                let encoded = base64(format!("x-access-token:{text}").as_bytes());
                shown.push(Secret::new(encoded.clone()));
                format!("basic {encoded}")
            }
            false => text.to_owned(),
        };
        let scope = scope(address);
        return Ok(Some(GitLogin { header: Secret::new(header), scope, secrets: shown }));
    }
    Ok(None)
}

/// The user in an address, who asks for what is relative to it too.
fn of_user(address: &WebAddress, pair: &[u8]) -> GitLogin {
    let encoded = base64(pair);
    let text = String::from_utf8_lossy(pair);
    let (user, password) = text.split_once(':').unwrap_or((&text, ""));
    let secrets = [user, password, encoded.as_str()].map(Secret::new).into();
    GitLogin { header: Secret::new(format!("Basic {encoded}")), scope: address.origin(), secrets }
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The scope of credentials: the repository, or all of GitHub, because private submodules are usual
/// there.
fn scope(address: &WebAddress) -> String {
    match address.authority().as_str() {
        "github.com" | "www.github.com" if address.origin().starts_with("https:") => {
            address.origin()
        }
        _ => address.as_str().to_owned(),
    }
}

/// An error about a repository.
pub(super) fn failed(source: &GitSource, reason: String) -> Error {
    Error::Git { remote: shown_text(&source.remote), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_the_repository() {
        for (address, expected) in [
            ("https://github.com/o/r.git", "https://github.com/"),
            ("http://github.com/o/r.git", "http://github.com/o/r.git"),
            ("https://github.com.example.com/o/r.git", "https://github.com.example.com/o/r.git"),
            ("https://github.com@example.com/r.git", "https://github.com@example.com/r.git"),
            ("https://h:8443/r.git", "https://h:8443/r.git"),
        ] {
            assert_eq!(scope(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn git_is_told_for_one_address_and_follows_none() {
        let address: WebAddress = "https://h/r.git".parse().unwrap();
        let login = of_user(&address, b"me:pw");
        let remote = GitRemote { address: "x".into(), login: Some(login), moved_to: None };
        assert!(!format!("{remote:?}").contains("bWU6cHc="));
        let settings = remote.settings();
        assert_eq!(
            settings[0],
            ("http.https://h/.extraheader".into(), "Authorization: Basic bWU6cHc=".into())
        );
        assert_eq!(settings[1], ("http.https://h/.followRedirects".into(), "false".into()));
    }
}
