//! The solver: demand-driven and memoised. Waiting is `.await`, cancelling is dropping.
//!
//! A caller that needs a key or an output asks for a job and waits for its cell; [`Solver::drive`]
//! polls all jobs side by side. The stack therefore does not grow with the graph, and the first
//! error of a job ends the build: no waiter ever sees one.
//!
//! Matching is a set question (BuildKit, `solver/cachemanager.go` and `solver/edge.go`): a record
//! matches a step if its digest is the step's and, for each input, one of its links leads to a
//! record that matches the input (with the step's selector) or to the input's content.

mod bytes;
mod cells;
mod lookup;
mod losses;
mod run;
mod signature;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use graph::{Graph, Operation, StepId, TaskEvent, chain_text};
use oci::Digest;
use tokio::sync::{Notify, OnceCell, Semaphore};

use crate::report::Running;
use crate::{Cache, Executor, FoundOutput, Solved, StepFacts, Tasks, step_key};

use cells::Cells;
use lookup::Known;
use losses::{Losses, Review};

/// A step that could not run.
#[derive(Debug, thiserror::Error)]
#[error("step {} cannot run", step.0)]
pub struct SolveError<E: Error + 'static> {
    /// The step that failed.
    pub step: StepId,
    /// Why.
    pub source: E,
}

/// Solves one graph.
pub struct Solver<'a, E: Executor, C> {
    graph: &'a Graph,
    executor: &'a E,
    cache: &'a C,
    tasks: &'a Tasks,
    cells: Vec<Cells<E>>,
    /// Shares one run between steps that turn out to have the same key. The holder of a cell waits
    /// for no other cell, because a step can have the key of its own input.
    made: SharedOutputs<E::Output>,
    runs: Semaphore,
    /// Jobs that were asked for and not begun.
    asked: Mutex<Vec<Job>>,
    was_asked: Notify,
    on_made: Option<OnMade<'a, E>>,
    on_start: Option<OnStart<'a>>,
    /// True if nothing may run, and only the user's files are read.
    surveys: AtomicBool,
    /// Layers that records promised in vain.
    losses: Losses<E::Chain>,
    /// The number of times that something derived from an output was forgotten.
    changes: AtomicU64,
}

/// Outputs by the signatures of their steps, for one solver or for several side by side.
pub struct SharedOutputs<O>(Arc<Mutex<HashMap<Digest, Arc<OnceCell<O>>>>>);

impl<O> Default for SharedOutputs<O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<O> Clone for SharedOutputs<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Called when a step made a chain.
type OnMade<'a, E> = Box<dyn Fn(StepId, &<E as Executor>::Chain) + Send + Sync + 'a>;

/// Called when a step begins to run.
type OnStart<'a> = Box<dyn Fn(StepId) + Send + Sync + 'a>;

/// A job of a step.
#[derive(Clone, Copy, Debug)]
enum Job {
    /// Looks up records by keys alone, without making anything.
    LookUpKeys(StepId),
    /// Looks up records, also by contents.
    LookUp(StepId),
    /// Runs the step if no record can be used.
    Run(StepId),
}

type Result<T, E> = std::result::Result<T, SolveError<<E as Executor>::Error>>;

