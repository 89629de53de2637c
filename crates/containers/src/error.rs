//! Errors about containers.

use std::io;
use std::path::{Path, PathBuf};

use crate::{BindError, ContainerId, ContainerName};

/// An error about a container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container has that name or ID.
    #[error("No such container: {0}")]
    NotFound(String),
    /// No exec has that ID.
    #[error("No such exec instance: {0}")]
    NoExec(String),
    /// A further command was started before.
    #[error("exec {0} has already been started")]
    ExecStarted(ContainerId),
    /// A container has as many further commands as it may have.
    #[error("the container runs {0} commands, and no more are started in it")]
    TooManyExecs(usize),
    /// Several containers have an ID that begins so.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// A text is no name.
    #[error(
        "invalid container name ({0}): a letter or a digit, then letters, digits, `_`, `.` and `-`"
    )]
    Name(String),
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or \
         rename) that container to be able to reuse that name"
    )]
    NameTaken {
        /// The name.
        name: ContainerName,
        /// The container that has it.
        id: ContainerId,
    },
    /// There are as many containers as there may be.
    #[error("there are {0} containers, and no more are kept: remove some (`docker rm`)")]
    TooMany(usize),
    /// Neither the image nor the caller says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A setting that is wrong.
    #[error("{0}")]
    Setting(String),
    /// A folder that may not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The container runs.
    #[error("container {id} is running: {hint}")]
    Running {
        /// The container.
        id: ContainerId,
        /// The way out.
        hint: &'static str,
    },
    /// The container does not run.
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    /// Another process has the container.
    #[error(
        "container {0} runs in another process: `kiln serve` has to be asked for it (DOCKER_HOST)"
    )]
    Elsewhere(ContainerId),
    /// A path does not exist in the container.
    #[error("Could not find the file {path} in container {id}")]
    NoPath {
        /// The path.
        path: String,
        /// The container.
        id: ContainerId,
    },
    /// An archive's destination is no folder.
    #[error("extraction point is not a directory: {0}")]
    NoFolder(String),
    /// An archive would put a folder in the place of something else, or the other way round.
    #[error("cannot overwrite {0}: one of the two is a directory, and the other is not")]
    Overwrite(String),
    /// The machine does not give what containers need.
    #[error(transparent)]
    Machine(Box<dyn std::error::Error + Send + Sync>),
    /// No process can be isolated here.
    #[error("{0}")]
    NoIsolation(String),
    /// The command did not start, or its end is not known.
    #[error("{}", started(.0))]
    Runtime(runtime::Error),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A layer cannot be had.
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    /// An archive cannot be read or written.
    #[error(transparent)]
    Archive(#[from] layer::Error),
    /// A path cannot be resolved.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    /// A file of this machine.
    #[error("{action} `{}`", path.display())]
    File {
        /// The operation: a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A record that is none.
    #[error("the record `{}` cannot be read", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// The error of an operation on a file.
    pub(crate) fn file<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |error| Self::File { action, path, source: error.into() }
    }

    /// The exit code of a container that did not start for this: shells' 127 for a program that is not there, 126 for
    /// one that may not be executed, docker's 128 for the rest.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Runtime(runtime::Error::ProgramNotFound { .. }) => 127,
            Self::Runtime(runtime::Error::ProgramDenied { .. }) => 126,
            _ => 128,
        }
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        Self::Runtime(error)
    }
}

/// The runtime's error in the words by which docker's client tells its exit codes 126 and 127.
fn started(error: &runtime::Error) -> String {
    match error {
        runtime::Error::ProgramNotFound { program } => {
            format!("exec: \"{program}\": executable file not found in $PATH")
        }
        runtime::Error::ProgramDenied { program } => {
            format!("exec: \"{program}\": permission denied")
        }
        other => oci::chain_text(other),
    }
}
