//! Steps that run.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use graph::{Operation, Step, StepId, chain_text};
use tracing::Instrument as _;

use super::{Result, SolveError, Solver};
use crate::{Cache, Executor};

impl<E, C> Solver<'_, E, C>
where
    E: Executor,
    C: Cache<Chain = E::Chain>,
{
    pub(super) async fn run_now(&self, id: StepId) -> Result<E::Output, E> {
        let step = self.graph.step(id);
        if let Some((step, source)) = self.refused(id) {
            self.tasks.start(step).failed(&chain_text(&source));
            return Err(SolveError { step, source });
        }
        let inputs = self.inputs(id).await?;
        self.cells(id).runs_with();
        if step.inputs.is_empty() {
            return self.execute(id, step, inputs).await;
        }
        let cell = self
            .made
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(self.signature(id))
            .or_default()
            .clone();
        let make = || async {
            let output = self.execute(id, step, inputs).await?;
            if let (Some(made), Some(chain)) = (&self.on_made, self.executor.chain_of(&output)) {
                made(id, &chain);
            }
            Ok(output)
        };
        let output = cell.get_or_try_init(make).await?.clone();
        let records = self.cells(id).best_known().map(|known| &known.records);
        self.save(id, self.executor.chain_of(&output), records);
        Ok(output)
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

    async fn execute(
        &self,
        id: StepId,
        step: &Step,
        inputs: Vec<E::Output>,
    ) -> Result<E::Output, E> {
        let _permit = match step.operation {
            Operation::Run(_) | Operation::Files(_) => self.runs.acquire().await.ok(),
            _ => None,
        };
        // An image's bytes stay where they are: it is told of when they move.
        let quiet = self.is_image(id) || matches!(step.operation, Operation::Http(_));
        let running = (!quiet).then(|| self.tasks.start(id));
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
                    Some(running) => running.failed(&chain_text(&source)),
                    None => self.tasks.start(id).failed(&chain_text(&source)),
                }
                Err(SolveError { step: id, source })
            }
        }
    }
}
