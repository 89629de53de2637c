//! SSH agents of the caller: a running agent, or keys from files that kiln serves itself. A command
//! gets a socket of kiln's own, which forwards requests for the list of keys and for signatures and
//! refuses all others.

mod der;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod key;
mod keyring;
mod pem;
mod wire;

use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use forward::{Forward, SocketOwner, own_ids};
use keyring::Keyring;

/// Larger files are no keys (BuildKit's limit).
const LARGEST_KEY: u64 = 100 << 10;

/// An agent of the caller's.
#[derive(Clone, Debug)]
pub enum SshAgent {
    /// The socket of one that runs.
    Socket(PathBuf),
    /// Keys that were read from files.
    Keys(SshKeys),
}

/// Keys for which kiln is the agent; never printed.
#[derive(Clone)]
pub struct SshKeys(Arc<Keyring>);

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
    /// A sentence that names the path, and says what is wrong with it.
    pub fn open(paths: &[PathBuf]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for path in paths {
            let named = |what: String| format!("`{}`: {what}", path.display());
            let metadata = path.metadata().map_err(|error| named(error.to_string()))?;
            if !metadata.file_type().is_socket() {
                keys.push(read(path).and_then(|bytes| key::Key::parse(&bytes)).map_err(named)?);
            } else if paths.len() > 1 {
                return Err(named("an agent's socket stands alone, without others or keys".into()));
            } else {
                return Ok(Self::Socket(path.clone()));
            }
        }
        Ok(Self::Keys(SshKeys(Arc::new(Keyring::new(keys)))))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_KEY + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    match bytes.len() as u64 > LARGEST_KEY {
        true => Err("it is too large to be a key".into()),
        false => Ok(bytes),
    }
}
