//! Runs one process in a container, as a Dockerfile's `RUN` wants it: no runc, no daemon, nothing left mounted.
//!
//! Receives a [`Container`]: a root (layers and an upper directory, or a plain folder), a command line, an
//! environment, a user, mounts. Hands over a [`Finished`]: how the process ended, while its output went to a callback.
//!
//! The work is done by kiln's own binary, started again under another name ([`init_if_asked`]): fork and clone followed
//! by Rust code hang or corrupt in a process with threads, a fresh process has one. That init process forks the
//! container's pid 1 into new namespaces and waits; the pid 1 mounts everything in its own mount namespace, pivots
//! into it, drops its privileges and becomes the command.
//!
//! Invariants:
//! - every mount lives in the container's private mount namespace: whatever crashes, the host's mounts never change;
//! - whoever ends first, the whole tree ends: the init process watches its end of a socket and kills pid 1 when kiln
//!   is gone, and pid 1 dies with the init process;
//! - paths inside the root are resolved inside the root, component by component, symbolic links included;
//! - mount points made here are removed from the upper directory after the run.
//!
//! Not done: resource limits by cgroup.

mod cgroup;
mod chroot;
mod container;
mod error;
mod etc;
#[cfg(fuzzing)]
pub mod fuzzing;
mod identity;
mod in_place;
mod init;
mod namespaces;
mod probe;
mod run;
mod standing;
mod sys;
mod wire;

pub use container::{
    Container, FileContent, Mount, MountKind, Network, Overlay, RootSource, Security, Stream,
    Ulimit, Writable,
};
pub use error::Error;
pub use identity::{IdMapping, IdRange};
pub use init::init_if_asked;
pub use init::walk::make_folders;
pub use probe::{ADVICE, Capabilities, ChrootCapabilities, Isolation};
pub use run::{Exit, Finished, Runtime, RuntimeOptions};
pub use standing::{Standing, become_namespace_root, standing};
pub use sys::share_heaps;
