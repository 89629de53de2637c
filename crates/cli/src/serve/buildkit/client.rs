//! Folders, secrets, agents and logins of a session, for its builds.

use std::io;
use std::sync::Arc;

use build::{
    AgentStream, BroughtFolder, ClientError, CredentialSource, FolderQuery, FolderSource,
    PolicySource, SourcePolicy,
};
use registry::{Credentials, LoginSource};
use service::{BoxFuture, ClientSession, Contexts, FileSelection, RawSource};

/// A folder of a session.
pub(super) struct SessionFolder {
    pub(super) session: Arc<ClientSession>,
    pub(super) contexts: Contexts,
    /// The client's name of it.
    pub(super) name: String,
}

impl FolderSource for SessionFolder {
    fn bring(&self, query: FolderQuery<'_>) -> Result<BroughtFolder, ClientError> {
        let selection = FileSelection {
            name: self.name.clone(),
            follow_paths: query.follow_paths.to_vec(),
            include_patterns: Vec::new(),
            exclude_patterns: query.excludes.to_vec(),
        };
        let (lease, received) = self
            .contexts
            .receive(&self.session, &selection)
            .map_err(|error| ClientError::new(oci::chain_text(&error)))?;
        let path = lease.path().to_owned();
        Ok(BroughtFolder { path, bytes: received.bytes, hold: Arc::new(lease) })
    }
}

/// The secrets and agents of a session.
pub(super) struct SessionCredentials(pub(super) Arc<ClientSession>);

fn refused(status: impl std::fmt::Display) -> ClientError {
    ClientError::new(status.to_string())
}

impl CredentialSource for SessionCredentials {
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, ClientError>> {
        Box::pin(async move {
            let secret = self.0.secret(id).await;
            secret.map_err(|status| refused(format!("secret `{id}`: {}", status.message())))
        })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, ClientError>> {
        Box::pin(async move {
            let found = self.0.has_agent(id).await;
            found.map_err(|status| refused(format!("agent `{id}`: {}", status.message())))
        })
    }

    fn agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, io::Result<Box<dyn AgentStream>>> {
        Box::pin(async move {
            let stream = self.0.agent(id).await?;
            Ok(Box::new(stream) as Box<dyn AgentStream>)
        })
    }
}

/// The policy of a session.
pub(super) struct SessionPolicy(pub(super) Arc<ClientSession>);

impl SourcePolicy for SessionPolicy {
    fn check<'a>(&'a self, source: &'a PolicySource) -> BoxFuture<'a, Result<(), ClientError>> {
        Box::pin(async move {
            let raw = RawSource {
                identifier: source.identifier.clone(),
                attributes: source.attributes.clone(),
            };
            let checked = self.0.check_source(&raw, &source.platform).await;
            checked.map_err(|status| refused(status.message()))
        })
    }
}

/// The logins of a session.
#[derive(Debug)]
pub(super) struct SessionLogins(pub(super) Arc<ClientSession>);

impl LoginSource for SessionLogins {
    fn login<'a>(&'a self, host: &'a str) -> BoxFuture<'a, registry::Result<Option<Credentials>>> {
        Box::pin(async move {
            let login = self.0.login(host).await.map_err(|status| registry::Error::Setting {
                setting: format!("the client's login for `{host}`"),
                reason: status.message().to_owned(),
            })?;
            Ok(login.map(|login| {
                let secret = registry::Secret::new(login.secret);
                if login.username.is_empty() {
                    Credentials::Identity { username: String::new(), token: secret }
                } else {
                    Credentials::Password { username: login.username, password: secret }
                }
            }))
        })
    }
}
