//! The caller's credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;
use crate::client::ClientCredentials;
use crate::ssh::{ClientAgent, SshAgent};

/// The caller's secrets, agents and host keys, for commands and sources.
#[derive(Clone, Default)]
pub struct BuildCredentials {
    /// Secrets by id.
    pub secrets: BTreeMap<String, Arc<[u8]>>,
    /// SSH agents by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// Host keys that the caller knows, for git over ssh.
    pub known_hosts: Option<PathBuf>,
    /// The client that has the others.
    pub client: Option<ClientCredentials>,
}

impl BuildCredentials {
    /// A secret, if the caller or the client has it.
    ///
    /// # Errors
    /// If the client does not answer.
    pub(crate) async fn secret(&self, id: &str) -> Result<Option<Arc<[u8]>>, Error> {
        match (self.secrets.get(id), &self.client) {
            (Some(value), _) => Ok(Some(value.clone())),
            (None, Some(client)) => Ok(client.0.secret(id).await?.map(Into::into)),
            (None, None) => Ok(None),
        }
    }

    /// An agent, if the caller or the client has it.
    ///
    /// # Errors
    /// If the client does not answer.
    pub(crate) async fn agent(&self, id: &str) -> Result<Option<SshAgent>, Error> {
        match (self.ssh.get(id), &self.client) {
            (Some(agent), _) => Ok(Some(agent.clone())),
            (None, Some(client)) if client.0.has_agent(id).await? => {
                Ok(Some(SshAgent::Client(ClientAgent::new(client.clone(), id))))
            }
            (None, _) => Ok(None),
        }
    }
}
