//! GitHub's cache service, as BuildKit uses it (`cache/remotecache/gha`, and the protocol in
//! tonistiigi/go-actions-cache `api.md`): both versions of its interface.
//!
//! Entries are written once and found by prefix. A layer is an entry; so is each new config, with a
//! number that grows.

mod protocol;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join_all};
use oci::{Descriptor, Digest};
use serde::Deserialize;
use store::Place as BlobPlace;
use transfer::{Remote, RemoteError, RemoteStream};

use super::contents::{annotated_config, contents_of};
use super::secret::Credentials;
use super::wire::watched;
use super::{Contents, Documents, Stored};
use crate::Error;
use crate::import::{CONFIG_LIMIT, parse};
use protocol::{Content, Protocol, Reserved};

/// A number that was taken and never written stops others for so long.
const BLOCKED: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(2);
/// A token may read a few branches' caches, not many.
const MOST_SCOPES: usize = 16;

/// The token's name in [`Credentials`].
pub const GITHUB_TOKEN: &str = "ACTIONS_RUNTIME_TOKEN";

/// Which interface of the service is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GithubVersion {
    /// `_apis/artifactcache`.
    One,
    /// Twirp, and Azure's block blobs.
    Two,
}

/// How GitHub's cache service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubSettings {
    /// The service's address.
    pub url: String,
    /// Its interface.
    pub version: GithubVersion,
    /// The name of the cache.
    pub scope: String,
    /// How long a request may take, with all its repetitions.
    pub timeout: Duration,
    /// The token, as [`GITHUB_TOKEN`].
    pub credentials: Credentials,
}

/// A cache in GitHub's cache service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GithubPlace(Arc<Github>);

#[derive(Debug)]
struct Github {
    name: String,
    settings: GithubSettings,
    protocol: Protocol,
    scopes: Vec<Scope>,
}

/// A branch whose entries a token opens.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scope {
    scope: String,
    permission: u32,
}

#[derive(Deserialize)]
struct Claims {
    ac: String,
}

impl GithubPlace {
    /// A cache in GitHub's cache service. Nothing is asked yet.
    ///
    /// # Errors
    /// If the token is none of GitHub's runtime tokens.
    pub fn new(settings: GithubSettings, client: &registry::Client) -> Result<Self, Error> {
        let name = format!("gha:{}", settings.scope);
        let wrong = |what: &str| Error::Settings { place: name.clone(), what: what.into() };
        let token = settings.credentials.get(GITHUB_TOKEN).unwrap_or_default();
        let scopes = scopes(token).ok_or_else(|| {
            wrong(
                "the token says nothing of what it opens: it is not that of ACTIONS_RUNTIME_TOKEN",
            )
        })?;
        let protocol = Protocol::new(client.clone(), &settings)
            .map_err(|_| wrong("the address of the service is none"))?;
        Ok(Self(Arc::new(Github { name, protocol, scopes, settings })))
    }

    /// How people call it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where its layers are.
    pub fn remote(&self) -> Arc<dyn Remote> {
        self.0.clone()
    }

    pub(super) async fn read(&self) -> Result<Stored, Error> {
        let scopes = self.0.scopes.iter().take(MOST_SCOPES);
        let indexes = scopes.map(|scope| self.0.index(&scope.scope));
        let documents: Vec<Vec<u8>> = try_join_all(indexes).await?.into_iter().flatten().collect();
        let Some(first) = documents.first() else {
            return Err(Error::Absent { place: self.0.name.clone() });
        };
        let place = BlobPlace::Remote(self.0.name.as_str().into());
        let mut contents = Contents::default();
        for document in &documents {
            contents.append(contents_of(parse(document, "config")?, &place));
        }
        Ok(Stored { contents, digest: Digest::of(first), bytes: first.clone() })
    }

    pub(super) fn documents(&self, contents: &Contents) -> Result<Documents, Error> {
        Ok(Documents::config(annotated_config(contents)?))
    }

    pub(super) async fn put(&self, documents: &Documents) -> Result<(), Error> {
        let scope = self.0.scopes.iter().rev().find(|scope| scope.permission & 2 != 0);
        let scope = scope.map_or("", |scope| scope.scope.as_str());
        self.0.put_index(&self.0.index_key(scope), &documents.config).await
    }
}

