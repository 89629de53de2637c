//! Layers that records promise and no source has.
//!
//! A layer is lost at most once in a build. It is `Missing` until the step that made it has run,
//! then `Found` if the same layer was made, otherwise `Gone`: outputs on top of it are useless. A
//! layer that was made in this build and is lost again is an error, which bounds the retries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::StepId;
use oci::Digest;

/// The states of lost layers.
pub(super) struct Losses<C> {
    states: Mutex<HashMap<Digest, LossState<C>>>,
    /// True once a layer was lost. Read often, and most builds lose nothing.
    any: AtomicBool,
    /// Sources whose records were said to promise too much.
    warned: Mutex<BTreeSet<Arc<str>>>,
}

#[derive(Clone, Debug)]
enum LossState<C> {
    Missing,
    /// In this chain, which a step made, or which was here.
    Found(C, Option<StepId>),
    Gone,
}

/// The verdict on a chain.
pub(super) enum Review<C> {
    /// It can be used; some layers come from other chains.
    Usable(BTreeMap<Digest, C>),
    /// This layer has to be made first.
    Lacks(Digest),
    /// One of its layers is not made any more.
    Useless,
}

/// A report that a chain's layer cannot be read.
pub(super) struct Loss {
    pub layer: Digest,
    /// True if the reporter used the layer's newest location.
    pub is_found: bool,
    /// True if the chain's step made it in this build, or stands for it as an image does.
    pub is_own: bool,
}

impl<C> Default for Losses<C> {
    fn default() -> Self {
        Self { states: Mutex::default(), any: AtomicBool::new(false), warned: Mutex::default() }
    }
}

impl<C: Clone> Losses<C> {
    fn states(&self) -> MutexGuard<'_, HashMap<Digest, LossState<C>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if no layer was lost so far.
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Relaxed)
    }

    /// Takes note of a loss. Whether asking for the output once more can help.
    pub(super) fn lose(&self, loss: &Loss, at_hand: impl FnOnce() -> Option<C>) -> bool {
        let states = &mut *self.states();
        let state = match states.get(&loss.layer) {
            None => match (at_hand(), loss.is_own) {
                (Some(chain), _) => LossState::Found(chain, None),
                (None, false) => LossState::Missing,
                (None, true) => return false,
            },
            Some(LossState::Found(..)) if !loss.is_found => return true,
            Some(LossState::Found(_, None)) if !loss.is_own => LossState::Missing,
            Some(LossState::Found(..)) => return false,
            // It was lost when the user had begun already.
            Some(LossState::Missing | LossState::Gone) => return true,
        };
        states.insert(loss.layer, state);
        self.any.store(true, Ordering::Relaxed);
        true
    }

    /// True if a lost layer was found again; none if it was not lost.
    pub(super) fn is_found(&self, layer: Digest) -> Option<bool> {
        self.states().get(&layer).map(|state| matches!(state, LossState::Found(..)))
    }

    /// The step that made a layer again.
    pub(super) fn maker(&self, layer: Digest) -> Option<StepId> {
        match self.states().get(&layer) {
            Some(LossState::Found(_, maker)) => *maker,
            _ => None,
        }
    }

    /// Takes note that a step made layers; those that were lost are found.
    pub(super) fn made(&self, layers: &[Digest], chain: &C, maker: StepId) {
        let states = &mut *self.states();
        for layer in layers {
            if let Some(state @ (LossState::Missing | LossState::Gone)) = states.get_mut(layer) {
                *state = LossState::Found(chain.clone(), Some(maker));
            }
        }
    }

    /// Takes note that the step which made a layer has run: if that did not find it, nothing will.
    pub(super) fn give_up(&self, layer: Digest) {
        if let Some(state @ LossState::Missing) = self.states().get_mut(&layer) {
            *state = LossState::Gone;
        }
    }

    /// Looks at the layers of a chain.
    pub(super) fn review(&self, layers: &[Digest]) -> Review<C> {
        let states = self.states();
        let (mut lacks, mut donors) = (None, BTreeMap::new());
        for layer in layers {
            match states.get(layer) {
                None => (),
                Some(LossState::Found(chain, _)) => drop(donors.insert(*layer, chain.clone())),
                Some(LossState::Missing) => lacks = lacks.or(Some(*layer)),
                Some(LossState::Gone) => return Review::Useless,
            }
        }
        lacks.map_or(Review::Usable(donors), Review::Lacks)
    }

    /// True if no warning about a source's records was given yet.
    pub(super) fn is_news(&self, source: &Arc<str>) -> bool {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(source.clone())
    }
}
