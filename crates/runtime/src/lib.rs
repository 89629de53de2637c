//! Runs one process in a container, as a Dockerfile's `RUN` wants it: no runc, no daemon, nothing left mounted.
//!
//! Receives a [`Container`]: a root (layers and an upper directory, or a plain folder), a command line, an
//! environment, a user, mounts. [`Runtime::run`] hands over a [`Finished`]: how the process ended, while its output went
//! to a callback. [`Runtime::start_container`] hands over the running container: streams, signals, further commands.
//!
//! The work is done by kiln's own binary, started again under another name ([`init_if_asked`]): fork and clone followed
//! by Rust code hang or corrupt in a process with threads, a fresh process has one. That init process makes the
//! container and waits. Its isolation is one of three rungs, decided in [`ladder`]: `namespaces`, `chroot` and `in_place`
//! are the folders of this crate; `init` holds the parts that all rungs share.
//!
//! Invariants:
//! - every mount lives in the container's private mount namespace: whatever crashes, the host's mounts never change;
//! - the whole tree ends with the first of its parts: the init process watches its end of a socket and kills the command
//!   when kiln is gone, and the processes that it has started die with the init process;
//! - paths inside the root are resolved inside the root, component by component, symbolic links included;
//! - mount points made here are removed from the upper directory after the run.
//!
//! A command gets Docker's capabilities and a seccomp filter (`init::filter`); mounts are made by mount(2), and only
//! their attributes by the newer mount_setattr(2). Not done: resource limits by cgroup.

mod cgroup;
mod child_guard;
mod chroot;
mod container;
mod container_process;
mod descriptors;
mod error;
mod etc;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub mod fuzzing;
mod id_mapping;
mod identity;
mod in_place;
mod init;
pub mod ladder;
mod line;
mod namespaces;
mod passing;
mod privilege;
mod reports;
mod root_access;
mod run;
mod runtime;
mod streams;
mod sys;
mod userns;
mod wire;

pub use container::{
    Container, ExecCommand, FileContent, Mount, MountKind, Network, Overlay, RootSource, Security,
    Stream, Streams, TerminalSize, Ulimit, Writable,
};
pub use container_process::{ContainerProcess, RunningContainer};
pub use descriptors::take_descriptors;
pub use error::Error;
pub use id_mapping::{IdMapping, IdRange};
pub use init::init_if_asked;
pub use init::walk::make_folders;
pub use ladder::{Isolation, LadderError, WantedIsolation};
pub use privilege::{Privilege, UsernsError};
pub use reports::{Exit, Finished};
pub use root_access::RootAccess;
pub use runtime::{OpenHold, Runtime, RuntimeOptions};
pub use streams::{ContainerInput, ContainerOutput};
pub use sys::{return_free_memory, share_heaps};
pub use userns::reexec_in_userns;
