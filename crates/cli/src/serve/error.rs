//! Errors of a service that does not start.

use std::io;
use std::path::PathBuf;

use service::HistoryError;

use crate::machine::MachineError;
use crate::render::CommandError;
use crate::settings::ConfigError;

/// A service that could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address that is none.
    #[error("`{text}` is no address: {reason}")]
    Address {
        /// The text.
        text: String,
        /// The reason.
        reason: &'static str,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Another process listens on a socket.
    #[error("cannot listen on {address}: another service does")]
    Taken {
        /// The address.
        address: String,
    },
    /// There is no such group.
    #[error("there is no group `{0}`")]
    Group(String),
    /// A file that cannot be read or written.
    #[error("cannot use `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificates or a key that are none.
    #[error("cannot use `{}`: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// TLS that cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// Sockets that systemd passes and that are none.
    #[error("cannot use the sockets of LISTEN_FDS: {0}")]
    Inherited(String),
    /// The root, or the client for registries.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder of clients' contexts.
    #[error("opening the contexts of clients: {0}")]
    Contexts(#[source] io::Error),
    /// The records of builds.
    #[error("{}", oci::chain_text(.0))]
    History(#[from] HistoryError),
    /// Containers that cannot be opened, or a folder that cannot be granted to them.
    #[error("`--allow-bind`: {0}")]
    Bind(#[source] ::containers::BindError),
    /// The records of containers.
    #[error("opening containers: {}", oci::chain_text(.0))]
    Containers(#[source] ::containers::Error),
    /// Threads that cannot be started.
    #[error("starting threads: {0}")]
    Threads(#[source] io::Error),
    /// Signals that cannot be caught.
    #[error("watching for signals: {0}")]
    Signals(#[source] io::Error),
}

impl From<::containers::Error> for ServeError {
    fn from(error: ::containers::Error) -> Self {
        match error {
            ::containers::Error::Bind(error) => Self::Bind(error),
            other => Self::Containers(other),
        }
    }
}

impl CommandError for ServeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Machine(error) => error.hint(),
            _ => None,
        }
    }
}
