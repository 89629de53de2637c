//! A step's results so far.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use oci::Digest;
use tokio::sync::{OnceCell, SetOnce};

use super::lookup::Known;
use crate::{Executor, RecordId, StepKey};

/// A run of a step: where its output goes.
pub(super) type Attempt<E> = Arc<SetOnce<<E as Executor>::Output>>;

pub(super) struct Cells<E: Executor> {
    pub(super) key: StepKey,
    /// The digests of a source, once its executor gave them.
    pub(super) source: OnceLock<Vec<Digest>>,
    /// Matches by keys alone, and by the user's files.
    pub(super) keyed: SetOnce<Arc<Known<E::Chain>>>,
    /// Matches by contents as well.
    pub(super) known: SetOnce<Arc<Known<E::Chain>>>,
    /// An output that the step made because no record's could be used.
    ran: Mutex<Attempt<E>>,
    /// The number of times that it was forgotten because a step below made something else.
    repeats: AtomicU32,
    /// True for each of the three jobs that was asked for.
    pub(super) asked: [AtomicBool; 3],
    /// Records of this machine that were saved for it.
    pub(super) saved: Mutex<Vec<RecordId>>,
    /// For each input that counts by content, its content's record.
    pub(super) contents: Vec<Mutex<Arc<OnceCell<Digest>>>>,
    /// Those of the inputs that the step ran with.
    ran_with: Mutex<Vec<Option<Digest>>>,
    signature: Mutex<Option<Digest>>,
    /// True if this step itself ran, and not only another one with its signature.
    pub(super) executed: AtomicBool,
    /// True once progress events name the output's origin.
    pub(super) told: AtomicBool,
    /// Records whose bytes are damaged, by place in `Known::found`.
    pub(super) given_up: Mutex<BTreeSet<usize>>,
}

/// A value that is never half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: Executor> Cells<E> {
    pub(super) fn new(key: StepKey) -> Self {
        let contents = key.inputs.iter().map(|_| Mutex::default()).collect();
        Self {
            key,
            source: OnceLock::new(),
            keyed: SetOnce::new(),
            known: SetOnce::new(),
            ran: Mutex::new(Arc::new(SetOnce::new())),
            repeats: AtomicU32::new(0),
            asked: Default::default(),
            saved: Mutex::default(),
            contents,
            ran_with: Mutex::default(),
            signature: Mutex::default(),
            executed: AtomicBool::new(false),
            told: AtomicBool::new(false),
            given_up: Mutex::default(),
        }
    }

    /// Record digests of the step.
    pub(super) fn digests(&self) -> &[Digest] {
        self.source.get().unwrap_or(&self.key.digests)
    }

    /// The best matches so far: those by keys, if nothing more was needed.
    pub(super) fn best_known(&self) -> Option<&Arc<Known<E::Chain>>> {
        self.known.get().or_else(|| self.keyed.get())
    }

    /// The cell for the output that the step makes.
    pub(super) fn attempt(&self) -> Attempt<E> {
        lock(&self.ran).clone()
    }

    /// The output that the step made, and where it was put.
    pub(super) fn made(&self) -> Option<(Attempt<E>, E::Output)> {
        let attempt = self.attempt();
        let output = attempt.get().cloned()?;
        Some((attempt, output))
    }

    /// Forgets an output that the step made, unless that was done before.
    pub(super) fn forget(&self, attempt: &Attempt<E>) -> bool {
        let mut ran = lock(&self.ran);
        let is_last = Arc::ptr_eq(&ran, attempt);
        if is_last {
            *ran = Arc::new(SetOnce::new());
            self.repeats.fetch_add(1, Ordering::Relaxed);
            self.asked[2].store(false, Ordering::Relaxed);
        }
        is_last
    }

    /// The number of reruns caused by the steps below.
    pub(super) fn repeats(&self) -> u32 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Takes back what was asked for and not answered.
    pub(super) fn withdraw(&self) {
        let answered =
            [self.keyed.get().is_some(), self.known.get().is_some(), self.made().is_some()];
        for (asked, answered) in std::iter::zip(&self.asked, answered) {
            asked.store(answered, Ordering::Relaxed);
        }
    }

    /// True if one of its records could not be used.
    pub(super) fn was_doubted(&self) -> bool {
        !lock(&self.given_up).is_empty()
    }

    /// The cell of an input's content.
    pub(super) fn content_cell(&self, input: usize) -> Arc<OnceCell<Digest>> {
        lock(&self.contents[input]).clone()
    }

    /// An input's content, where it was computed.
    pub(super) fn content(&self, input: usize) -> Option<Digest> {
        lock(&self.contents[input]).get().copied()
    }

    /// Keeps which contents the step runs with: what it makes is known by them, whatever comes of
    /// its inputs later.
    pub(super) fn runs_with(&self) {
        let contents = (0..self.contents.len()).map(|input| self.content(input));
        *lock(&self.ran_with) = contents.collect();
    }

    /// An input's content: the one that the step ran with, if it ran.
    pub(super) fn read_content(&self, input: usize) -> Option<Digest> {
        let ran_with = lock(&self.ran_with).get(input).copied().flatten();
        ran_with.or_else(|| self.content(input))
    }

    pub(super) fn signature(&self) -> Option<Digest> {
        *lock(&self.signature)
    }

    pub(super) fn set_signature(&self, signature: Digest) {
        *lock(&self.signature) = Some(signature);
    }

    pub(super) fn forget_signature(&self) {
        *lock(&self.signature) = None;
    }
}
