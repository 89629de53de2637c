//! Progress events of steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use graph::{Events, Failure, StepId, TaskEvent, TaskId};

/// The tasks that show steps.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// The receiver of events.
    pub events: Events,
    /// The task of each step; none for a step that is not shown.
    pub of_step: Vec<Option<TaskId>>,
}

impl Tasks {
    /// The task of a step.
    pub fn task(&self, step: StepId) -> Option<TaskId> {
        self.of_step.get(step.0 as usize).copied().flatten()
    }

    pub(crate) fn send(&self, step: StepId, event: TaskEvent) {
        if let Some(task) = self.task(step) {
            self.events.send(task, event);
        }
    }

    /// Says that a step began; what is dropped without an end was canceled.
    pub(crate) fn start(&self, step: StepId) -> Running<'_> {
        self.send(step, TaskEvent::Started);
        Running { tasks: self, step, ended: AtomicBool::new(false) }
    }
}

/// A step that is running.
pub(crate) struct Running<'a> {
    tasks: &'a Tasks,
    step: StepId,
    ended: AtomicBool,
}

impl Running<'_> {
    pub(crate) fn done(self) {
        self.end(TaskEvent::Done);
    }

    /// It need not run: its output was found.
    pub(crate) fn found(self, source: &Arc<str>) {
        self.end(TaskEvent::Cached(source.clone()));
    }

    pub(crate) fn failed(self, message: &str) {
        self.end(TaskEvent::Failed(Failure::Error(Arc::from(message))));
    }

    fn end(&self, event: TaskEvent) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.tasks.send(self.step, event);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.end(TaskEvent::Failed(Failure::Canceled));
    }
}
