//! Bytes of outputs: brought where they are, and made again where they were promised in vain.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use graph::{Operation, StepId, TaskEvent, chain_text};
use oci::Digest;
use tokio::sync::SetOnce;

use super::losses::{Loss, Review};
use super::{Job, Result, SolveError, Solver};
use crate::{Blame, Cache, Executor, Fetch};

/// An output to be used, and where it comes from.
pub(super) struct Current<O> {
    pub(super) output: O,
    origin: Origin<O>,
    /// Layers that come from elsewhere than was promised.
    renewed: BTreeSet<Digest>,
}

/// The origin of an output.
#[derive(Clone)]
enum Origin<O> {
    /// From a record, by its place in `Known::found`.
    Record(usize),
    /// The step made it.
    Made(Arc<SetOnce<O>>),
}

impl<E, C> Solver<'_, E, C>
where
    E: Executor,
    C: Cache<Chain = E::Chain>,
{
    /// Takes note that layers of what was solved cannot be had. Whether solving again can help:
    /// it makes them, and nothing else. `error` is said once for each cache that promised them.
    pub fn lose(&self, layers: &[Digest], error: &str) -> bool {
        let lose = |layer: &Digest| {
            let is_found = self.losses.is_found(*layer);
            let loss = Loss { layer: *layer, is_found: is_found == Some(true), is_own: false };
            // The target has no layer that is known to be lost, so this one belongs to no step.
            is_found != Some(false) && self.losses.lose(&loss, || self.executor.at_hand(*layer))
        };
        // A chain can have a layer twice.
        let distinct: BTreeSet<&Digest> = layers.iter().collect();
        let helps = !distinct.is_empty() && distinct.into_iter().all(lose);
        if helps && let Some((id, source)) = layers.iter().find_map(|layer| self.promise_of(*layer))
        {
            self.warn_of_loss(id, &source, error);
        }
        helps
    }

    /// Takes note of the layers that an error of a step's run blames. Whether another run can help.
    pub(super) fn loses_with(&self, error: &E::Error) -> bool {
        let Some(Blame::Layers(layers)) = self.executor.blame(error) else { return false };
        let lose = |layer: &Digest| {
            let is_found = self.losses.is_found(*layer) == Some(true);
            let loss = Loss { layer: *layer, is_found, is_own: false };
            self.losses.lose(&loss, || self.executor.at_hand(*layer))
        };
        let helps = !layers.is_empty() && layers.iter().all(lose);
        if helps && let Some((id, source)) = layers.iter().find_map(|layer| self.promise_of(*layer))
        {
            self.warn_of_loss(id, &source, &chain_text(error));
        }
        helps
    }

    /// The output of a step, of which no layer is known to be lost.
    pub(super) async fn current(&self, id: StepId) -> Current<E::Output> {
        loop {
            let known = self.known(id).await;
            let made = self.cells(id).made();
            let (origin, output, chain) = match (made, self.usable(id, &known)) {
                (Some((attempt, output)), _) => {
                    let chain = self.executor.chain_of(&output);
                    (Origin::Made(attempt), output, chain)
                }
                (None, Some((index, found))) => {
                    let chain = found.chain.clone();
                    (Origin::Record(index), self.executor.restore(chain.clone()), Some(chain))
                }
                (None, None) => {
                    self.run(id).await;
                    continue;
                }
            };
            let Some(chain) = chain.filter(|_| !self.losses.is_empty()) else {
                return Current { output, origin, renewed: BTreeSet::new() };
            };
            match (self.losses.review(&self.executor.layers(&chain)), &origin) {
                (Review::Usable(donors), _) if donors.is_empty() => {
                    return Current { output, origin, renewed: BTreeSet::new() };
                }
                (Review::Usable(donors), _) => {
                    let output = self.executor.restore(self.executor.renewed(chain, &donors));
                    return Current { output, origin, renewed: donors.into_keys().collect() };
                }
                (Review::Lacks(layer), _) => self.remake(id, &chain, layer).await,
                // A step below it now makes something else.
                (Review::Useless, Origin::Made(attempt)) => self.run_again(id, attempt),
                // Between the two looks a layer was given up: the next record, if there is one.
                (Review::Useless, Origin::Record(_)) => (),
            }
        }
    }

    /// Runs the step that made a lost layer of a chain that a step gives.
    pub(super) async fn remake(&self, id: StepId, chain: &E::Chain, layer: Digest) {
        let maker = self.maker_of(id, chain, layer).await;
        let output = self.run(maker).await;
        self.note_made(maker, &output);
        self.losses.give_up(layer);
    }

    /// Finds lost layers among those that a step made.
    pub(super) fn note_made(&self, id: StepId, output: &E::Output) {
        if !self.losses.is_empty()
            && let Some(chain) = self.executor.chain_of(output)
        {
            self.losses.made(&self.own_layers(id, &chain), &chain, id);
        }
    }

    /// The step that made a layer of a chain: on the way down, the last whose output has it.
    async fn maker_of(&self, id: StepId, chain: &E::Chain, layer: Digest) -> StepId {
        let (mut at, mut layers) = (id, self.executor.layers(chain));
        'down: loop {
            let step = self.graph.step(at);
            let is_merge = matches!(step.operation, Operation::Merge);
            let below = if is_merge { layers.len() } else { layers.len().saturating_sub(1) };
            if !layers[..below].contains(&layer) {
                return at;
            }
            for input in step.inputs.iter().copied() {
                if let Some(promised) = self.promised(input).await
                    && promised.contains(&layer)
                {
                    (at, layers) = (input, promised);
                    continue 'down;
                }
            }
            // Caches need not keep what is below the last step: it has the layers below.
            match step.inputs.first().copied() {
                Some(first) if !is_merge && self.promised(first).await.is_none() => {
                    layers.truncate(below);
                    at = first;
                }
                _ => return at,
            }
        }
    }

    /// The layers of what a step gives, if that is known without running it.
    async fn promised(&self, id: StepId) -> Option<Vec<Digest>> {
        if self.is_image(id) {
            self.run(id).await;
        }
        let known = self.known(id).await;
        let chain = match self.cells(id).made() {
            Some((_, output)) => self.executor.chain_of(&output),
            None => self.usable(id, &known).map(|(_, found)| found.chain.clone()),
        };
        chain.map(|chain| self.executor.layers(&chain))
    }

    /// The layers of a chain that a step stands for itself.
    fn own_layers(&self, id: StepId, chain: &E::Chain) -> Vec<Digest> {
        let layers = self.executor.layers(chain);
        match self.graph.step(id).operation {
            Operation::Image(_) => layers,
            Operation::Merge => Vec::new(),
            _ => layers.last().copied().into_iter().collect(),
        }
    }

    /// Schedules another run of a step, unless it is scheduled already.
    fn run_again(&self, id: StepId, attempt: &Arc<SetOnce<E::Output>>) {
        if self.cells(id).forget(attempt) {
            self.note_changed(id);
        }
    }

    /// Forgets what was derived from an output that a step has no more.
    pub(super) fn note_changed(&self, id: StepId) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        for (user, step) in self.graph.steps() {
            for (content, input) in std::iter::zip(&self.cells(user).contents, &step.inputs) {
                if *input == id {
                    *content.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
                }
            }
            self.cells(user).forget_signature();
        }
    }

    /// Brings here what a consumer needs of its input's output.
    pub(super) async fn fetched(&self, consumer: StepId, input: usize) -> Result<E::Output, E> {
        let step = self.graph.step(consumer);
        let id = step.inputs[input];
        let shown_by = if self.is_image(id) { id } else { consumer };
        let content = self.cells(consumer).key.inputs[input].content.as_ref();
        let fetch = |output: E::Output| {
            async move {
                let fetch = Fetch { step, input, output: &output, content, shown_by };
                self.executor.fetch(fetch).await
            }
            .boxed()
        };
        self.with_bytes(id, consumer, fetch).await.map(|(output, ())| output)
    }

    /// Does something that needs bytes of a step's output. A record whose bytes are gone is a
    /// miss: it is said once, and what made the bytes runs.
    pub(super) async fn with_bytes<'f, T>(
        &self,
        id: StepId,
        consumer: StepId,
        work: impl Fn(E::Output) -> BoxFuture<'f, std::result::Result<T, E::Error>>,
    ) -> Result<(E::Output, T), E> {
        loop {
            let current = self.current(id).await;
            let moving = match current.origin {
                Origin::Made(_) => self.start_moving(id),
                Origin::Record(_) => None,
            };
            let error = match work(current.output.clone()).await {
                Ok(value) => {
                    if let Some(moving) = moving {
                        moving.done();
                    }
                    return Ok((current.output, value));
                }
                Err(error) => error,
            };
            let blame = self.executor.blame(&error);
            let step = match &blame {
                None => consumer,
                Some(Blame::Output) => id,
                Some(Blame::Layers(layers)) => {
                    layers.iter().find_map(|layer| self.losses.maker(*layer)).unwrap_or(id)
                }
            };
            let goes_on = blame.is_some_and(|blame| self.doubt(id, &current, &blame, &error));
            match moving {
                Some(moving) if goes_on || step == consumer => moving.done(),
                Some(moving) => moving.failed(&chain_text(&error)),
                None => (),
            }
            if !goes_on {
                return Err(SolveError { step, source: error });
            }
        }
    }

    /// Takes note that an output could not be used. Whether asking for it once more can help.
    fn doubt(
        &self,
        id: StepId,
        current: &Current<E::Output>,
        blame: &Blame,
        error: &E::Error,
    ) -> bool {
        let chain = self.executor.chain_of(&current.output);
        let own = match &current.origin {
            Origin::Made(_) => chain.as_ref().map(|chain| self.own_layers(id, chain)),
            Origin::Record(_) => None,
        };
        let lost: Vec<Digest> = match (blame, &chain) {
            (Blame::Layers(layers), Some(chain)) => {
                let has = self.executor.layers(chain);
                layers.iter().filter(|layer| has.contains(layer)).copied().collect()
            }
            _ => Vec::new(),
        };
        let source = self.source_of(id, current, &lost);
        let lose = |layer: &Digest| {
            let is_own = own.as_ref().is_some_and(|own| own.contains(layer));
            let loss = Loss { layer: *layer, is_found: current.renewed.contains(layer), is_own };
            self.losses.lose(&loss, || self.executor.at_hand(*layer))
        };
        let goes_on = match (&current.origin, lost.is_empty()) {
            (_, false) => lost.iter().all(lose),
            (Origin::Record(index), true) => {
                let given_up = &self.cells(id).given_up;
                given_up.lock().unwrap_or_else(PoisonError::into_inner).insert(*index);
                true
            }
            (Origin::Made(_), true) => false,
        };
        if goes_on && let Some(source) = source {
            self.warn_of_loss(id, &source, &chain_text(error));
        }
        goes_on
    }

    /// The source whose record promised an output, or layers of it that were not made here.
    fn source_of(
        &self,
        id: StepId,
        current: &Current<E::Output>,
        lost: &[Digest],
    ) -> Option<Arc<str>> {
        match current.origin {
            Origin::Record(index) => {
                let known = self.cells(id).best_known()?;
                known.found.get(index).map(|(_, found)| found.source.clone())
            }
            Origin::Made(_) => {
                let promise = lost.iter().find_map(|layer| self.promise_of(*layer));
                promise.map(|(_, source)| source)
            }
        }
    }

    /// A step that was found with a layer, and the source that said so.
    fn promise_of(&self, layer: Digest) -> Option<(StepId, Arc<str>)> {
        self.graph.steps().find_map(|(id, _)| {
            let (_, found) = self.usable(id, self.cells(id).best_known()?)?;
            let promises = self.executor.layers(&found.chain).contains(&layer);
            promises.then(|| (id, found.source.clone()))
        })
    }

    fn warn_of_loss(&self, id: StepId, source: &Arc<str>, error: &str) {
        if self.losses.is_news(source) {
            let text = format!("records of {source} cannot be used, their steps run: {error}");
            self.tasks.send(id, TaskEvent::Warning(text.into()));
        }
    }

    /// Runs a step, once.
    pub(super) async fn run(&self, id: StepId) -> E::Output {
        self.ask(Job::Run(id));
        self.cells(id).attempt().wait().await.clone()
    }
}
