//! The record of a container.

use std::time::SystemTime;

use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, ContainerName, HostSettings, ProcessSettings};

/// The exit code of what was killed.
const KILLED: i32 = 137;

/// A container as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its ID.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// The image, as the caller named it.
    pub image: String,
    /// The image's ID.
    pub image_id: String,
    /// Its creation.
    pub created: SystemTime,
    /// Its process, with what the image gave.
    pub process: ProcessSettings,
    /// The parts of the machine that it sees.
    pub host: HostSettings,
    /// The layers of its files, from the bottom up: the image's, then its own.
    pub layers: Vec<Digest>,
    /// The number of the image's layers.
    pub image_layers: usize,
    /// Its state.
    pub state: LifeState,
    /// The failure of its last start, if it failed.
    pub failure: Option<StartFailure>,
    /// A value that the caller keeps with it. Not looked at here.
    pub annotation: serde_json::Value,
}

/// The place in a container's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifeState {
    /// It has never run.
    Created,
    /// It runs.
    Running {
        /// Its start.
        started: SystemTime,
    },
    /// It has run.
    Exited(Exited),
}

/// A start that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// The reason.
    pub reason: String,
    /// The exit code that stands for it.
    pub code: i32,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Its start.
    pub started: SystemTime,
    /// Its end.
    pub finished: SystemTime,
    /// The exit code; 128 and the number of a signal.
    pub code: i32,
    /// An error of kiln's; none if the process ended by itself.
    pub error: Option<String>,
}

impl ContainerRecord {
    /// True if it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, LifeState::Running { .. })
    }

    /// The exit code of the last run, or of a start that failed since; 0 before.
    pub fn exit_code(&self) -> i32 {
        if let Some(failure) = &self.failure {
            return failure.code;
        }
        match &self.state {
            LifeState::Exited(exited) => exited.code,
            LifeState::Created | LifeState::Running { .. } => 0,
        }
    }

    /// Notes a start.
    pub(crate) fn start(&mut self, now: SystemTime) {
        self.state = LifeState::Running { started: now };
        self.failure = None;
    }

    /// Notes the end of a run. Without one nothing changes.
    pub(crate) fn end(&mut self, now: SystemTime, code: i32, error: Option<String>) {
        if let LifeState::Running { started } = self.state {
            self.state = LifeState::Exited(Exited { started, finished: now, code, error });
        }
    }

    /// Notes that the process which ran it is gone, and the container with it.
    pub(crate) fn end_with_its_process(&mut self, now: SystemTime) {
        self.end(now, KILLED, Some("kiln ended while it ran".to_owned()));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(name: &str) -> ContainerRecord {
        ContainerRecord {
            id: ContainerId::draw().unwrap(),
            name: ContainerName::parse(name).unwrap(),
            image: "app:1".into(),
            image_id: "sha256:1".into(),
            created: SystemTime::UNIX_EPOCH,
            process: ProcessSettings::default(),
            host: HostSettings::default(),
            layers: vec![Digest::of("a"), Digest::of("b")],
            image_layers: 1,
            state: LifeState::Created,
            failure: None,
            annotation: serde_json::json!({ "kept": true }),
        }
    }

    #[test]
    fn a_container_is_created_runs_and_exits() {
        let mut record = record("web");
        let before = record.clone();
        record.end(SystemTime::UNIX_EPOCH, 3, None);
        assert_eq!(record, before, "what does not run cannot end");
        record.failure = Some(StartFailure { reason: "no".into(), code: 127 });
        assert_eq!(record.exit_code(), 127);
        record.start(SystemTime::UNIX_EPOCH);
        assert!(record.is_running() && record.failure.is_none());
        record.end(SystemTime::UNIX_EPOCH, 3, None);
        assert_eq!((record.is_running(), record.exit_code()), (false, 3));
        record.start(SystemTime::UNIX_EPOCH);
        record.end_with_its_process(SystemTime::UNIX_EPOCH);
        assert_eq!(record.exit_code(), 137);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = record("web");
        let text = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<ContainerRecord>(&text).unwrap(), record);
    }
}
