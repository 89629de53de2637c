//! A container in this process: those who wait for it and are attached to it, and its process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::ContainerProcess;
use tokio::sync::{RwLock, watch};

use crate::attachment::StreamHub;
use crate::exec::Execs;
use crate::log::LogEnds;
use crate::record::{ContainerRecord, LifeState};

/// The end of a container, or of its wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The exit code; 128 and the number of a signal.
    pub code: i32,
    /// An error of kiln's; none if the process ended by itself.
    pub error: Option<String>,
}

/// The event that a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// It does not run, or ceases to.
    NotRunning,
    /// It ceases to run, from now on.
    NextExit,
    /// It is removed.
    Removed,
}

/// A container in this process.
pub(crate) struct Live {
    pub(crate) phase: watch::Sender<Phase>,
    /// Held by who changes its state or its files.
    pub(crate) gate: tokio::sync::Mutex<()>,
    /// Read-locked while files are copied from and to the root of a run.
    pub(crate) copies: Arc<RwLock<()>>,
    hub: Mutex<StreamHub>,
    run: Mutex<Option<LiveRun>>,
    execs: Mutex<Execs>,
}

/// A run of a container in this process.
#[derive(Clone)]
pub(crate) struct LiveRun {
    pub(crate) process: ContainerProcess,
    pub(crate) log: LogEnds,
}

/// The state of a container, for those who wait for another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase {
    pub(crate) is_running: bool,
    /// Runs that have ended, in this process.
    pub(crate) ends: u64,
    pub(crate) is_removed: bool,
    pub(crate) ended: Ended,
}

impl Live {
    pub(crate) fn of(record: &ContainerRecord) -> Arc<Self> {
        let error = match &record.state {
            LifeState::Exited(exited) => exited.error.clone(),
            LifeState::Created | LifeState::Running { .. } => None,
        };
        let ended = Ended { code: record.exit_code(), error };
        Arc::new(Self {
            phase: watch::Sender::new(Phase { ended, ..Phase::default() }),
            gate: tokio::sync::Mutex::default(),
            copies: Arc::default(),
            hub: Mutex::default(),
            run: Mutex::default(),
            execs: Mutex::default(),
        })
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, StreamHub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn execs(&self) -> MutexGuard<'_, Execs> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run, if it runs in this process.
    pub(crate) fn run(&self) -> Option<LiveRun> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_run(&self, run: Option<LiveRun>) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
    }

    /// Completes when it does not run in this process.
    pub(crate) async fn stopped(&self) {
        drop(self.phase.subscribe().wait_for(|phase| !phase.is_running).await);
    }
}

impl Phase {
    /// True if what a caller waits for has come; `ends` are the runs that had ended when it began.
    pub(crate) fn has_reached(&self, until: WaitFor, ends: u64) -> bool {
        self.is_removed
            || match until {
                WaitFor::NotRunning => !self.is_running,
                WaitFor::NextExit => self.ends > ends,
                WaitFor::Removed => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_with_their_event() {
        let at = |is_running, ends, is_removed| Phase {
            is_running,
            ends,
            is_removed,
            ..Phase::default()
        };
        for (phase, not_running, next_exit, removed) in [
            (at(false, 0, false), true, false, false),
            (at(true, 0, false), false, false, false),
            (at(false, 1, false), true, true, false),
            (at(false, 0, true), true, true, true),
        ] {
            assert_eq!(phase.has_reached(WaitFor::NotRunning, 0), not_running);
            assert_eq!(phase.has_reached(WaitFor::NextExit, 0), next_exit);
            assert_eq!(phase.has_reached(WaitFor::Removed, 0), removed);
        }
    }
}
