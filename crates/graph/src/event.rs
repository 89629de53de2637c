//! Events of a build, for those who display them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// Something that progress shows: a step, a load, an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u32);

/// A task as progress introduces it.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its number in this build.
    pub id: TaskId,
    /// The text that is shown, as `[internal] load build context`.
    pub name: Arc<str>,
    /// The tasks whose outputs it reads.
    pub inputs: Vec<TaskId>,
}

/// Something true at a time.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// Of which task.
    pub task: TaskId,
    /// The event.
    pub what: TaskEvent,
}

/// A fact about a task.
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// It is part of the build.
    Known(Task),
    /// Its work begins.
    Started,
    /// Its output was found, with the name of where (`local`, a cache's reference).
    Cached(Arc<str>),
    /// Bytes moved or something else advanced.
    Transfer(TransferProgress),
    /// The command printed something.
    Log(Stream, Arc<[u8]>),
    /// Something the user should know; the build goes on.
    Warning(Arc<str>),
    /// Its work ended well.
    Done,
    /// Its work ended badly.
    Failed(Failure),
}

/// Progress of a part of a task.
#[derive(Clone, Debug)]
pub struct TransferProgress {
    /// Its name, as `sha256:…` or `transferring context:`; each has one line.
    pub name: Arc<str>,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all; 0 where it is not known.
    pub total: u64,
    /// When it began.
    pub started: SystemTime,
    /// When it ended, if it has.
    pub completed: Option<SystemTime>,
}

impl TransferProgress {
    /// A part that is there at once, now.
    pub fn at_once(name: impl Into<Arc<str>>, bytes: u64) -> Self {
        let now = SystemTime::now();
        Self { name: name.into(), current: bytes, total: 0, started: now, completed: Some(now) }
    }
}

/// Why a task ended badly.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Another task failed or the user ended the build.
    Canceled,
    /// In words.
    Error(Arc<str>),
}

/// The stream that a command printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A sender of events. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Events {
    send: Arc<dyn Fn(Event) + Send + Sync>,
    next: Arc<AtomicU32>,
}

impl Events {
    /// Events that are given to `send`, which must return at once.
    pub fn new(send: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self { send: Arc::new(send), next: Arc::default() }
    }

    /// A sender without a receiver.
    pub fn none() -> Self {
        Self::new(|_| ())
    }

    /// The same events, with tasks that are called otherwise; their numbers stay apart.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let send = self.send.clone();
        let renamed = move |mut event: Event| {
            if let TaskEvent::Known(task) = &mut event.what {
                task.name = name(&task.name).into();
            }
            send(event);
        };
        Self { send: Arc::new(renamed), next: self.next.clone() }
    }

    /// Introduces a task.
    pub fn task(&self, name: impl Into<Arc<str>>, inputs: Vec<TaskId>) -> TaskId {
        let id = TaskId(self.next.fetch_add(1, Ordering::Relaxed));
        self.send(id, TaskEvent::Known(Task { id, name: name.into(), inputs }));
        id
    }

    /// Says something of a task, now. What kiln itself says shows no secrets of addresses.
    pub fn send(&self, task: TaskId, mut what: TaskEvent) {
        match &mut what {
            TaskEvent::Known(task) => hide(&mut task.name),
            TaskEvent::Warning(text) | TaskEvent::Failed(Failure::Error(text)) => hide(text),
            TaskEvent::Cached(text) => hide(text),
            TaskEvent::Transfer(transfer) => hide(&mut transfer.name),
            // A command's output is not changed.
            TaskEvent::Log(..) | TaskEvent::Started | TaskEvent::Done => {}
            TaskEvent::Failed(Failure::Canceled) => {}
        }
        (self.send)(Event { at: SystemTime::now(), task, what });
    }
}

/// Makes a text one that may be shown.
fn hide(text: &mut Arc<str>) {
    if text.contains("://") {
        *text = oci::shown_text(text).into();
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
