//! The reasons why a path gives no agent.

use std::io;
use std::path::PathBuf;

/// A path that gives no agent.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {source}", path.display())]
pub struct SshAgentError {
    /// The path.
    pub path: PathBuf,
    /// The reason.
    pub source: KeyError,
}

/// The reason why a file is no private key that can be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A socket was given together with other paths.
    #[error("an agent's socket stands alone, without others or keys")]
    SocketAmongOthers,
    /// The file is larger than any key.
    #[error("it is too large to be a key")]
    TooLarge,
    /// The file has no armour.
    #[error("it is neither an agent's socket nor a private key")]
    NotArmoured,
    /// The key has a passphrase.
    #[error(
        "the private key has a passphrase, and kiln asks for none; add it to an agent (ssh-add) and give the agent's socket"
    )]
    Encrypted,
    /// The content does not have the form that its armour promises.
    #[error("the private key is damaged")]
    Damaged,
    /// The content of a general form is damaged, or of another algorithm.
    #[error("the private key is damaged, or of a kind that is not known")]
    DamagedOrUnknown,
    /// The public half cannot be read.
    #[error("the private key's public half makes no sense")]
    PublicHalf,
    /// The file has no key, or several.
    #[error("there is not exactly one key in it")]
    NotOneKey,
    /// The key is for another algorithm.
    #[error("keys of kind `{0}` are not known; RSA, ECDSA and Ed25519 are")]
    UnknownKind(String),
}
