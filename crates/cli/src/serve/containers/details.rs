//! Containers as the engine describes them.

use std::time::SystemTime;

use ::containers::{
    ChangedPath, ContainerRecord, ExecRecord, ExecState, FileChange, LifeState, PathFacts,
};
use ::engine::{
    ContainerDetails, ContainerId, ContainerIdentity, ContainerState, ContainerStatus, ExecDetails,
    ExecId, ExecSpec, PathChange, PathChangeKind, PathStat,
};

use super::spec;

pub(super) fn identity(record: &ContainerRecord) -> ContainerIdentity {
    ContainerIdentity {
        id: ContainerId(record.id.to_string()),
        name: record.name.to_string(),
        image: record.image.clone(),
        labels: record.process.labels.clone(),
    }
}

pub(super) fn of(record: &ContainerRecord, pid: Option<i32>) -> ContainerDetails {
    ContainerDetails {
        id: ContainerId(record.id.to_string()),
        name: record.name.to_string(),
        image_id: record.image_id.clone(),
        created: record.created,
        spec: spec::whole(record),
        state: state(record, pid),
        execs: Vec::new(),
        size: None,
    }
}

fn state(record: &ContainerRecord, pid: Option<i32>) -> ContainerState {
    let of_start = record.failure.as_ref().map(|failure| failure.reason.clone());
    let (status, error, started, finished): (_, _, Option<SystemTime>, _) = match &record.state {
        LifeState::Created => (ContainerStatus::Created, None, None, None),
        LifeState::Running { started } => (ContainerStatus::Running, None, Some(*started), None),
        LifeState::Exited(exited) => (
            ContainerStatus::Exited,
            exited.error.clone(),
            Some(exited.started),
            Some(exited.finished),
        ),
    };
    ContainerState {
        status,
        exit_code: record.exit_code(),
        error: of_start.or(error).unwrap_or_default(),
        pid: pid.filter(|_| record.is_running()),
        started,
        finished,
    }
}

pub(super) fn change(changed: ChangedPath) -> PathChange {
    let kind = match changed.change {
        FileChange::Modified => PathChangeKind::Modified,
        FileChange::Added => PathChangeKind::Added,
        FileChange::Deleted => PathChangeKind::Deleted,
    };
    PathChange { path: changed.path, kind }
}

pub(super) fn path_stat(facts: PathFacts) -> PathStat {
    let PathFacts { name, size, mode, modified, link_target } = facts;
    PathStat { name, size, mode, modified, link_target }
}

pub(super) fn exec(record: ExecRecord) -> ExecDetails {
    let ExecRecord { id, container, settings, state } = record;
    let (running, exit_code, pid) = match state {
        ExecState::Created => (false, None, None),
        ExecState::Running(pid) => (true, None, pid),
        ExecState::Ended(code) => (false, Some(code), None),
    };
    ExecDetails {
        id: ExecId(id.to_string()),
        container: ContainerId(container.to_string()),
        spec: ExecSpec {
            args: settings.args,
            env: settings.env,
            working_dir: settings.working_dir,
            user: settings.user,
            terminal: settings.tty,
            stdin: settings.streams.stdin,
            stdout: settings.streams.stdout,
            stderr: settings.streams.stderr,
            ..ExecSpec::default()
        },
        running,
        exit_code,
        pid,
    }
}
