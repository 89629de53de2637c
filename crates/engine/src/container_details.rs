//! Facts about containers, which clients are shown.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::{ContainerId, ContainerSpec, ExecId, ExecSpec};

/// A container as events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerIdentity {
    /// Its ID.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// The image as the client named it.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A container with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerDetails {
    /// Its ID.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// The ID of its image.
    pub image_id: String,
    /// Its creation.
    pub created: SystemTime,
    /// Its properties, with what the image gave: command, environment, labels.
    pub spec: ContainerSpec,
    /// Its state.
    pub state: ContainerState,
    /// The IDs of further commands in it that have not been forgotten.
    pub execs: Vec<ExecId>,
    /// Its sizes, if they were counted.
    pub size: Option<ContainerSize>,
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Its place in a container's life.
    pub status: ContainerStatus,
    /// The exit code of its last run; 0 before.
    pub exit_code: i32,
    /// The reason why its last start failed; empty if it did not.
    pub error: String,
    /// The first process as the service sees it.
    pub pid: Option<i32>,
    /// Its last start.
    pub started: Option<SystemTime>,
    /// Its last end.
    pub finished: Option<SystemTime>,
}

/// The place in a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerStatus {
    /// It was never started.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl ContainerStatus {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Removing => "removing",
        }
    }
}

/// Sizes of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerSize {
    /// Bytes of what it changed.
    pub changed: u64,
    /// Bytes of its whole file system.
    pub whole: u64,
}

/// The end of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerExit {
    /// Its exit code; 128 and the number of a signal.
    pub code: i32,
    /// An error of the service; none if the container ended by itself.
    pub error: Option<String>,
}

/// A further command with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecDetails {
    /// Its ID.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// Its properties.
    pub spec: ExecSpec,
    /// True while it runs.
    pub running: bool,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i32>,
    /// Its process, as the service sees it.
    pub pid: Option<i32>,
}

/// A process of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessRow {
    /// Its user: a name or a number.
    pub user: String,
    /// Its ID, as the service sees it.
    pub pid: i32,
    /// Its parent's ID.
    pub parent: i32,
    /// The time at which it started, as `ps` writes it: `17:05`.
    pub started: String,
    /// Its terminal, or `?`.
    pub terminal: String,
    /// The time of processors that it took: `00:00:01`.
    pub cpu_time: String,
    /// The program and its arguments.
    pub command: String,
}

/// A path that differs from the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// The absolute path.
    pub path: String,
    /// The difference.
    pub kind: PathChangeKind,
}

/// The difference of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathChangeKind {
    /// It has other contents or properties, or something in it has.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

/// Facts about a path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// Its last part.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Type and permissions, as stat(2) has them in `st_mode`.
    pub mode: u32,
    /// Its last change.
    pub modified: SystemTime,
    /// The target of a link, made absolute in the container; empty for anything else.
    pub link_target: String,
}
