//! The state of each task, for the renderers that show all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use graph::{Event, Failure, TaskEvent, TaskId, TransferProgress};

/// All tasks of a build, in the order they became known.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) tasks: Vec<TaskState>,
    index: HashMap<TaskId, usize>,
    /// Tasks in the order they began.
    pub(super) started: Vec<usize>,
    /// The time at which the first task began.
    pub(super) began: Option<SystemTime>,
}

/// The state of a task.
pub(super) struct TaskState {
    pub(super) name: Arc<str>,
    /// The times in which it worked; only the last one can be open.
    intervals: Vec<(SystemTime, Option<SystemTime>)>,
    pub(super) cached: bool,
    pub(super) failure: Option<Failure>,
    pub(super) transfers: Vec<TransferState>,
    pub(super) warnings: Vec<Arc<str>>,
}

/// The latest state of a part.
pub(super) struct TransferState {
    pub(super) latest: TransferProgress,
    /// The time of that state.
    pub(super) at: SystemTime,
    /// True if the part changed since this was last cleared.
    pub(super) changed: bool,
}

/// The effect of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing visible.
    Nothing,
    /// A change of the task.
    Task,
    /// The task's end.
    End,
}

impl Trace {
    /// The index of a task in `tasks`; an unknown task is added without a name.
    pub(super) fn place(&mut self, id: TaskId) -> usize {
        *self.index.entry(id).or_insert_with(|| {
            self.tasks.push(TaskState {
                name: "".into(),
                intervals: Vec::new(),
                cached: false,
                failure: None,
                transfers: Vec::new(),
                warnings: Vec::new(),
            });
            self.tasks.len() - 1
        })
    }

    /// Applies an event. Log output is left to the renderer.
    pub(super) fn take(&mut self, event: &Event) -> (usize, Change) {
        let place = self.place(event.task);
        let was_started = self.tasks[place].is_started();
        let change = self.tasks[place].take(event);
        if !was_started && self.tasks[place].is_started() {
            self.started.push(place);
            self.began.get_or_insert(event.at);
        }
        (place, change)
    }
}

impl TaskState {
    fn take(&mut self, event: &Event) -> Change {
        match &event.what {
            TaskEvent::Known(task) => {
                self.name = task.name.clone();
                return Change::Nothing;
            }
            TaskEvent::Started => {
                self.cached = false;
                if self.intervals.last().is_none_or(|(_, stop)| stop.is_some()) {
                    self.intervals.push((event.at, None));
                }
            }
            TaskEvent::Cached(_) => {
                self.cached = true;
                self.end(event.at);
                return Change::End;
            }
            TaskEvent::Transfer(transfer) => self.transfer(transfer, event.at),
            TaskEvent::Warning(text) => self.warnings.push(text.clone()),
            TaskEvent::Done => {
                let was_over = self.is_completed();
                self.end(event.at);
                return if was_over { Change::Nothing } else { Change::End };
            }
            TaskEvent::Failed(failure) => {
                // A task that was canceled before it began is not worth a line.
                if matches!(failure, Failure::Canceled) && !self.is_started() {
                    return Change::Nothing;
                }
                self.failure = Some(failure.clone());
                self.end(event.at);
                return Change::End;
            }
            TaskEvent::Log(..) => {}
        }
        match self.is_started() {
            true => Change::Task,
            false => Change::Nothing,
        }
    }

    fn end(&mut self, at: SystemTime) {
        match self.intervals.last_mut() {
            Some((_, stop @ None)) => *stop = Some(at),
            Some(_) => {}
            None => self.intervals.push((at, Some(at))),
        }
    }

    fn transfer(&mut self, transfer: &TransferProgress, at: SystemTime) {
        let latest = transfer.clone();
        match self.transfers.iter_mut().find(|known| known.latest.name == transfer.name) {
            Some(known) => *known = TransferState { latest, at, changed: true },
            None => self.transfers.push(TransferState { latest, at, changed: true }),
        }
    }

    pub(super) fn is_started(&self) -> bool {
        !self.intervals.is_empty()
    }

    pub(super) fn is_completed(&self) -> bool {
        self.intervals.last().is_some_and(|(_, stop)| stop.is_some())
    }

    pub(super) fn is_open(&self) -> bool {
        self.intervals.last().is_some_and(|(_, stop)| stop.is_none())
    }

    /// The time at which it last ended.
    pub(super) fn stopped(&self) -> Option<SystemTime> {
        self.intervals.last().and_then(|(_, stop)| *stop)
    }

    /// Seconds from the start of its current work until `at`.
    pub(super) fn seconds_at(&self, at: SystemTime) -> f64 {
        self.intervals.last().map_or(0.0, |(start, _)| seconds_between(*start, at))
    }

    /// Seconds it has worked until `now`.
    pub(super) fn seconds_worked(&self, now: SystemTime) -> f64 {
        self.intervals
            .iter()
            .map(|(start, stop)| seconds_between(*start, stop.unwrap_or(now)))
            .sum()
    }
}

/// Seconds between two times; 0 if the clock went back.
pub(super) fn seconds_between(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The bytes of a part: ` 12B / 3.40MB`, ` 12B` or nothing.
pub(super) fn transferred(transfer: &TransferProgress) -> String {
    use crate::human::transfer_size;
    match (transfer.current, transfer.total) {
        (0, 0) => String::new(),
        (current, 0) => format!(" {}", transfer_size(current)),
        (current, total) => format!(" {} / {}", transfer_size(current), transfer_size(total)),
    }
}
