//! The failures around a process in a container.

use std::io;
use std::path::PathBuf;

use crate::ladder::LadderError;

/// Why a container did not run its process to an end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is neither at its path nor in the container's `PATH`.
    #[error("executable `{program}` not found in the container")]
    ProgramNotFound {
        /// The program, as given.
        program: String,
    },
    /// The program, or the interpreter that it names, is there but may not be executed.
    #[error("permission denied to execute `{program}`")]
    ProgramDenied {
        /// The program, as given.
        program: String,
    },
    /// The kernel refused to execute the program.
    #[error("execute `{program}`")]
    Execute {
        /// The program, as given.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container's `/etc/passwd` has no such name.
    #[error("unable to find user `{user}`: no matching entry in the container's /etc/passwd")]
    NoSuchUser {
        /// The name.
        user: String,
    },
    /// The container's `/etc/group` has no such name.
    #[error("unable to find group `{group}`: no matching entry in the container's /etc/group")]
    NoSuchGroup {
        /// The name.
        group: String,
    },
    /// The source of a mount does not exist.
    #[error("mount source `{path}` not found")]
    MountSourceMissing {
        /// The path, below its source where it was given so.
        path: String,
    },
    /// One step of the preparation failed.
    #[error("set up the container: {step}")]
    Setup {
        /// The step, with its object.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container was asked for something that cannot be.
    #[error("{0}")]
    Refused(String),
    /// The container's init process could not be started.
    #[error("start the container's init process")]
    Spawn {
        /// Why.
        source: io::Error,
    },
    /// The container's init process could not be talked to.
    #[error("talk to the container's init process")]
    Talk {
        /// Why.
        source: io::Error,
    },
    /// The container's init process ended without a word: killed from outside, or a fault in kiln.
    #[error("the container's init process ended unexpectedly")]
    InitDied,
    /// Something was asked of a container that has ended.
    #[error("the container has ended")]
    ContainerEnded,
    /// The streams of a command could not be made.
    #[error("make the streams of a command")]
    Streams {
        /// Why.
        source: io::Error,
    },
    /// The directory for the runtime's state is not usable.
    #[error("prepare the runtime's directory `{}`", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The caller cancelled the run; everything in the container has ended.
    #[error("cancelled")]
    Cancelled,
    /// No isolation that the user wants works on this machine.
    #[error(transparent)]
    Ladder(#[from] LadderError),
}
