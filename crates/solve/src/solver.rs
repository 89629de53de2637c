//! The solver: demand-driven and memoised. Waiting is `.await`, cancelling is dropping.
//!
//! Whoever needs a key or an output asks for a job and waits for its cell; [`Solver::drive`] polls
//! all jobs side by side. So the stack does not grow with the graph, and the first error of a job
//! ends the build: who waits for a cell never sees one.
//!
//! Matching is a set question (interop reference, 1.5): a record matches a step if its digest is
//! the step's and, for each input, one of its links leads to a record that matches the input
//! (with the step's selector) or to the input's content.

mod lookup;
mod signature;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use graph::{Graph, Operation, Step, StepId, TaskEvent, chain_text};
use oci::Digest;
use tokio::sync::{Notify, OnceCell, Semaphore, SetOnce};

use crate::report::Running;
use crate::{Cache, Executor, Fetch, Found, RecordId, Solved, StepFacts, StepKey, Tasks, step_key};

use lookup::Known;

/// A step that could not run.
#[derive(Debug, thiserror::Error)]
#[error("step {} cannot run", step.0)]
pub struct SolveError<E: Error + 'static> {
    /// Which step.
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
    /// Shares one run between steps that turn out to have the same key. Whoever holds one of
    /// these cells waits for no other cell: a step can have the key of its own input.
    made: Shared<E::Output>,
    runs: Semaphore,
    /// Jobs that were asked for and not begun.
    asked: Mutex<Vec<Job>>,
    was_asked: Notify,
    on_made: Option<OnMade<'a, E>>,
    on_start: Option<OnStart<'a>>,
    /// Whether nothing is to run: only files that the user gives are looked at.
    surveys: AtomicBool,
}

/// What steps made, by their signatures: for one solver, or for several that run side by side.
pub struct Shared<O>(Arc<Mutex<HashMap<Digest, Arc<OnceCell<O>>>>>);

impl<O> Default for Shared<O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<O> Clone for Shared<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Called when a step made a chain.
type OnMade<'a, E> = Box<dyn Fn(StepId, &<E as Executor>::Chain) + Send + Sync + 'a>;

/// Called when a step begins to run.
type OnStart<'a> = Box<dyn Fn(StepId) + Send + Sync + 'a>;

/// What is known of one step so far.
struct Cells<E: Executor> {
    key: StepKey,
    /// The digests of a source, once its executor gave them.
    source: OnceLock<Vec<Digest>>,
    /// What keys alone find, and the files that the user gives.
    keyed: SetOnce<Arc<Known<E::Chain>>>,
    /// What contents find too.
    known: SetOnce<Arc<Known<E::Chain>>>,
    /// An output that the step made because no record's could be used.
    ran: SetOnce<E::Output>,
    /// Whether the three were asked for.
    asked: [AtomicBool; 3],
    /// Records of this machine that were saved for it.
    saved: Mutex<Vec<RecordId>>,
    /// For each input that counts by content, its content's record.
    contents: Vec<OnceCell<Digest>>,
    signature: OnceLock<Digest>,
    /// Whether this step itself was executed, and not only another with its signature.
    executed: AtomicBool,
    /// Whether progress has been told how it was come by.
    told: AtomicBool,
    /// Records whose bytes were asked for and are gone, by place in `Known::found`.
    lost: Mutex<BTreeSet<usize>>,
}

