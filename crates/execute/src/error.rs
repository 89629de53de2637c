//! Why a step cannot run.

use oci::Digest;
use runtime::ladder::Unavailable;
use tree::TreeError;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command ended badly.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    ExitCode {
        /// The command, in one line.
        command: String,
        /// The exit code.
        code: i32,
        /// True if it tried to change its root once more, which was refused.
        refused_root: bool,
    },
    /// The command was ended by a signal.
    #[error("process {command:?} did not complete successfully: {signal}")]
    Signal {
        /// The command, in one line.
        command: String,
        /// The signal, in words.
        signal: String,
    },
    /// The command could not be started.
    #[error("process {command:?} could not run: {source}")]
    Container {
        /// The command, in one line.
        command: String,
        /// Why.
        source: runtime::Error,
    },
    /// The program is for another processor, and the kernel has no emulator for it.
    #[error(
        "process {command:?} could not run: its program is for {platform}, this machine is {host}, and no handler for such programs is registered here (binfmt_misc): register one with `docker run --privileged --rm tonistiigi/binfmt --install all` or Debian's package qemu-user-static, or let the stage run on this machine with `FROM --platform=$BUILDPLATFORM` and cross-compile"
    )]
    ForeignProgram {
        /// The command, in one line.
        command: String,
        /// The step's platform.
        platform: oci::Platform,
        /// This machine's platform.
        host: oci::Platform,
    },
    /// A command would need what this process may not do.
    #[error("RUN is not possible here: {source}")]
    NoIsolation {
        /// The missing capability.
        source: Unavailable,
    },
    /// The client does not give what the step needs.
    #[error(transparent)]
    Client(#[from] crate::ClientError),
    /// A layer could not be brought here.
    #[error(transparent)]
    Layer(#[from] transfer::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The context cannot be read.
    #[error("failed to load build context: {0}")]
    Context(#[from] tree::WalkError),
    /// A file that a step reads is missing, or cannot be read.
    #[error("failed to compute cache key: {0}")]
    Content(#[from] tree::DigestError),
    /// Layers do not fit together.
    #[error("damaged layers: {0}")]
    Tree(#[from] TreeError),
    /// Files could not be copied.
    #[error(transparent)]
    Files(#[from] crate::files::FilesError),
    /// A file could not be downloaded.
    #[error("`{url}`: {reason}")]
    Download {
        /// From where, without what may be secret.
        url: String,
        /// Why.
        reason: String,
    },
    /// A repository could not be fetched or checked out.
    #[error("`{remote}`: {reason}")]
    Git {
        /// Its address, without a password.
        remote: String,
        /// Why.
        reason: String,
    },
    /// A file of what a step left could not be read.
    #[error("read `{path}`: {reason}")]
    ReadFile {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A cache mount could not be held.
    #[error("cache mount `{id}`: {source}")]
    CacheMount {
        /// The secret's id.
        id: String,
        /// Why.
        source: std::io::Error,
    },
    /// A secret that the step needs was not given.
    #[error("secret {id}: not found")]
    NoSecret {
        /// The secret's id.
        id: String,
    },
    /// An ssh agent that the step needs was not given.
    #[error("unset ssh forward key {id}; give it with `--ssh {id}`")]
    NoAgent {
        /// The agent's id.
        id: String,
    },
    /// The socket for an ssh agent could not be made.
    #[error("ssh agent {id}: {source}")]
    Agent {
        /// The secret's id.
        id: String,
        /// Why.
        source: std::io::Error,
    },
    /// The secret is not valid UTF-8, or not usable as a value.
    #[error("secret {id}: as an environment variable it must be text without zero bytes")]
    SecretNotText {
        /// The secret's id.
        id: String,
    },
    /// The step was to be found, and was not.
    #[error("the step is not cached, and `--require-cached` does not let it run")]
    NotCached,
    /// The unsupported feature.
    #[error("{0}")]
    Unsupported(String),
    /// The caller ended the build.
    #[error("context canceled")]
    Canceled,
}

impl Error {
    /// The layers, by diffID, that cannot be had, if it is that.
    pub fn lost_layers(&self) -> Vec<Digest> {
        match self {
            // A transparent error is not its own source.
            Self::Layer(error) => transfer::lost_layers(error),
            error => transfer::lost_layers(error),
        }
    }
}
