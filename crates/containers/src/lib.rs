//! Containers made of images: their files, state and logs.
//!
//! Receives an image's layers and config, and what a caller wants of a container; hands over containers that are
//! started, attached to, waited for, stopped, copied from and removed. A container is a chain of layers (the image's,
//! and its own changes), its settings, a state and a log. While it runs it is a writable snapshot of the chain; when it
//! ends, what it changed becomes a layer, as a RUN step's does. State is kept in the root, so that containers outlive
//! the process that made them; those that run do not.
//!
//! Invariants: a container runs in one process at a time, which holds the container's lock; a record that says
//! `running` without a holder is one of a killed process, and counts as killed. Paths in archives and requests are
//! resolved inside the container. Nothing is known here of HTTP or of Docker's JSON.

#![forbid(unsafe_code)]

mod attachment;
mod bind;
mod containers;
mod copy;
mod error;
mod exec;
mod files;
mod id;
mod live;
mod log;
mod record;
mod run;
mod settings;
mod state_folder;
mod streams;
mod writable_root;

pub use attachment::{AttachSelection, Attachment, StreamPiece};
pub use bind::{BindError, BindMount, BindPolicy, GrantedFolder};
pub use containers::{Containers, Creation, LifeEvent, Machine, SourceImage};
pub use copy::FileSizes;
pub use error::Error;
pub use exec::{ExecRecord, ExecSettings, ExecState};
pub use files::chain::{ChangedPath, FileChange};
pub use files::{PathFacts, UnpackOptions};
pub use id::{ContainerId, ContainerName};
pub use live::{Ended, WaitFor};
pub use log::{LogSelection, OutputLine};
pub use record::{ContainerRecord, Exited, LifeState, StartFailure};
pub use run::StopTime;
pub use settings::{HostSettings, ProcessSettings, TmpfsMount, UlimitSetting};
