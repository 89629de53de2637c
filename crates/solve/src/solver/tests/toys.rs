//! Steps that make texts instead of layers, and a cache in memory, both with counters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use graph::{
    Action, ActionInput, ActionKind, ContentQuery, CopyAction, Event, Events, FilesOp, Graph,
    ImageSource, LocalSource, Mount, MountKind, Operation, RunOp, Step, StepId, TaskEvent,
};
use oci::{Digest, Platform};

use crate::{
    Blame, Cache, Executor, Fetch, FoundOutput, Link, NewRecord, RecordId, SolveError, Solved,
    Solver, Tasks,
};

pub(super) fn step(name: &str, operation: Operation, inputs: &[StepId]) -> Step {
    Step {
        operation,
        inputs: inputs.to_vec(),
        platform: Platform::new("linux", "amd64", ""),
        name: name.into(),
        lines: None,
        ignore_cache: false,
        shown_as: None,
    }
}

/// An image; its bytes are its name.
pub(super) fn image(graph: &mut Graph, name: &str) -> StepId {
    let operation = Operation::Image(ImageSource {
        reference: format!("example.com/{name}").parse().unwrap(),
        platform: Platform::new("linux", "amd64", ""),
        manifest: Digest::of(format!("manifest of {name}")),
        diff_ids: vec![Digest::of(format!("layer of {name}"))],
    });
    graph.add(step(name, operation, &[]))
}

/// A context, which only its content names.
pub(super) fn context(graph: &mut Graph, name: &str) -> StepId {
    let local = LocalSource { name: name.into(), excludes: Vec::new(), follow_paths: Vec::new() };
    graph.add(step(name, Operation::Local(local), &[]))
}

/// A command on a root file system, which counts by its key.
pub(super) fn run(graph: &mut Graph, command: &str, root: StepId) -> StepId {
    let mount = Mount {
        target: "/".into(),
        input: Some(0),
        selector: String::new(),
        readonly: false,
        output: true,
        kind: MountKind::Bind,
    };
    let run = RunOp { args: vec![command.into()], mounts: vec![mount], ..RunOp::default() };
    graph.add(step(command, Operation::Run(Box::new(run)), &[root]))
}

/// A copy onto a base, which counts by its key, or onto nothing; what is copied counts by content
/// too.
pub(super) fn copy(graph: &mut Graph, path: &str, base: Option<StepId>, from: StepId) -> StepId {
    let inputs: Vec<StepId> = base.into_iter().chain([from]).collect();
    let copy = CopyAction {
        from: ActionInput::Input(inputs.len() - 1),
        source: path.into(),
        destination: "/".into(),
        ..CopyAction::default()
    };
    let base = if base.is_some() { ActionInput::Input(0) } else { ActionInput::Scratch };
    let actions = vec![Action { base, kind: ActionKind::Copy(Box::new(copy)) }];
    graph.add(step(&format!("copy {path}"), Operation::Files(FilesOp { actions }), &inputs))
}

pub(super) fn merge(graph: &mut Graph, inputs: &[StepId]) -> StepId {
    graph.add(step("merge", Operation::Merge, inputs))
}

/// Why a toy step cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ToyError {
    #[error("`{0}` is gone")]
    Gone(String),
    #[error("`{0}`: not found")]
    NotFound(String),
    #[error("exit code 1")]
    Failed,
}

/// Requests to an executor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Names of steps, in order.
    pub runs: Vec<String>,
    /// Outputs of which bytes were brought.
    pub fetches: Vec<String>,
    /// Paths of which the content was asked.
    pub contents: Vec<String>,
}

/// Runs toy steps: a text is made of the operation and the texts of the inputs.
#[derive(Default)]
pub(super) struct Toys {
    pub counts: Mutex<Counts>,
    /// Outputs of steps by name, where they are not made of the inputs.
    pub values: BTreeMap<String, String>,
    /// Outputs whose bytes are gone, wherever a record names them.
    pub gone: BTreeSet<String>,
    /// Outputs that were made in this build: their bytes are here.
    pub here: Mutex<BTreeSet<String>>,
    /// True if even those have no bytes.
    pub never_here: bool,
    /// Steps that fail.
    pub failing: BTreeSet<String>,
    /// Steps that never end.
    pub endless: BTreeSet<String>,
    /// Steps that may not run.
    pub refused: BTreeSet<StepId>,
}

impl Toys {
    fn need(&self, output: &str) -> Result<(), ToyError> {
        let is_here = !self.never_here && self.here.lock().unwrap().contains(output);
        match self.gone.contains(output) && !is_here {
            true => Err(ToyError::Gone(output.into())),
            false => Ok(()),
        }
    }
}

/// A query's view of an output: copies do not see everything.
pub(super) fn seen(output: &str, query: &ContentQuery) -> String {
    match query.paths[0].path.as_str() {
        "/low" => (Digest::of(output).as_bytes()[0] % 2).to_string(),
        _ => output.to_owned(),
    }
}