impl<'a, E, C> Solver<'a, E, C>
where
    E: Executor,
    C: Cache<Chain = E::Chain>,
{
    /// A solver that runs at most `parallelism` steps at the same time.
    pub fn new(
        graph: &'a Graph,
        executor: &'a E,
        cache: &'a C,
        tasks: &'a Tasks,
        parallelism: usize,
    ) -> Self {
        let cells = graph.steps().map(|(_, step)| Cells::new(step_key(step))).collect();
        Self {
            graph,
            executor,
            cache,
            tasks,
            cells,
            made: SharedOutputs::default(),
            runs: Semaphore::new(parallelism.max(1)),
            asked: Mutex::default(),
            was_asked: Notify::new(),
            on_made: None,
            on_start: None,
            surveys: AtomicBool::new(false),
            losses: Losses::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Shares outputs with other solvers: a solver with the same step waits for the first one. The
    /// outputs of one executor must serve all.
    #[must_use]
    pub fn sharing(mut self, made: SharedOutputs<E::Output>) -> Self {
        self.made = made;
        self
    }

    /// Calls `made` whenever a step has made a chain, before others use it.
    #[must_use]
    pub fn on_made(mut self, made: impl Fn(StepId, &E::Chain) + Send + Sync + 'a) -> Self {
        self.on_made = Some(Box::new(made));
        self
    }

    /// Calls `start` whenever a step that was not found begins to run.
    #[must_use]
    pub fn on_start(mut self, start: impl Fn(StepId) + Send + Sync + 'a) -> Self {
        self.on_start = Some(Box::new(start));
        self
    }

    /// Finds or makes the output of `target`.
    ///
    /// # Errors
    /// The first step that could not run; the others are dropped.
    pub async fn solve(&self, target: StepId) -> Result<Solved<E::Output, E::Chain>, E> {
        let Solved { mut output, steps } = self.solve_all(&[target]).await?;
        let output = output.pop().expect("each target has an output");
        Ok(Solved { output, steps })
    }

    /// Finds or makes the outputs of several targets at the same time, in their order, sharing
    /// common steps. A caller that cannot get the bytes of an output reports it ([`Solver::lose`])
    /// and solves again: only the lost parts are made again.
    ///
    /// # Errors
    /// As [`Solver::solve`].
    pub async fn solve_all(
        &self,
        targets: &[StepId],
    ) -> Result<Solved<Vec<E::Output>, E::Chain>, E> {
        let reachable = self.reachable(targets);
        let solved = async {
            let current = join_all(targets.iter().map(|target| self.current(*target))).await;
            // A cache is given outputs of steps that no target needs.
            join_all(reachable.iter().map(|id| self.settle(*id))).await;
            current.into_iter().map(|current| current.output).collect()
        };
        let output = self.drive(solved).await?;
        for id in reachable {
            self.tell_unneeded(id);
        }
        Ok(Solved { output, steps: self.learned(targets) })
    }

    /// Makes lost layers of what was found of a step.
    async fn settle(&self, id: StepId) {
        while let Some(chain) = self.offered(id)
            && let Review::Lacks(layer) = self.losses.review(&self.executor.layers(&chain))
        {
            self.remake(id, &chain, layer).await;
        }
    }

    /// The chain of what a step made, or was found with.
    fn offered(&self, id: StepId) -> Option<E::Chain> {
        let cells = self.cells(id);
        match cells.made() {
            Some((_, output)) => self.executor.chain_of(&output),
            None => self.usable(id, cells.best_known()?).map(|(_, found)| found.chain.clone()),
        }
    }

    /// Looks up every step that targets stand on, and runs none. Contents of what is not a folder
    /// of the user's are not computed, so a step that only such a content would find counts as
    /// not found.
    ///
    /// # Errors
    /// If the user's files cannot be read.
    pub async fn survey(&self, targets: &[StepId]) -> Result<Vec<StepFacts<E::Chain>>, E> {
        self.surveys.store(true, Ordering::Relaxed);
        let looked_up = async {
            for id in self.reachable(targets) {
                self.known(id).await;
            }
        };
        self.drive(looked_up).await?;
        Ok(self.learned(targets))
    }

    /// The facts about all steps below the targets, each after its inputs. After a failed build
    /// they cover everything that was found or made.
    pub fn learned(&self, targets: &[StepId]) -> Vec<StepFacts<E::Chain>> {
        self.reachable(targets).into_iter().map(|id| self.facts(id)).collect()
    }

    /// Works until a goal is reached, or a job fails.
    async fn drive<T>(&self, goal: impl Future<Output = T>) -> Result<T, E> {
        let mut goal = std::pin::pin!(goal);
        let mut jobs = FuturesUnordered::new();
        let value = loop {
            let asked =
                std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
            jobs.extend(asked.into_iter().map(|job| self.work(job)));
            tokio::select! {
                biased;
                value = &mut goal => break value,
                () = self.was_asked.notified() => (),
                Some(done) = jobs.next() => done?,
            }
        };
        // Jobs without waiters were dropped, and can be asked for again.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.cells.iter().for_each(Cells::withdraw);
        Ok(value)
    }

    fn ask(&self, job: Job) {
        let (id, question) = match job {
            Job::LookUpKeys(id) => (id, 0),
            Job::LookUp(id) => (id, 1),
            Job::Run(id) => (id, 2),
        };
        if !self.cells(id).asked[question].swap(true, Ordering::Relaxed) {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(job);
            self.was_asked.notify_one();
        }
    }

    async fn work(&self, job: Job) -> Result<(), E> {
        // Each job is asked for once, so its cell is empty.
        match job {
            Job::LookUpKeys(id) => drop(self.cells(id).keyed.set(self.look_up_keys(id).await?)),
            Job::LookUp(id) => drop(self.cells(id).known.set(self.look_up(id).await?)),
            Job::Run(id) => {
                let output = self.run_now(id).await?;
                self.note_made(id, &output);
                if self.cells(id).was_doubted() || !self.losses.is_empty() {
                    self.note_changed(id);
                }
                drop(self.cells(id).attempt().set(output));
            }
        }
        Ok(())
    }

    fn cells(&self, id: StepId) -> &Cells<E> {
        &self.cells[id.0 as usize]
    }

    /// The newest output of the records that is not known to be of no use.
    fn usable<'k>(
        &self,
        id: StepId,
        known: &'k Known<E::Chain>,
    ) -> Option<(usize, &'k FoundOutput<E::Chain>)> {
        if self.graph.step(id).ignore_cache {
            return None;
        }
        let given_up = self.cells(id).given_up.lock().unwrap_or_else(PoisonError::into_inner);
        let is_useless = |found: &FoundOutput<E::Chain>| {
            !self.losses.is_empty()
                && matches!(
                    self.losses.review(&self.executor.layers(&found.chain)),
                    Review::Useless
                )
        };
        let mut found = known.found.iter().enumerate();
        found
            .find(|(index, (_, found))| !given_up.contains(index) && !is_useless(found))
            .map(|(index, (_, found))| (index, found))
    }

    fn facts(&self, id: StepId) -> StepFacts<E::Chain> {
        let cells = self.cells(id);
        let known = cells.best_known();
        let found = known.and_then(|known| self.usable(id, known).map(|(_, found)| found.clone()));
        let records = known.map(|known| self.informants(id, known, found.as_ref()));
        let mut renewed = Vec::new();
        let output = self.offered(id).and_then(|chain| {
            match self.losses.review(&self.executor.layers(&chain)) {
                Review::Usable(donors) if donors.is_empty() => Some(chain),
                Review::Usable(donors) => {
                    renewed.extend(donors.keys());
                    Some(self.executor.renewed(chain, &donors))
                }
                Review::Lacks(_) | Review::Useless => None,
            }
        });
        let cached = match cells.made() {
            Some(_) => None,
            None => found.map(|found| found.source),
        };
        let is_source = self.graph.step(id).inputs.is_empty();
        let executed = cells.executed.load(Ordering::Relaxed);
        StepFacts {
            id,
            digests: cells.digests().to_vec(),
            inputs: self.input_facts(id, records.as_ref()),
            output,
            renewed,
            ran: executed && !is_source,
            cached,
        }
    }

    /// All steps that targets stand on, each after its inputs.
    fn reachable(&self, targets: &[StepId]) -> BTreeSet<StepId> {
        let mut seen = BTreeSet::new();
        let mut open = targets.to_vec();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&self.graph.step(id).inputs);
            }
        }
        seen
    }

    fn tell_cached(&self, id: StepId, source: &Arc<str>) {
        if !self.cells(id).told.swap(true, Ordering::Relaxed) {
            self.tasks.send(id, TaskEvent::Cached(source.clone()));
        }
    }

    fn is_image(&self, id: StepId) -> bool {
        matches!(self.graph.step(id).operation, Operation::Image(_))
    }

    /// Says, the first time, that the bytes of an image begin to move.
    fn start_moving(&self, id: StepId) -> Option<Running<'_>> {
        let new = self.is_image(id) && !self.cells(id).told.swap(true, Ordering::Relaxed);
        new.then(|| self.tasks.start(id))
    }

    /// Asks a source for its digests. What is downloaded for them is the step's work that others
    /// see.
    async fn ask_source(&self, id: StepId) -> Result<(), E> {
        let step = self.graph.step(id);
        let remote = matches!(step.operation, Operation::Http(_) | Operation::Git(_));
        let running = remote.then(|| self.tasks.start(id));
        self.cells(id).told.fetch_or(remote, Ordering::Relaxed);
        match self.executor.source_digests(id, step).await {
            Ok(digests) => {
                if let Some(running) = running {
                    running.done();
                }
                self.cells(id).source.get_or_init(|| digests);
                Ok(())
            }
            Err(source) => {
                let running = running.unwrap_or_else(|| self.tasks.start(id));
                running.failed(&chain_text(&source));
                Err(SolveError { step: id, source })
            }
        }
    }

    /// A step of which only the key was needed counts as cached.
    fn tell_unneeded(&self, id: StepId) {
        let local = matches!(self.graph.step(id).operation, Operation::Local(_));
        if !local {
            self.tell_cached(id, &Arc::from("key"));
        }
    }
}
