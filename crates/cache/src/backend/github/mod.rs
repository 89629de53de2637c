//! GitHub's cache service, as BuildKit uses it (`cache/remotecache/gha`; the protocol is in
//! tonistiigi/go-actions-cache `api.md`), in both versions of its interface.
//!
//! An entry is written once and found by a prefix of its key. A layer is an entry; so is each new
//! config, with a growing number in its key.

mod protocol;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join_all};
use oci::{Descriptor, Digest};
use registry::Client;
use serde::Deserialize;
use transfer::{Remote, RemoteError, RemoteStream};

use super::config_service::{ConfigBackend, ConfigService};
use super::credentials::BackendCredentials;
use super::wire::watched;
use super::{Backend, OpenBackend};
use crate::Error;
use crate::error::SettingsFault;
use crate::format::DOCUMENT_LIMIT;
use protocol::{EntryContent, GithubError, Protocol};

/// The time after which a number that is reserved but not written is skipped: its build may have
/// been killed.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause before the number is tried again.
const RESERVED_PAUSE: Duration = Duration::from_secs(2);
/// Numbers that are skipped at most.
const MAX_SKIPPED: u64 = 100;
/// Branches that are read. A token opens the caches of a few.
const MAX_SCOPES: usize = 16;
/// The bit of [`GithubScope::permission`] that allows writing.
const WRITE: u32 = 2;

/// The token's name in [`BackendCredentials`].
pub const GITHUB_TOKEN: &str = "ACTIONS_RUNTIME_TOKEN";

/// The version of the service's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GithubVersion {
    /// `_apis/artifactcache`.
    One,
    /// Twirp, and Azure's block blobs.
    Two,
}

/// A cache in GitHub's cache service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubSettings {
    /// The service's address.
    pub url: String,
    /// The version of its interface.
    pub version: GithubVersion,
    /// The name of the cache.
    pub scope: String,
    /// The timeout of a request with all its retries.
    pub timeout: Duration,
    /// The token, as [`GITHUB_TOKEN`].
    pub credentials: BackendCredentials,
}

impl OpenBackend for GithubSettings {
    fn name(&self) -> String {
        format!("gha:{}", self.scope)
    }

    fn identity(&self) -> String {
        format!("gha:{} at {}", self.scope, self.url)
    }

    fn open(&self, client: &Client) -> Result<Arc<dyn Backend>, Error> {
        let name = self.name();
        let refused = |fault| Error::Settings { backend: name.clone(), fault };
        let token = self.credentials.get(GITHUB_TOKEN).unwrap_or_default();
        let scopes = scopes(token).ok_or_else(|| refused(SettingsFault::Token))?;
        let protocol = Protocol::new(client.clone(), self);
        let protocol = protocol.map_err(|_| refused(SettingsFault::Address))?;
        let github = Github { name, protocol, scopes, settings: self.clone() };
        Ok(Arc::new(ConfigBackend::new(github)))
    }
}

#[derive(Debug)]
struct Github {
    name: String,
    settings: GithubSettings,
    protocol: Protocol,
    scopes: Vec<GithubScope>,
}

/// A branch whose entries a token gives access to.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GithubScope {
    scope: String,
    permission: u32,
}

#[derive(Deserialize)]
struct Claims {
    ac: String,
}

/// The scopes in a token's claim `ac`. The service checks the signature.
fn scopes(token: &str) -> Option<Vec<GithubScope>> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    serde_json::from_str(&claims.ac).ok()
}

impl Github {
    fn failed(&self, action: &str, error: &GithubError) -> Error {
        let text = self.settings.credentials.redact(error);
        Error::Backend { backend: self.name.clone(), what: format!("{action}: {text}") }
    }

    /// The key of a branch's configs, without `#` and the number.
    fn config_key(&self, scope: &str) -> String {
        format!("index-{}-1-{}", self.settings.scope, &Digest::of(scope).hex()[..8])
    }

    /// The newest config of a branch.
    async fn config(&self, scope: &str) -> Result<Option<Bytes>, GithubError> {
        let key = format!("{}#", self.config_key(scope));
        let Some(entry) = self.protocol.find(&key).await? else { return Ok(None) };
        self.protocol.bytes(&entry, DOCUMENT_LIMIT).await.map(|bytes| Some(bytes.into()))
    }

    /// Writes a config under the next free number.
    async fn put_numbered(&self, key: &str, config: &[u8]) -> Result<(), GithubError> {
        let prefix = format!("{key}#");
        let began = Instant::now();
        let mut skipped = 0;
        while skipped <= MAX_SKIPPED {
            let last = self.protocol.find(&prefix).await?;
            let last = last.and_then(|entry| entry.key.strip_prefix(&prefix)?.parse::<u64>().ok());
            let number = last.unwrap_or(0) + 1 + skipped;
            match self.protocol.reserve(&format!("{prefix}{number}")).await? {
                Some(reserved) => {
                    return self.protocol.fill(&reserved, EntryContent::Bytes(config)).await;
                }
                None if began.elapsed() > RESERVED_TIMEOUT => skipped += 1,
                None => tokio::time::sleep(RESERVED_PAUSE).await,
            }
        }
        Err(GithubError::NoFreeNumber)
    }
}

#[async_trait]
impl ConfigService for Github {
    fn identity(&self) -> String {
        OpenBackend::identity(&self.settings)
    }

    fn export_name(&self) -> &'static str {
        "exporting to GitHub Actions Cache"
    }

    async fn configs(&self) -> Result<Vec<Bytes>, Error> {
        let scopes = self.scopes.iter().take(MAX_SCOPES);
        let configs = try_join_all(scopes.map(|scope| self.config(&scope.scope))).await;
        let configs = configs.map_err(|error| self.failed("read the cache", &error))?;
        Ok(configs.into_iter().flatten().collect())
    }

    async fn put_config(&self, config: Bytes) -> Result<(), Error> {
        let scope = self.scopes.iter().rev().find(|scope| scope.permission & WRITE != 0);
        let scope = scope.map_or("", |scope| scope.scope.as_str());
        let put = self.put_numbered(&self.config_key(scope), &config).await;
        put.map_err(|error| self.failed("write the cache", &error))
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
            let entry = entry.ok_or(GithubError::NoEntry)?;
            let stream = self.protocol.download(&entry).await?;
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
                    let content = EntryContent::File(file, blob.size);
                    Ok(self.protocol.fill(&reserved, content).await?)
                }
                // Another build has sent it, or is sending it.
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lists_its_scopes() {
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