/// What a step can be asked.
#[derive(Clone, Copy, Debug)]
enum Job {
    /// What records are there, as far as nothing has to be made to tell?
    LookUpKeys(StepId),
    /// What records are there?
    LookUp(StepId),
    /// What is made where none can be used?
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
            made: Shared::default(),
            runs: Semaphore::new(parallelism.max(1)),
            asked: Mutex::default(),
            was_asked: Notify::new(),
            on_made: None,
            on_start: None,
            surveys: AtomicBool::new(false),
        }
    }

    /// Shares what steps make with other solvers that have the same: whoever comes second waits.
    /// Their executors must make outputs that serve all.
    #[must_use]
    pub fn sharing(mut self, made: Shared<E::Output>) -> Self {
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

    /// Finds or makes the outputs of several targets at the same time, in their order. What they
    /// share is done once.
    ///
    /// # Errors
    /// As [`Solver::solve`].
    pub async fn solve_all(
        &self,
        targets: &[StepId],
    ) -> Result<Solved<Vec<E::Output>, E::Chain>, E> {
        let outputs = join_all(targets.iter().map(|target| self.output(*target)));
        let output = self.drive(outputs).await?;
        for id in self.reachable(targets) {
            self.tell_unneeded(id);
        }
        Ok(Solved { output, steps: self.learned(targets) })
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

    /// What is known of every step that targets stand on, each after its inputs: of a build that
    /// did not end well, what was found and made until then.
    pub fn learned(&self, targets: &[StepId]) -> Vec<StepFacts<E::Chain>> {
        self.reachable(targets).into_iter().map(|id| self.facts(id)).collect()
    }

    /// Works until a goal is reached, or a job fails.
    async fn drive<T>(&self, goal: impl Future<Output = T>) -> Result<T, E> {
        let mut goal = std::pin::pin!(goal);
        let mut jobs = FuturesUnordered::new();
        loop {
            let asked =
                std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
            jobs.extend(asked.into_iter().map(|job| self.work(job)));
            tokio::select! {
                biased;
                value = &mut goal => return Ok(value),
                () = self.was_asked.notified() => (),
                Some(done) = jobs.next() => done?,
            }
        }
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
            Job::Run(id) => drop(self.cells(id).ran.set(self.run_now(id).await?)),
        }
        Ok(())
    }

    fn cells(&self, id: StepId) -> &Cells<E> {
        &self.cells[id.0 as usize]
    }

    /// The output of a step, wherever its bytes are.
    async fn output(&self, id: StepId) -> E::Output {
        let known = self.known(id).await;
        match self.usable(id, &known) {
            Some((_, found)) => self.executor.restore(found.chain.clone()),
            None => self.run(id).await,
        }
    }

    /// The newest output of the records that is not known to be gone.
    fn usable<'k>(
        &self,
        id: StepId,
        known: &'k Known<E::Chain>,
    ) -> Option<(usize, &'k Found<E::Chain>)> {
        if self.graph.step(id).ignore_cache {
            return None;
        }
        let lost = self.cells(id).lost.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = known.found.iter().enumerate();
        found.find(|(index, _)| !lost.contains(index)).map(|(index, (_, found))| (index, found))
    }

    /// Brings here what a consumer needs of its input's output.
    async fn fetched(&self, consumer: StepId, input: usize) -> Result<E::Output, E> {
        let step = self.graph.step(consumer);
        let id = step.inputs[input];
        let shown_by = if self.is_image(id) { id } else { consumer };
        let fetch = |output: E::Output| {
            async move {
                self.executor.fetch(Fetch { step, input, output: &output, shown_by }).await
            }
            .boxed()
        };
        self.with_bytes(id, consumer, fetch).await.map(|(output, ())| output)
    }

    /// Does something that needs bytes of a step's output. A record whose bytes are gone is a
    /// miss: it is said once, and the next record is tried, or the step runs.
    async fn with_bytes<'f, T>(
        &self,
        id: StepId,
        consumer: StepId,
        work: impl Fn(E::Output) -> BoxFuture<'f, std::result::Result<T, E::Error>>,
    ) -> Result<(E::Output, T), E> {
        let known = self.known(id).await;
        while let Some((index, found)) = self.usable(id, &known)
            && self.cells(id).ran.get().is_none()
        {
            let output = self.executor.restore(found.chain.clone());
            match work(output.clone()).await {
                Ok(value) => return Ok((output, value)),
                Err(error) if self.executor.blames_output(&error) => {
                    self.give_up(id, index, found, &error);
                }
                Err(source) => return Err(SolveError { step: consumer, source }),
            }
        }
        let output = self.run(id).await;
        let moving = self.start_moving(id);
        let result = work(output.clone()).await;
        let result = result.map_err(|source| {
            let step = if self.executor.blames_output(&source) { id } else { consumer };
            SolveError { step, source }
        });
        if let Some(moving) = moving {
            match &result {
                Err(error) if error.step == id => moving.failed(&chain_text(&error.source)),
                _ => moving.done(),
            }
        }
        result.map(|value| (output, value))
    }

    fn give_up(&self, id: StepId, index: usize, found: &Found<E::Chain>, error: &E::Error) {
        let new = self.cells(id).lost.lock().unwrap_or_else(PoisonError::into_inner).insert(index);
        if new {
            let error = chain_text(error);
            let text = format!("a record of {} cannot be used: {error}", found.source);
            self.tasks.send(id, TaskEvent::Warning(text.into()));
        }
    }

    /// Runs a step, once.
    async fn run(&self, id: StepId) -> E::Output {
        self.ask(Job::Run(id));
        self.cells(id).ran.wait().await.clone()
    }

    async fn run_now(&self, id: StepId) -> Result<E::Output, E> {
        let step = self.graph.step(id);
        if let Some((step, source)) = self.refused(id) {
            self.tasks.start(step).failed(&chain_text(&source));
            return Err(SolveError { step, source });
        }
        let fetched = (0..step.inputs.len()).map(|input| self.fetched(id, input));
        let inputs = try_join_all(fetched).await?;
        self.learn_contents(id).await?;
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
        match self.executor.run(id, step, inputs).await {
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

    fn facts(&self, id: StepId) -> StepFacts<E::Chain> {
        let cells = self.cells(id);
        let ran = cells.ran.get();
        let known = cells.best_known();
        let found = known.and_then(|known| self.usable(id, known).map(|(_, found)| found.clone()));
        let records = known.map(|known| self.informants(id, known, found.as_ref()));
        let (output, cached) = match (ran, found) {
            (Some(output), _) => (self.executor.chain_of(output), None),
            (None, Some(found)) => (Some(found.chain), Some(found.source)),
            (None, None) => (None, None),
        };
        let is_source = self.graph.step(id).inputs.is_empty();
        let executed = cells.executed.load(Ordering::Relaxed);
        StepFacts {
            id,
            digests: cells.digests().to_vec(),
            inputs: self.input_facts(id, records.as_ref()),
            output,
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
                match running {
                    Some(running) => running.failed(&chain_text(&source)),
                    None => self.tasks.start(id).failed(&chain_text(&source)),
                }
                Err(SolveError { step: id, source })
            }
        }
    }

    /// A step that nobody asked for more than its key is as good as found.
    fn tell_unneeded(&self, id: StepId) {
        let local = matches!(self.graph.step(id).operation, Operation::Local(_));
        if !local {
            self.tell_cached(id, &Arc::from("key"));
        }
    }
}

impl<E: Executor> Cells<E> {
    /// Record digests of the step.
    fn digests(&self) -> &[Digest] {
        self.source.get().unwrap_or(&self.key.digests)
    }

    /// What is known so far: of a step that nobody asked for more than its keys, those.
    fn best_known(&self) -> Option<&Arc<Known<E::Chain>>> {
        self.known.get().or_else(|| self.keyed.get())
    }

    fn new(key: StepKey) -> Self {
        let contents = key.inputs.iter().map(|_| OnceCell::new()).collect();
        Self {
            key,
            source: OnceLock::new(),
            keyed: SetOnce::new(),
            known: SetOnce::new(),
            ran: SetOnce::new(),
            asked: Default::default(),
            saved: Mutex::default(),
            contents,
            signature: OnceLock::new(),
            executed: AtomicBool::new(false),
            told: AtomicBool::new(false),
            lost: Mutex::default(),
        }
    }
}
