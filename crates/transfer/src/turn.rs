//! Waiting for a turn: what another build on this root is doing is not done again.
//!
//! A holder waits only for turns of lower kinds: a step's for those of layers, a layer's and a
//! download's for none. Therefore no wait closes a circle.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use graph::{Events, TaskEvent, TaskId, TransferProgress};
use layer::Layer;
use oci::Digest;
use store::{Turn, TurnAnswer, TurnEnd};

use crate::Transfer;

/// The time between two questions, which grows. An answer late by this much is not noticed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The number of times that a layer is waited for because the one before made something else of its
/// blob.
const MOST_ROUNDS: usize = 4;

/// Work that builds on one root do once.
#[derive(Clone, Debug)]
pub struct SharedWork {
    /// Its name, which says all that it depends on.
    pub name: String,
    /// It in words, after "waiting for another build ".
    pub shown: String,
    /// The task that shows the wait.
    pub task: Option<TaskId>,
}

/// The end of a wait.
#[derive(Debug)]
pub enum Waited {
    /// The turn is the caller's.
    Own(Turn),
    /// Another build did the work meanwhile.
    Over(TurnEnd),
    /// Turns cannot be taken on this file system.
    Alone,
}

impl Waited {
    /// The end of a wait; none if it goes on.
    fn of(answer: TurnAnswer) -> Option<Self> {
        match answer {
            TurnAnswer::Own(turn) => Some(Self::Own(turn)),
            TurnAnswer::Over(end) => Some(Self::Over(end)),
            TurnAnswer::Unavailable => Some(Self::Alone),
            TurnAnswer::Taken => None,
        }
    }
}

impl Transfer {
    /// Waits for a turn. `waits` is called if another build has it.
    pub async fn turn(&self, work: &SharedWork, waits: impl FnOnce() + Send) -> Waited {
        let mut request = self.store().turn(&work.name);
        if let Some(answer) = Waited::of(request.ask()) {
            return answer;
        }
        waits();
        tracing::debug!(what = work.shown, "waiting for another build");
        let _shown = ShownWait::start(self.events(), work);
        let mut pause = SHORTEST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if let Some(answer) = Waited::of(request.ask()) {
                return answer;
            }
        }
    }

    /// Waits for the turn at a layer's blob, as long as that is of use.
    pub(crate) async fn layer_turn(
        &self,
        layer: &Layer,
        task: Option<TaskId>,
        is_here: impl Fn() -> bool,
    ) -> HeldTurn {
        let blob = layer.blob.as_ref().map_or(layer.diff_id, |blob| blob.digest);
        let work = SharedWork {
            name: format!("layer {blob}"),
            shown: format!("that fetches {blob}"),
            task,
        };
        for _ in 0..MOST_ROUNDS {
            match self.turn(&work, || ()).await {
                Waited::Own(turn) => return HeldTurn::of(turn),
                Waited::Over(TurnEnd::Made) if !is_here() => {}
                Waited::Over(_) | Waited::Alone => break,
            }
        }
        HeldTurn::default()
    }

    /// Waits for the turn at compressing a layer.
    pub(crate) async fn compression_turn(
        &self,
        diff_id: &Digest,
        kind: &str,
        task: Option<TaskId>,
    ) -> HeldTurn {
        let work = SharedWork {
            name: format!("compression {diff_id} {kind}"),
            shown: format!("that compresses {diff_id}"),
            task,
        };
        match self.turn(&work, || ()).await {
            Waited::Own(turn) => HeldTurn::of(turn),
            Waited::Over(_) | Waited::Alone => HeldTurn::default(),
        }
    }
}

/// A turn that work on several threads holds, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldTurn(Arc<Mutex<Option<Turn>>>);

impl HeldTurn {
    fn of(turn: Turn) -> Self {
        Self(Arc::new(Mutex::new(Some(turn))))
    }

    fn take(&self) -> Option<Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Lets another have it. Needed before waiting for something that others may hold.
    pub(crate) fn give_up(&self) {
        drop(self.take());
    }

    /// Ends it as the work ended.
    pub(crate) fn end<T, E>(&self, result: &Result<T, E>) {
        if let Some(turn) = self.take() {
            turn.end(if result.is_ok() { TurnEnd::Made } else { TurnEnd::Failed });
        }
    }
}

/// A wait as progress shows it, until it is dropped.
struct ShownWait {
    events: Events,
    task: Option<TaskId>,
    progress: TransferProgress,
}

impl ShownWait {
    fn start(events: &Events, work: &SharedWork) -> Self {
        let progress = TransferProgress {
            name: format!("waiting for another build {}", work.shown).into(),
            current: 0,
            total: 0,
            started: SystemTime::now(),
            completed: None,
        };
        let wait = Self { events: events.clone(), task: work.task, progress };
        wait.show();
        wait
    }

    fn show(&self) {
        if let Some(task) = self.task {
            self.events.send(task, TaskEvent::Transfer(self.progress.clone()));
        }
    }
}

impl Drop for ShownWait {
    fn drop(&mut self) {
        self.progress.completed = Some(SystemTime::now());
        self.show();
    }
}
