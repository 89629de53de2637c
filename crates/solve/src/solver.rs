//! The solver: demand-driven and memoised. Waiting is `.await`, cancelling is dropping.
//!
//! Matching is a set question (interop reference, 1.5): a record matches a step if its digest is
//! the step's and, for each input, one of its links leads to a record that matches the input
//! (with the step's selector) or to the input's content.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use graph::{Graph, Operation, Step, StepId, TaskEvent};
use oci::{Digest, Hasher};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    Cache, Executor, Found, InputFacts, Link, NewRecord, RecordId, Solved, StepFacts, StepKey,
    Tasks, content_record, step_key,
};

/// A step that could not run.
#[derive(Debug)]
pub struct SolveError<E> {
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
    made: Mutex<HashMap<Digest, Arc<OnceCell<E::Output>>>>,
    runs: Semaphore,
    on_made: Option<OnMade<'a, E>>,
}

/// Called when a step made a chain.
type OnMade<'a, E> = Box<dyn Fn(StepId, &<E as Executor>::Chain) + Send + Sync + 'a>;

/// What is known of one step so far.
struct Cells<E: Executor> {
    key: StepKey,
    known: OnceCell<Known<E::Chain>>,
    /// An output, wherever its bytes are.
    output: OnceCell<E::Output>,
    /// An output that the step made because no record's could be used.
    ran: OnceCell<E::Output>,
    /// Records of this machine that were saved for it.
    saved: Mutex<Vec<RecordId>>,
    /// For each input that counts by content, its content's record.
    contents: Vec<OnceCell<Digest>>,
    signature: OnceLock<Digest>,
    /// Whether progress has been told how it was come by.
    told: AtomicBool,
    /// Records whose bytes were asked for and are gone, by place in `Known::found`.
    lost: Mutex<BTreeSet<usize>>,
}

