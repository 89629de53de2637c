//! Roots of commands that are filled when their files are opened: the choice of that, read sets, and how
//! much of a root came.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use graph::{StepId, TaskEvent, TaskId, TransferProgress};
use layer::{Chain, Layer};
use oci::Digest;
use runtime::OpenHold;
use tokio::sync::OnceCell;
use transfer::{Lazy, blocking};

use crate::executor::Executor;
use crate::{Error, StepOutput};

/// The time between two looks at how much of a root came.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// Files of layers that a command opened.
pub type OpenedFiles = Vec<(Digest, Vec<Box<[u8]>>)>;

/// Knows what steps opened of their roots when they last ran.
pub trait ReadSource: Send + Sync {
    /// The files that a step opened; none if this source does not know the step.
    fn find(&self, step: Digest) -> BoxFuture<'_, Option<OpenedFiles>>;
}

/// The knowledge of an executor about roots that fill.
#[derive(Default)]
pub(crate) struct Filling {
    /// True if files can be filled when they are opened, once that was tried.
    is_possible: OnceCell<bool>,
    /// The read sets of earlier builds.
    source: OnceLock<Arc<dyn ReadSource>>,
    /// The read sets of this build, by step.
    opened: Mutex<BTreeMap<Digest, OpenedFiles>>,
}

impl Executor {
    /// Sets the source of read sets. Only the first call has an effect.
    pub fn fetch_first_by(&self, source: Arc<dyn ReadSource>) {
        let _ = self.filling().1.source.set(source);
    }

    /// The read sets of this build's steps.
    pub fn opened_files(&self) -> Vec<(Digest, OpenedFiles)> {
        let opened = self.filling().1.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().map(|(step, files)| (*step, files.clone())).collect()
    }

    /// Brings what a step opened when it last ran.
    pub(crate) async fn fetch_read_set(&self, step: Digest, layers: &[Layer]) {
        self.transfer().list_opened_from_now(layers);
        let Some(source) = self.filling().1.source.get() else { return };
        if let Some(files) = source.find(step).await {
            self.transfer().fill_first(layers, &files).await;
        }
    }

    /// Keeps what a step opened.
    pub(crate) fn note_read_set(&self, step: Digest, layers: &[Layer]) {
        let opened = self.transfer().opened(layers);
        let mut all = self.filling().1.opened.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(step, opened);
    }

    /// Makes an input of a command ready to be mounted.
    pub(crate) async fn fetch_root(
        &self,
        chain: &Chain,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        let (layers, (wanted, _)) = (chain.layers(), self.filling());
        let lazy = match self.transfer().may_be_hollow(&layers, wanted) {
            true if self.fills_opened().await => wanted,
            _ => Lazy::Never,
        };
        Ok(self.transfer().make_mountable(&layers, lazy, task).await?)
    }

    /// True if files can be filled when they are opened. Tried once.
    async fn fills_opened(&self) -> bool {
        let Ok(runtime) = self.runtime().clone() else { return false };
        let store = self.store().clone();
        let attempt = || async {
            blocking(move || {
                if let Err(reason) = runtime.reports_opens() {
                    tracing::debug!(%reason, "roots are not filled when files are opened");
                    return false;
                }
                match store.watch_opens() {
                    Ok(share) => {
                        runtime.hold_opens(OpenHold {
                            kept: share.descriptor,
                            writing: share.writing,
                        });
                        true
                    }
                    Err(error) => {
                        tracing::debug!(%error, "opens cannot be held");
                        false
                    }
                }
            })
            .await
        };
        *self.filling().1.is_possible.get_or_init(attempt).await
    }

    /// The layers of all inputs.
    pub(crate) fn layers_of(inputs: &[StepOutput]) -> Vec<Layer> {
        let chains = inputs.iter().filter_map(|input| match input {
            StepOutput::Chain(chain) => Some(chain.layers()),
            StepOutput::Context(_) => None,
        });
        chains.flatten().collect()
    }

    /// Unpacks all layers of some inputs.
    pub(crate) async fn unpack_inputs(
        &self,
        inputs: &[StepOutput],
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        for input in inputs {
            if let StepOutput::Chain(chain) = input {
                self.transfer().unpack(&chain.layers(), task).await?;
            }
        }
        Ok(())
    }

    /// Warns that a command runs a second time.
    pub(crate) fn warn_of_rerun(&self, id: StepId, reason: &transfer::Error) {
        let Some(task) = self.task(id) else { return };
        let reason = transfer::chain_text(reason);
        let text =
            format!("it runs again, on the whole root: a part of it could not be read: {reason}");
        self.events().send(task, TaskEvent::Warning(text.into()));
    }

    /// Shows how much of the hollow layers came, until some work ends.
    pub(crate) async fn showing_brought<T>(
        &self,
        id: StepId,
        layers: &[Layer],
        work: impl Future<Output = T>,
    ) -> T {
        let started = SystemTime::now();
        let mut shown = None;
        let mut show = |completed: Option<SystemTime>| {
            let (Some(task), Some(brought)) = (self.task(id), self.transfer().brought(layers))
            else {
                return;
            };
            if shown == Some(brought) && completed.is_none() {
                return;
            }
            shown = Some(brought);
            let progress = TransferProgress {
                name: "files of its root".into(),
                current: brought.bytes,
                total: brought.total,
                started,
                completed,
            };
            self.events().send(task, TaskEvent::Transfer(progress));
        };
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    show(Some(SystemTime::now()));
                    return done;
                }
                () = tokio::time::sleep(SHOWN_EVERY) => show(None),
            }
        }
    }
}