impl Executor for Toys {
    type Output = String;
    type Chain = String;
    type Error = ToyError;

    fn refuses(&self, id: StepId) -> Option<ToyError> {
        self.refused.contains(&id).then_some(ToyError::Failed)
    }

    async fn run(&self, _: StepId, step: &Step, inputs: Vec<String>) -> Result<String, ToyError> {
        self.counts.lock().unwrap().runs.push(step.name.clone());
        if self.failing.contains(&step.name) {
            return Err(ToyError::Failed);
        }
        if self.endless.contains(&step.name) {
            std::future::pending::<()>().await;
        }
        let read: Vec<String> = std::iter::zip(inputs, crate::step_key(step).inputs)
            .map(|(input, key)| key.content.map_or(input.clone(), |query| seen(&input, &query)))
            .collect();
        let value = match (self.values.get(&step.name), read.is_empty()) {
            (Some(value), _) => value.clone(),
            (None, true) => step.name.clone(),
            (None, false) => Digest::of(format!("{} {read:?}", step.name)).hex()[..12].to_owned(),
        };
        self.here.lock().unwrap().insert(value.clone());
        Ok(value)
    }

    async fn fetch(&self, fetch: Fetch<'_, String>) -> Result<(), ToyError> {
        self.counts.lock().unwrap().fetches.push(fetch.output.clone());
        self.need(fetch.output)
    }

    async fn content(
        &self,
        _: StepId,
        output: &String,
        query: &ContentQuery,
    ) -> Result<Digest, ToyError> {
        let path = query.paths[0].path.clone();
        self.counts.lock().unwrap().contents.push(path.clone());
        self.need(output)?;
        match path == "/missing" {
            true => Err(ToyError::NotFound(path)),
            false => Ok(Digest::of(seen(output, query))),
        }
    }

    fn blame(&self, error: &ToyError) -> Option<Blame> {
        matches!(error, ToyError::Gone(_)).then_some(Blame::Output)
    }

    fn chain_of(&self, output: &String) -> Option<String> {
        Some(output.clone())
    }

    fn restore(&self, chain: String) -> String {
        chain
    }
}

/// A record of a toy cache.
#[derive(Clone, Debug)]
pub(super) struct ToyRecord {
    pub digest: Digest,
    pub inputs: Vec<BTreeSet<(i64, Option<Digest>)>>,
    /// Outputs and when they were made.
    pub results: Vec<(String, String)>,
}

/// Sources of records; the first is this machine's.
#[derive(Default)]
pub(super) struct Memory(pub Mutex<Vec<Vec<ToyRecord>>>, pub Mutex<u32>);

impl Memory {
    pub(super) fn sources(&self) -> MutexGuard<'_, Vec<Vec<ToyRecord>>> {
        let mut sources = self.0.lock().unwrap();
        if sources.is_empty() {
            sources.push(Vec::new());
        }
        sources
    }

    /// Makes what this machine knows something that another source knows.
    pub(super) fn move_away(&self) {
        let mut sources = self.sources();
        sources.insert(0, Vec::new());
    }

    /// Forgets outputs.
    pub(super) fn forget(&self, output: &str) {
        for record in self.sources().iter_mut().flatten() {
            record.results.retain(|(known, _)| known != output);
        }
    }

    /// Keeps nothing but outputs of this machine that are in `kept`, for cases in which results
    /// were not exported.
    pub(super) fn keep_only(&self, kept: &[&str]) {
        for record in self.sources().iter_mut().flatten() {
            record.results.retain(|(known, _)| kept.contains(&known.as_str()));
        }
    }

    fn find<T>(&self, record: RecordId, read: impl FnOnce(&ToyRecord) -> T) -> T {
        read(&self.sources()[usize::from(record.source)][usize::try_from(record.number).unwrap()])
    }

    fn all(&self, matches: impl Fn(u16, &ToyRecord) -> bool) -> Vec<RecordId> {
        let mut found = Vec::new();
        for (source, records) in (0..).zip(self.sources().iter()) {
            let records = (0..).zip(records).filter(|(_, record)| matches(source, record));
            found.extend(records.map(|(number, _)| RecordId { source, number }));
        }
        found
    }
}

impl Cache for Memory {
    type Chain = String;

    fn roots(&self, digest: Digest) -> Vec<RecordId> {
        self.all(|_, record| record.digest == digest && record.inputs.is_empty())
    }

    fn linked(
        &self,
        parent: RecordId,
        digest: Digest,
        input: usize,
        selector: Option<Digest>,
    ) -> Vec<RecordId> {
        self.all(|source, record| {
            let links = record.inputs.get(input);
            let linked = links.is_some_and(|links| links.contains(&(parent.number, selector)));
            source == parent.source && record.digest == digest && linked
        })
    }

