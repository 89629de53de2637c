//! The caller's agents.

use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{KeyError, SshAgentError};
use super::key::PrivateKey;
use super::keyring::Keyring;
use crate::client::{AgentStream, ClientCredentials};

/// Larger files are no keys (BuildKit's limit).
const LARGEST_KEY: u64 = 100 << 10;

/// An agent of the caller's.
#[derive(Clone, Debug)]
pub enum SshAgent {
    /// The socket of one that runs.
    Socket(PathBuf),
    /// Keys that were read from files.
    Keys(SshKeys),
    /// One that a client has.
    Client(ClientAgent),
}

/// An agent of a client.
#[derive(Clone, Debug)]
pub struct ClientAgent {
    client: ClientCredentials,
    id: String,
}

impl ClientAgent {
    /// The agent of an id.
    pub fn new(client: ClientCredentials, id: impl Into<String>) -> Self {
        Self { client, id: id.into() }
    }

    pub(super) async fn connect(&self) -> std::io::Result<Box<dyn AgentStream>> {
        self.client.0.agent(&self.id).await
    }
}

/// Keys for which kiln is the agent; never printed.
#[derive(Clone)]
pub struct SshKeys(pub(super) Arc<Keyring>);

impl std::fmt::Debug for SshKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshKeys({} keys)", self.0.len())
    }
}

impl SshAgent {
    /// The agent of a socket, or of key files without passphrase (OpenSSH's format and PEM; RSA,
    /// ECDSA and Ed25519).
    ///
    /// # Errors
    /// If a path is neither a socket nor a key without passphrase, or a socket is not alone.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SshAgentError> {
        let mut keys = Vec::new();
        for path in paths {
            let named = |source| SshAgentError { path: path.clone(), source };
            let metadata = path.metadata().map_err(|error| named(error.into()))?;
            if !metadata.file_type().is_socket() {
                keys.push(read(path).map_err(named)?);
            } else if paths.len() > 1 {
                return Err(named(KeyError::SocketAmongOthers));
            } else {
                return Ok(Self::Socket(path.clone()));
            }
        }
        Ok(Self::Keys(SshKeys(Arc::new(Keyring::new(keys)))))
    }
}

fn read(path: &Path) -> Result<PrivateKey, KeyError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_KEY + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_KEY {
        return Err(KeyError::TooLarge);
    }
    PrivateKey::parse(&bytes)
}
