//! Steps that run.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use futures_util::future::try_join_all;
use graph::{Operation, StepId, chain_text};
use tracing::Instrument as _;

use super::{Result, SolveError, Solver};
use crate::report::Running;
use crate::{Blame, Cache, Executor};

impl<E, C> Solver<'_, E, C>
where
    E: Executor,
    C: Cache<Chain = E::Chain>,
{
    pub(super) async fn run_now(&self, id: StepId) -> Result<E::Output, E> {
        if let Some((step, source)) = self.refused(id) {
            self.tasks.start(step).failed(&chain_text(&source));
            return Err(SolveError { step, source });
        }
        loop {
            let error = match self.run_on_inputs(id).await {
                Ok(output) => return Ok(output),
                Err(error) => error,
            };
            // A command can need bytes of its inputs that nobody missed before it ran.
            if !self.loses_with(&error.source) {
                if self.blames_layers(&error.source) && error.step == id {
                    self.tasks.start(id).failed(&chain_text(&error.source));
                }
                return Err(error);
            }
        }
    }

    fn blames_layers(&self, error: &E::Error) -> bool {
        matches!(self.executor.blame(error), Some(Blame::Layers(_)))
    }

    async fn run_on_inputs(&self, id: StepId) -> Result<E::Output, E> {
        let step = self.graph.step(id);
        let inputs = self.inputs(id).await?;
        self.cells(id).runs_with();
        if step.inputs.is_empty() {
            return self.execute(id, inputs, None).await;
        }
        let cell = self
            .made
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(self.signature(id))
            .or_default()
            .clone();
        let has_saved = AtomicBool::new(false);
        let output = cell.get_or_try_init(|| self.make(id, inputs, &has_saved)).await?.clone();
        if !has_saved.load(Ordering::Relaxed) {
            self.save_output(id, &output);
        }
        Ok(output)
    }

    /// Makes a step's output, unless another build makes the same one meanwhile.
    async fn make(
        &self,
        id: StepId,
        inputs: Vec<E::Output>,
        has_saved: &AtomicBool,
    ) -> Result<E::Output, E> {
        let Some(name) = self.turn_name(id, &inputs) else {
            return self.make_now(id, inputs, None).await;
        };
        let mut waiting = None;
        let turn = self.executor.turn(id, name, || waiting = Some(self.tasks.start(id))).await;
        let made = match self.made_meanwhile(id, &inputs) {
            Some(found) => {
                self.tell_found(id, waiting, &found.source);
                Ok(self.executor.restore(found.chain))
            }
            None => self.make_now(id, inputs, waiting).await,
        };
        if let Some(turn) = turn {
            // Those who wait look for the record.
            if let Ok(output) = &made {
                self.save_output(id, output);
                has_saved.store(true, Ordering::Relaxed);
            }
            turn.end(made.is_ok());
        }
        made
    }

    async fn make_now(
        &self,
        id: StepId,
        inputs: Vec<E::Output>,
        waiting: Option<Running<'_>>,
    ) -> Result<E::Output, E> {
        let output = self.execute(id, inputs, waiting).await?;
        if let (Some(made), Some(chain)) = (&self.on_made, self.executor.chain_of(&output)) {
            made(id, &chain);
        }
        Ok(output)
    }

    fn tell_found(&self, id: StepId, waiting: Option<Running<'_>>, source: &Arc<str>) {
        match waiting {
            Some(waiting) => {
                self.cells(id).told.store(true, Ordering::Relaxed);
                waiting.found(source);
            }
            None => self.tell_cached(id, source),
        }
    }

    fn save_output(&self, id: StepId, output: &E::Output) {
        let records = self.cells(id).best_known().map(|known| &known.records);
        self.save(id, self.executor.chain_of(output), records);
    }

    /// A step's inputs, with what is needed of their bytes, and the contents of just those.
    async fn inputs(&self, id: StepId) -> Result<Vec<E::Output>, E> {
        loop {
            let changes = self.changes.load(Ordering::Relaxed);
            let count = self.graph.step(id).inputs.len();
            let inputs = try_join_all((0..count).map(|input| self.fetched(id, input))).await?;
            self.learn_contents(id).await?;
            if self.changes.load(Ordering::Relaxed) == changes {
                return Ok(inputs);
            }
        }
    }

    /// If a step may not run: the lowest of those that would have to, and may not. It is the one to
    /// tell of, the others would run because of it.
    fn refused(&self, id: StepId) -> Option<(StepId, E::Error)> {
        self.executor.refuses(id)?;
        let is_missing = |id: &StepId| {
            let known = self.cells(*id).best_known();
            known.is_some_and(|known| self.usable(*id, known).is_none())
        };
        let (mut missing, mut open) = (BTreeSet::from([id]), vec![id]);
        while let Some(id) = open.pop() {
            let inputs = self.graph.step(id).inputs.iter().copied();
            open.extend(inputs.filter(is_missing).filter(|input| missing.insert(*input)));
        }
        missing.into_iter().find_map(|id| Some((id, self.executor.refuses(id)?)))
    }

    /// Runs a step. `waiting` is what progress shows of it already.
    async fn execute(
        &self,
        id: StepId,
        inputs: Vec<E::Output>,
        waiting: Option<Running<'_>>,
    ) -> Result<E::Output, E> {
        let step = self.graph.step(id);
        let _permit = match step.operation {
            Operation::Run(_) | Operation::Files(_) => self.runs.acquire().await.ok(),
            _ => None,
        };
        // An image's bytes stay where they are: it is told of when they move.
        let quiet = self.is_image(id) || matches!(step.operation, Operation::Http(_));
        let running = waiting.or_else(|| (!quiet).then(|| self.tasks.start(id)));
        self.cells(id).executed.store(true, Ordering::Relaxed);
        self.cells(id).told.fetch_or(!quiet, Ordering::Relaxed);
        if let Some(start) = &self.on_start {
            start(id);
        }
        let span = tracing::debug_span!("step", id = id.0, name = step.name);
        match self.executor.run(id, step, inputs).instrument(span).await {
            Ok(output) => {
                if let Some(running) = running {
                    running.done();
                }
                Ok(output)
            }
            Err(source) => {
                match running {
                    // It may run again.
                    Some(running) if self.blames_layers(&source) => running.done(),
                    running => {
                        running.unwrap_or_else(|| self.tasks.start(id)).failed(&chain_text(&source))
                    }
                }
                Err(SolveError { step: id, source })
            }
        }
    }
}