/// What a token opens: its claim `ac`. Its signature is the service's matter.
fn scopes(token: &str) -> Option<Vec<Scope>> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    serde_json::from_str(&claims.ac).ok()
}

impl Github {
    fn failed(&self, what: &str, error: RemoteError) -> Error {
        let text = self.settings.credentials.hide(&graph::chain_text(&*error));
        Error::Place { place: self.name.clone(), what: format!("{what}: {text}") }
    }

    fn index_key(&self, scope: &str) -> String {
        format!("index-{}-1-{}", self.settings.scope, &Digest::of(scope).hex()[..8])
    }

    async fn index(&self, scope: &str) -> Result<Option<Vec<u8>>, Error> {
        let failed = |error| self.failed("read the cache", error);
        let key = format!("{}#", self.index_key(scope));
        let Some(entry) = self.protocol.find(&key).await.map_err(failed)? else { return Ok(None) };
        let bytes = self.protocol.bytes(&entry, CONFIG_LIMIT).await.map_err(failed)?;
        Ok(Some(bytes))
    }

    async fn put_index(&self, key: &str, bytes: &[u8]) -> Result<(), Error> {
        let failed = |error| self.failed("write the cache", error);
        let prefix = format!("{key}#");
        let began = Instant::now();
        let mut skipped = 0;
        loop {
            let last = self.protocol.find(&prefix).await.map_err(failed)?;
            let last = last.and_then(|entry| entry.key.strip_prefix(&prefix)?.parse::<u64>().ok());
            let number = last.unwrap_or(0) + 1 + skipped;
            match self.protocol.reserve(&format!("{prefix}{number}")).await.map_err(failed)? {
                Some(reserved) => return self.fill(reserved, bytes).await.map_err(failed),
                // Another build writes; or wrote half of it and will never be done.
                None if began.elapsed() > BLOCKED => skipped += 1,
                None => tokio::time::sleep(PAUSE).await,
            }
            if skipped > 100 {
                return Err(failed("every number is taken".into()));
            }
        }
    }

    async fn fill(&self, reserved: Reserved, bytes: &[u8]) -> Result<(), RemoteError> {
        self.protocol.fill(&reserved, Content::Bytes(bytes)).await
    }
}

fn blob_key(blob: &Descriptor) -> String {
    format!("buildkit-blob-1-{}", blob.digest)
}

impl Remote for Github {
    fn name(&self) -> &str {
        &self.name
    }

    fn open<'a>(
        &'a self,
        blob: &'a Descriptor,
    ) -> BoxFuture<'a, Result<RemoteStream, RemoteError>> {
        Box::pin(async {
            let entry = self.protocol.find(&blob_key(blob)).await?;
            let entry = entry.ok_or("the service has no such entry")?;
            let stream = self.protocol.download(&entry, 0).await?;
            let client = self.protocol.client().clone();
            Ok(Box::pin(watched(client, stream.boxed())) as RemoteStream)
        })
    }

    fn has<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(async {
            let key = blob_key(blob);
            let entry = self.protocol.find(&key).await?;
            Ok(entry.is_some_and(|entry| entry.key == key))
        })
    }

    fn put<'a>(
        &'a self,
        blob: &'a Descriptor,
        file: &'a Path,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            match self.protocol.reserve(&blob_key(blob)).await? {
                Some(reserved) => {
                    self.protocol.fill(&reserved, Content::File(file, blob.size)).await
                }
                // Another build has it, or is about to.
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_opens() {
        let claims = serde_json::json!({
            "ac": r#"[{"Scope":"refs/heads/x","Permission":3},{"Scope":"refs/heads/main","Permission":1}]"#,
            "exp": 1,
        });
        let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let found = scopes(&token).unwrap();
        assert_eq!(
            (found.len(), found[0].scope.as_str(), found[1].permission),
            (2, "refs/heads/x", 1)
        );
        assert!(scopes("x").is_none() && scopes("a.b.c").is_none());
    }
}
