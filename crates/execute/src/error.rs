//! Why a step cannot run.

use oci::Digest;
use store::tree::TreeError;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command ended badly.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    ExitCode {
        /// The command, in one line.
        command: String,
        /// What it returned.
        code: i32,
        /// Whether it wanted another root, which it could not have.
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
    /// The command's program is for another processor, and the kernel has nobody who runs it.
    #[error(
        "process {command:?} could not run: its program is for {platform}, this machine is {host}, and no handler for such programs is registered here (binfmt_misc): register one with `docker run --privileged --rm tonistiigi/binfmt --install all` or Debian's package qemu-user-static, or let the stage run on this machine with `FROM --platform=$BUILDPLATFORM` and cross-compile"
    )]
    ForeignProgram {
        /// The command, in one line.
        command: String,
        /// What the step is for.
        platform: oci::Platform,
        /// What this machine is.
        host: oci::Platform,
    },
    /// A command would need what this process may not do.
    #[error("RUN is not possible here: {reason}")]
    NoIsolation {
        /// What is missing.
        reason: String,
    },
    /// A layer could not be brought here.
    #[error(transparent)]
    Layer(#[from] transfer::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The context cannot be read.
    #[error("failed to load build context: {0}")]
    Context(#[from] store::WalkError),
    /// What a step reads is not there, or cannot be read.
    #[error("failed to compute cache key: {0}")]
    Content(#[from] store::DigestError),
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
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A cache mount could not be held.
    #[error("cache mount `{id}`: {source}")]
    CacheMount {
        /// Which.
        id: String,
        /// Why.
        source: std::io::Error,
    },
    /// A secret that the step needs was not given.
    #[error("secret {id}: not found")]
    NoSecret {
        /// Which.
        id: String,
    },
    /// An ssh agent that the step needs was not given.
    #[error("unset ssh forward key {id}; give it with `--ssh {id}`")]
    NoAgent {
        /// Which.
        id: String,
    },
    /// The socket for an ssh agent could not be made.
    #[error("ssh agent {id}: {source}")]
    Agent {
        /// Which.
        id: String,
        /// Why.
        source: std::io::Error,
    },
    /// What is mounted is not a valid UTF-8 text, or not usable as a value.
    #[error("secret {id}: as an environment variable it must be text without zero bytes")]
    SecretNotText {
        /// Which.
        id: String,
    },
    /// The step was to be found, and was not.
    #[error("the step is not cached, and `--require-cached` does not let it run")]
    NotCached,
    /// What kiln cannot do.
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
            // What is transparent is not its own source.
            Self::Layer(error) => transfer::lost_layers(error),
            error => transfer::lost_layers(error),
        }
    }
}