    fn results(&self, record: RecordId) -> Vec<FoundOutput<String>> {
        let found = |(chain, created): &(String, String)| FoundOutput {
            chain: chain.clone(),
            created: created.clone(),
            source: format!("source {}", record.source).into(),
        };
        self.find(record, |record| record.results.iter().map(found).collect())
    }

    fn content_links(&self, record: RecordId, input: usize) -> Vec<Digest> {
        let links = self.find(record, |record| record.inputs[input].clone());
        let parents = links.into_iter().filter(|(_, selector)| selector.is_none());
        let parents = parents.map(|(number, _)| RecordId { source: record.source, number });
        let is_root = |parent: RecordId| self.find(parent, |record| record.inputs.is_empty());
        parents
            .filter(|parent| is_root(*parent))
            .map(|parent| self.find(parent, |record| record.digest))
            .collect()
    }

    fn save(&self, record: NewRecord<String>) -> RecordId {
        let created = {
            let mut time = self.1.lock().unwrap();
            *time += 1;
            format!("2026-01-01T00:{:02}:{:02}Z", *time / 60 % 60, *time % 60)
        };
        let sources = &mut *self.sources();
        let records = &mut sources[0];
        let mut inputs = Vec::new();
        for links in &record.inputs {
            let mut known = BTreeSet::new();
            for link in links {
                known.insert(match link {
                    Link::Record { record, selector } => {
                        assert!(record.is_local(), "records link to records of their source");
                        (record.number, *selector)
                    }
                    Link::Content(digest) => (root(records, *digest), None),
                });
            }
            assert!(!known.is_empty(), "a record with an input that nothing leads to");
            inputs.push(known);
        }
        let same = records.iter().position(|known| {
            known.digest == record.digest
                && known.inputs.len() == inputs.len()
                && std::iter::zip(&known.inputs, &inputs).all(|(a, b)| !a.is_disjoint(b))
        });
        let number = same.unwrap_or_else(|| {
            records.push(ToyRecord {
                digest: record.digest,
                inputs: vec![BTreeSet::new(); inputs.len()],
                results: Vec::new(),
            });
            records.len() - 1
        });
        for (known, new) in std::iter::zip(&mut records[number].inputs, inputs) {
            known.extend(new);
        }
        if let Some(output) = record.output {
            records[number].results.retain(|(known, _)| *known != output);
            records[number].results.push((output, created));
        }
        RecordId { source: 0, number: number as i64 }
    }
}

fn root(records: &mut Vec<ToyRecord>, digest: Digest) -> i64 {
    let is_root = |known: &ToyRecord| known.digest == digest && known.inputs.is_empty();
    let number = records.iter().position(is_root).unwrap_or_else(|| {
        records.push(ToyRecord { digest, inputs: Vec::new(), results: Vec::new() });
        records.len() - 1
    });
    number as i64
}

/// A build that came to an end.
pub(super) struct Built {
    pub result: Result<Solved<String, String>, SolveError<ToyError>>,
    pub counts: Counts,
    /// Events by the step's index.
    pub events: HashMap<u32, Vec<TaskEvent>>,
}

impl Built {
    pub(super) fn output(&self) -> &str {
        &self.result.as_ref().unwrap().output
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let warning = |event: &TaskEvent| match event {
            TaskEvent::Warning(text) => Some(text.to_string()),
            _ => None,
        };
        self.events.values().flatten().filter_map(warning).collect()
    }

    pub(super) fn said(&self, step: StepId) -> Vec<String> {
        let events = self.events.get(&step.0).into_iter().flatten();
        events.map(|event| format!("{event:?}")).collect()
    }
}

/// Solves a graph on toys. All is in memory: what does not end in some polls waits for ever.
pub(super) fn build(graph: &Graph, target: StepId, toys: &Toys, cache: &Memory) -> Built {
    let log: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = log.clone();
    let events = Events::new(move |event| sink.lock().unwrap().push(event));
    let of_step = graph.steps().map(|(_, step)| Some(events.task(step.name.as_str(), Vec::new())));
    let tasks = Tasks { of_step: of_step.collect(), events: events.clone() };
    let before = std::mem::take(&mut *toys.counts.lock().unwrap());
    let solver = Solver::new(graph, toys, cache, &tasks, 2);
    let mut solving = Box::pin(solver.solve(target));
    let result = (0..100_000).find_map(|_| solving.as_mut().now_or_never());
    let result = result.expect("the solver waits for itself");
    drop(solving);
    let counts = std::mem::replace(&mut *toys.counts.lock().unwrap(), before);
    let mut events: HashMap<u32, Vec<TaskEvent>> = HashMap::new();
    for event in log.lock().unwrap().drain(..) {
        if !matches!(event.what, TaskEvent::Known(_)) {
            events.entry(event.task.0).or_default().push(event.what);
        }
    }
    Built { result, counts, events }
}
