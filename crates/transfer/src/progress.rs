//! Progress of transfers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use graph::{Events, TaskEvent, TaskId, TransferProgress};

/// Counts the bytes of a transfer and reports them as events.
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
    /// Starts a transfer. Without a task, it sends no events.
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

    /// Counts more bytes.
    pub fn add(&self, bytes: u64) {
        let current = self.current.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // At most 64 reports in a transfer, and one per 256 KiB: more would not be visible.
        let step = (self.total / 64).max(1 << 18);
        if current >= self.said.load(Ordering::Relaxed) + step {
            self.said.store(current, Ordering::Relaxed);
            self.say(None);
        }
    }

    /// Reports the transfer as complete.
    pub fn finish(&self) {
        self.current.fetch_max(self.total, Ordering::Relaxed);
        self.say(Some(SystemTime::now()));
    }

    fn say(&self, completed: Option<SystemTime>) {
        let Some(task) = self.task else { return };
        let current = self.current.load(Ordering::Relaxed);
        let transfer = TransferProgress {
            name: self.name.clone(),
            current,
            total: self.total,
            started: self.started,
            completed,
        };
        self.events.send(task, TaskEvent::Transfer(transfer));
    }
}
