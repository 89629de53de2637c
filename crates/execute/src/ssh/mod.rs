//! SSH agents of the caller: a running agent, or keys from files that kiln serves itself. A command
//! gets a socket of kiln's own, which forwards requests for the list of keys and for signatures and
//! refuses all others.

mod agent;
mod der;
mod error;
mod forward;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub mod fuzzing;
mod key;
mod keyring;
mod pem;
mod wire;

pub use agent::{ClientAgent, SshAgent, SshKeys};
pub use error::{KeyError, SshAgentError};
pub(crate) use forward::{Forward, SocketOwner, own_ids};