/// The answer to "what is your key?".
#[derive(Clone)]
struct Known<C> {
    /// Records that match.
    records: BTreeSet<RecordId>,
    /// Their outputs, newest first.
    found: Vec<Found<C>>,
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
            made: Mutex::default(),
            runs: Semaphore::new(parallelism.max(1)),
            on_made: None,
        }
    }

    /// Calls `made` whenever a step has made a chain, before others use it.
    #[must_use]
    pub fn on_made(mut self, made: impl Fn(StepId, &E::Chain) + Send + Sync + 'a) -> Self {
        self.on_made = Some(Box::new(made));
        self
    }

    /// Finds or makes the output of `target`.
    ///
    /// # Errors
    /// The first step that could not run; the others are dropped.
    pub async fn solve(&self, target: StepId) -> Result<Solved<E::Output, E::Chain>, E> {
        let output = self.output(target).await?;
        let mut steps = Vec::new();
        for id in self.reachable(target) {
            self.tell_unneeded(id);
            steps.push(self.facts(id));
        }
        Ok(Solved { output, steps })
    }

    /// Makes sure that the bytes of an output are here, running its step again if they are gone.
    ///
    /// # Errors
    /// If the step has to run and cannot.
    pub async fn obtain(&self, target: StepId, consumer: StepId) -> Result<E::Output, E> {
        self.fetched(target, consumer, self.graph.step(consumer), 0).await
    }

    fn cells(&self, id: StepId) -> &Cells<E> {
        &self.cells[id.0 as usize]
    }

    /// The output of a step, wherever its bytes are.
    fn output(&self, id: StepId) -> BoxFuture<'_, Result<E::Output, E>> {
        async move {
            let cell = &self.cells(id).output;
            let output = cell.get_or_try_init(|| async {
                let known = self.known(id).await?;
                match self.usable(id, &known) {
                    Some((_, found)) => Ok(self.executor.restore(found.chain.clone())),
                    None => self.run(id).await,
                }
            });
            output.await.cloned()
        }
        .boxed()
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
        known.found.iter().enumerate().find(|(index, _)| !lost.contains(index))
    }

    /// The output of a step with the bytes that a consumer needs. A record whose bytes are gone
    /// is a miss: it is said once, and the next record is tried, or the step runs.
    async fn fetched(
        &self,
        id: StepId,
        consumer: StepId,
        step: &Step,
        input: usize,
    ) -> Result<E::Output, E> {
        let known = self.known(id).await?;
        while let Some((index, found)) = self.usable(id, &known)
            && self.cells(id).ran.get().is_none()
        {
            let output = self.executor.restore(found.chain.clone());
            match self.executor.fetch(consumer, step, input, &output).await {
                Ok(()) => return Ok(output),
                Err(error) => self.give_up(id, index, found, &error),
            }
        }
        let output = self.run(id).await?;
        self.tell_source(id);
        self.executor
            .fetch(consumer, step, input, &output)
            .await
            .map_err(|source| SolveError { step: id, source })?;
        Ok(output)
    }

    fn give_up(&self, id: StepId, index: usize, found: &Found<E::Chain>, error: &E::Error) {
        let new = self.cells(id).lost.lock().unwrap_or_else(PoisonError::into_inner).insert(index);
        if new {
            let text = format!("a record of {} cannot be used: {error}", found.source);
            self.tasks.send(id, TaskEvent::Warning(text.into()));
        }
    }

    /// Runs a step, once.
    fn run(&self, id: StepId) -> BoxFuture<'_, Result<E::Output, E>> {
        async move {
            let output = self.cells(id).ran.get_or_try_init(|| self.run_now(id)).await;
            output.cloned()
        }
        .boxed()
    }

    async fn run_now(&self, id: StepId) -> Result<E::Output, E> {
        let step = self.graph.step(id);
        let fetched = step
            .inputs
            .iter()
            .enumerate()
            .map(|(input, from)| self.fetched(*from, id, step, input));
        let inputs = try_join_all(fetched).await?;
        self.learn_contents(id).await?;
        if step.inputs.is_empty() {
            return self.execute(id, step, inputs).await;
        }
        let cell = self
            .made
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
        self.save(id, self.executor.chain_of(&output));
        Ok(output)
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
        let quiet = matches!(step.operation, Operation::Image(_));
        let running = (!quiet).then(|| self.tasks.start(id));
        self.cells(id).told.fetch_or(!quiet, Ordering::Relaxed);
        match self.executor.run(id, step, inputs).await {
            Ok(output) => {
                if let Some(running) = running {
                    running.done();
                }
                Ok(output)
            }
            Err(source) => {
                match running {
                    Some(running) => running.failed(&source.to_string()),
                    None => self.tasks.start(id).failed(&source.to_string()),
                }
                Err(SolveError { step: id, source })
            }
        }
    }

    /// Names a run: steps with equal signatures do the same to the same. Asked for only when all
    /// that counts by content is known.
    fn signature(&self, id: StepId) -> Digest {
        // Inputs come before their steps, so one pass in order needs no recursion.
        for below in self.reachable(id) {
            let signature = || self.signature_of(below);
            self.cells(below).signature.get_or_init(signature);
        }
        *self.cells(id).signature.get_or_init(|| self.signature_of(id))
    }

    fn signature_of(&self, id: StepId) -> Digest {
        let step = self.graph.step(id);
        let cells = self.cells(id);
        let mut hasher = Hasher::new();
        for digest in &cells.key.digests {
            hasher.update(digest.as_bytes());
        }
        if cells.key.digests.is_empty() {
            hasher.update(format!("step {}", id.0));
        }
        for (index, (input, key)) in step.inputs.iter().zip(&cells.key.inputs).enumerate() {
            match (&key.content, cells.contents[index].get()) {
                (Some(_), Some(content)) => hasher.update(content.as_bytes()),
                _ => {
                    let input = self.cells(*input).signature.get();
                    hasher.update(format!("{input:?} {:?}", key.selector));
                }
            }
            hasher.update(";");
        }
        hasher.finish()
    }

    /// What records there are for a step.
    fn known(&self, id: StepId) -> BoxFuture<'_, Result<Known<E::Chain>, E>> {
        async move { self.cells(id).known.get_or_try_init(|| self.look_up(id)).await.cloned() }
            .boxed()
    }

    async fn look_up(&self, id: StepId) -> Result<Known<E::Chain>, E> {
        let step = self.graph.step(id);
        let key = &self.cells(id).key;
        if step.inputs.is_empty() {
            let mut records: BTreeSet<RecordId> =
                key.digests.iter().flat_map(|digest| self.cache.roots(*digest)).collect();
            // Roots are made when they are asked for: others link to them.
            for digest in &key.digests {
                records.insert(self.cache.save(NewRecord {
                    digest: *digest,
                    inputs: Vec::new(),
                    output: None,
                }));
            }
            return Ok(Known { records, found: Vec::new() });
        }
        let linked_of = |index: usize| async move {
            let known = self.known(step.inputs[index]).await?;
            let parents = known.records.iter().copied();
            let linked = self.links(key, index, parents, key.inputs[index].selector);
            if linked.is_empty() || step.ignore_cache {
                // No record can match by keys alone. The contents are needed, and what makes them
                // does not wait for the keys of other inputs: stages build side by side.
                self.learn_contents(id).await?;
            }
            Ok(linked)
        };
        let mut linked = try_join_all((0..step.inputs.len()).map(linked_of)).await?;
        let mut records = intersection(&linked);
        let mut found = self.found(&records);
        if found.is_empty() || step.ignore_cache {
            self.learn_contents(id).await?;
            for (index, linked) in linked.iter_mut().enumerate() {
                if let Some(content) = self.cells(id).contents[index].get() {
                    linked.extend(self.links(
                        key,
                        index,
                        self.cache.roots(*content).into_iter(),
                        None,
                    ));
                }
            }
            records = intersection(&linked);
            found = self.found(&records);
        }
        let known = Known { records, found };
        self.keep(id, &known);
        Ok(known)
    }

    fn links(
        &self,
        key: &StepKey,
        input: usize,
        parents: impl Iterator<Item = RecordId>,
        selector: Option<Digest>,
    ) -> BTreeSet<RecordId> {
        let parents: Vec<RecordId> = parents.collect();
        let pairs = key
            .digests
            .iter()
            .flat_map(|digest| parents.iter().map(move |parent| (*digest, *parent)));
        pairs
            .flat_map(|(digest, parent)| self.cache.linked(parent, digest, input, selector))
            .collect()
    }

    fn found(&self, records: &BTreeSet<RecordId>) -> Vec<Found<E::Chain>> {
        // This machine's records come first in the set, so they win a tie.
        let mut found: Vec<Found<E::Chain>> =
            records.iter().flat_map(|record| self.cache.results(*record)).collect();
        found.sort_by(|a, b| time_order(&b.created).cmp(&time_order(&a.created)));
        found
    }

    /// Says that a step was found, and keeps what other sources know of it.
    fn keep(&self, id: StepId, known: &Known<E::Chain>) {
        let Some(found) = known.found.first() else { return };
        if !self.graph.step(id).ignore_cache {
            self.tell_cached(id, &found.source);
        }
        if !known.records.iter().any(|record| record.is_local()) {
            self.save(id, Some(found.chain.clone()));
        }
    }

    /// Computes the contents that count for a step's key.
    async fn learn_contents(&self, id: StepId) -> Result<(), E> {
        let inputs =
            self.cells(id).key.inputs.iter().enumerate().filter(|(_, key)| key.content.is_some());
        try_join_all(inputs.map(|(index, _)| self.learn_content(id, index))).await.map(drop)
    }

    async fn learn_content(&self, id: StepId, index: usize) -> Result<(), E> {
        let step = self.graph.step(id);
        let cells = self.cells(id);
        let Some(query) = &cells.key.inputs[index].content else { return Ok(()) };
        let compute = || async {
            let input = step.inputs[index];
            let output = self.output(input).await?;
            if let Ok(content) = self.executor.content(input, &output, query).await {
                return Ok(content_record(content));
            }
            // The bytes of a record may be gone; what the step makes now is here.
            let output = self.fetched(input, id, step, index).await?;
            let content = self.executor.content(input, &output, query).await;
            content.map(content_record).map_err(|source| SolveError { step: id, source })
        };
        cells.contents[index].get_or_try_init(compute).await.map(drop)
    }

    /// Keeps a record of a step on this machine.
    fn save(&self, id: StepId, output: Option<E::Chain>) {
        let cells = self.cells(id);
        let inputs: Vec<Vec<Link>> =
            self.input_facts(id).into_iter().map(|input| self.local_links(&input)).collect();
        // A record with an input that nothing leads to would never match.
        if inputs.iter().any(Vec::is_empty) {
            return;
        }
        for digest in &cells.key.digests {
            let record = self.cache.save(NewRecord {
                digest: *digest,
                inputs: inputs.clone(),
                output: output.clone(),
            });
            cells.saved.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        }
    }

    fn local_links(&self, input: &InputFacts) -> Vec<Link> {
        let cells = self.cells(input.step);
        let known = cells.known.get().into_iter().flat_map(|known| known.records.iter().copied());
        let saved = cells.saved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let records: BTreeSet<RecordId> =
            known.chain(saved).filter(|record| record.is_local()).collect();
        let records =
            records.into_iter().map(|record| Link::Record { record, selector: input.selector });
        records.chain(input.contents.iter().copied().map(Link::Content)).collect()
    }

    fn input_facts(&self, id: StepId) -> Vec<InputFacts> {
        let step = self.graph.step(id);
        let cells = self.cells(id);
        let facts = |(index, input): (usize, &StepId)| {
            let key = &cells.key.inputs[index];
            let mut contents: BTreeSet<Digest> =
                cells.contents[index].get().copied().into_iter().collect();
            if key.content.is_some()
                && contents.is_empty()
                && let Some(known) = cells.known.get()
            {
                contents.extend(
                    known
                        .records
                        .iter()
                        .flat_map(|record| self.cache.content_links(*record, index)),
                );
            }
            InputFacts {
                step: *input,
                selector: key.selector,
                contents: contents.into_iter().collect(),
            }
        };
        step.inputs.iter().enumerate().map(facts).collect()
    }

    fn facts(&self, id: StepId) -> StepFacts<E::Chain> {
        let cells = self.cells(id);
        let ran = cells.ran.get();
        let found = cells
            .known
            .get()
            .and_then(|known| self.usable(id, known).map(|(_, found)| found.clone()));
        let (output, cached) = match (ran, found) {
            (Some(output), _) => (self.executor.chain_of(output), None),
            (None, Some(found)) => (Some(found.chain), Some(found.source)),
            (None, None) => (None, None),
        };
        let is_source = self.graph.step(id).inputs.is_empty();
        StepFacts {
            id,
            digests: cells.key.digests.clone(),
            inputs: self.input_facts(id),
            output,
            ran: ran.is_some() && !is_source,
            cached,
        }
    }

    /// All steps that a target stands on, each after its inputs.
    fn reachable(&self, target: StepId) -> BTreeSet<StepId> {
        let mut seen = BTreeSet::new();
        let mut open = vec![target];
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

    /// The bytes of an image move now.
    fn tell_source(&self, id: StepId) {
        let is_image = matches!(self.graph.step(id).operation, Operation::Image(_));
        if is_image && !self.cells(id).told.swap(true, Ordering::Relaxed) {
            self.tasks.send(id, TaskEvent::Started);
            self.tasks.send(id, TaskEvent::Done);
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
    fn new(key: StepKey) -> Self {
        let contents = key.inputs.iter().map(|_| OnceCell::new()).collect();
        Self {
            key,
            known: OnceCell::new(),
            output: OnceCell::new(),
            ran: OnceCell::new(),
            saved: Mutex::default(),
            contents,
            signature: OnceLock::new(),
            told: AtomicBool::new(false),
            lost: Mutex::default(),
        }
    }
}

/// RFC 3339 times in UTC in their order: Go leaves final zeros of a second's fraction out, so the
/// texts themselves are not in it.
fn time_order(text: &str) -> (&str, &str) {
    let bare = text.strip_suffix('Z').unwrap_or(text);
    bare.split_once('.').unwrap_or((bare, ""))
}

/// Records that are in all sets.
fn intersection(sets: &[BTreeSet<RecordId>]) -> BTreeSet<RecordId> {
    let Some((first, rest)) = sets.split_first() else { return BTreeSet::new() };
    first.iter().filter(|record| rest.iter().all(|set| set.contains(record))).copied().collect()
}
