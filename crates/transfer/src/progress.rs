//! Bytes on their way, as progress shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use graph::{Events, TaskEvent, TaskId, Transfer};

/// Counts the bytes of one transfer and says so from time to time.
pub struct Meter {
    events: Events,
    task: Option<TaskId>,
    name: Arc<str>,
    total: u64,
    started: SystemTime,
    current: AtomicU64,
    said: AtomicU64,
}

impl Meter {
    /// A transfer that begins now; without a task nobody is told.
    pub fn start(
        events: &Events,
        task: Option<TaskId>,
        name: impl Into<Arc<str>>,
        total: u64,
    ) -> Self {
        let meter = Self {
            events: events.clone(),
            task,
            name: name.into(),
            total,
            started: SystemTime::now(),
            current: AtomicU64::new(0),
            said: AtomicU64::new(0),
        };
        meter.say(None);
        meter
    }

    /// More bytes moved.
    pub fn add(&self, bytes: u64) {
        let current = self.current.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // A thousand messages say no more than sixty.
        let step = (self.total / 64).max(1 << 18);
        if current >= self.said.load(Ordering::Relaxed) + step {
            self.said.store(current, Ordering::Relaxed);
            self.say(None);
        }
    }

    /// All bytes moved.
    pub fn finish(&self) {
        self.current.fetch_max(self.total, Ordering::Relaxed);
        self.say(Some(SystemTime::now()));
    }

    fn say(&self, completed: Option<SystemTime>) {
        let Some(task) = self.task else { return };
        let current = self.current.load(Ordering::Relaxed);
        let transfer = Transfer {
            name: self.name.clone(),
            current,
            total: self.total,
            started: self.started,
            completed,
        };
        self.events.send(task, TaskEvent::Transfer(transfer));
    }
}
