//! The graph, solved: what was found, what ran, and the chain of the result.

pub(crate) mod blame;
pub(crate) mod explaining;
mod permission;
pub(crate) mod trust;
pub(crate) mod uploads;

use std::collections::BTreeSet;
use std::sync::Arc;

use cache::explain::Fact;
use cache::sidecar::SidecarIndexes;
use cache::{Caches, ImportedCache, LocalRecords, Sidecar};
use execute::{Executor, StepOutput};
use graph::{Graph, Operation, StepId, TaskEvent};
use layer::{Chain, Layer};
use oci::Digest;
use solve::{SolveError, Solver, StepFacts, Tasks};
use tracing::Instrument as _;
use transfer::Transfer;

use self::blame::{Diagnosis, blame};
use self::explaining::Explaining;
use self::permission::Permission;
use self::trust::Distrusted;
use self::uploads::Uploads;
use crate::Error;
use crate::caches::{mounts, reads};
use crate::error::SourceLocation;
use crate::executor::executor;
use crate::frontend::bases::{Bases, PlatformTarget};
use crate::reason::Explained;
use crate::session::Build;

/// A graph that was solved.
pub(crate) struct SolvedGraph<'a> {
    /// The layers of the result for each platform, in the order of the targets.
    pub chains: Vec<Chain>,
    /// The steps of the results.
    pub results: Vec<StepId>,
    /// The facts about every step.
    pub steps: Vec<StepFacts<Chain>>,
    /// Moves layers.
    pub transfer: Transfer,
    /// The caches that were read.
    pub imported: Vec<Arc<ImportedCache>>,
    pub cached: usize,
    pub ran: usize,
    /// Indexes of layers that caches have.
    pub indexes: Arc<SidecarIndexes>,
    /// The inputs of steps, in words; none if nothing ran.
    pub facts: Vec<Fact>,
    /// Why steps ran, where that was asked.
    pub explained: Option<Vec<Explained>>,
    executor: &'a Executor,
}

impl SolvedGraph<'_> {
    /// The diffIDs of all layers of all steps, each once.
    pub(crate) fn layers(&self) -> Vec<Digest> {
        let mut seen = BTreeSet::new();
        let mut layers = BTreeSet::new();
        for output in self.steps.iter().filter_map(|step| step.output.as_ref()) {
            let mut at = Some(output);
            while let Some(chain) = at
                && let Some(top) = chain.top()
                && chain.id().is_some_and(|id| seen.insert(id))
            {
                layers.insert(top.diff_id);
                at = chain.below();
            }
        }
        layers.into_iter().collect()
    }

    /// One layer of those that a chain has above another.
    pub(crate) async fn fold(&self, below: &Chain, chain: &Chain) -> Result<Layer, Error> {
        self.executor.fold(below, chain, None).await.map_err(Error::Fold)
    }

    /// The read sets of steps that ran on roots that fill.
    pub(crate) fn opened_files(&self) -> Vec<(Digest, execute::OpenedFiles)> {
        self.executor.opened_files()
    }

    /// The cache mounts that commands have used.
    pub(crate) fn used_mounts(&self) -> Vec<execute::UsedMount> {
        self.executor.used_mounts()
    }

    /// Keeps what was learnt of the context's files.
    pub(crate) fn finish(&self) {
        self.executor.finish();
    }
}

/// A graph that could not be solved, and what was found and made until then.
pub(crate) struct Unsolved<'a> {
    pub error: Error,
    pub solved: Option<SolvedGraph<'a>>,
}

impl From<Error> for Unsolved<'_> {
    fn from(error: Error) -> Self {
        Self { error, solved: None }
    }
}

/// Everything that a build is solved with.
pub(crate) struct Solving<'a> {
    build: &'a Build<'a>,
    bases: &'a Bases,
    executor: Executor,
    tasks: Tasks,
    caches: Caches,
    transfer: Transfer,
    indexes: Arc<SidecarIndexes>,
    imported: Vec<Arc<ImportedCache>>,
    /// The sidecars of the caches.
    sidecars: Vec<Sidecar>,
    permission: Permission<'a>,
}

impl<'a> Solving<'a> {
    /// Opens this machine's records, and puts them beside those of the caches that were read and are
    /// not distrusted.
    ///
    /// # Errors
    /// If steps must be found that there are not, or the tables cannot be made.
    pub(crate) fn open(
        build: &'a Build<'a>,
        bases: &'a Bases,
        (imported, distrusted): (&[Arc<ImportedCache>], &Distrusted),
    ) -> Result<Self, Error> {
        let required = explaining::required(&bases.graph, &build.request.require_cached)?;
        let (executor, tasks) = executor(build, &bases.parts(required));
        let imported: Vec<Arc<ImportedCache>> =
            imported.iter().filter(|cache| !distrusted.has(&cache.identity)).cloned().collect();
        let caches: Vec<&ImportedCache> = imported.iter().map(|cache| &**cache).collect();
        let indexes = Arc::new(SidecarIndexes::new(lenders(build, &caches)));
        executor.bring_mounts_from(Arc::new(mounts::SidecarMounts::new(build.request, &caches)));
        let transfer = executor.transfer().clone().with_indexes(indexes.clone());
        let records = imported.iter().map(|cache| cache.records.clone()).collect();
        let local = LocalRecords::open(transfer.store())?;
        let caches = Caches::new(local.naming(trust::named(build, distrusted)), records);
        let sidecars: Vec<Sidecar> =
            imported.iter().filter_map(|cache| cache.sidecar.clone()).collect();
        executor.fetch_first_by(Arc::new(reads::SidecarReads(sidecars.clone())));
        let permission = Permission::new(build);
        Ok(Self {
            build,
            bases,
            executor,
            tasks,
            caches,
            transfer,
            indexes,
            imported,
            sidecars,
            permission,
        })
    }

    /// A solver, which sends layers to where they go as soon as they are made.
    pub(crate) fn solver(&self) -> Solver<'_, Executor, Caches> {
        let graph = &self.bases.graph;
        let uploads =
            Uploads::new(self.build.request, &self.transfer, graph, &self.bases.results());
        let parallelism = Executor::parallelism();
        let solver = Solver::new(graph, &self.executor, &self.caches, &self.tasks, parallelism)
            .on_made(move |id, chain: &Chain| uploads.start(id, chain))
            .on_start(|id| {
                if let Operation::Run(_) = graph.step(id).operation {
                    self.permission.ask();
                }
            });
        match self.build.work {
            Some(work) => solver.sharing(work.0.clone()),
            None => solver,
        }
    }

    /// Solves the graph of the build.
    pub(crate) async fn solve(
        &self,
        solver: &Solver<'_, Executor, Caches>,
    ) -> Result<SolvedGraph<'_>, Box<Unsolved<'_>>> {
        let (build, bases, graph) = (self.build, self.bases, &self.bases.graph);
        let results = bases.results();
        let span = tracing::debug_span!("solve", steps = graph.steps().count());
        let solved = tokio::select! {
            solved = solver.solve_all(&results).instrument(span) => solved,
            refused = self.permission.refused() => return Err(Box::new(refused.into())),
        };
        let (outputs, steps, error) = match solved {
            Ok(solved) => (solved.output, solved.steps, None),
            Err(error) => (Vec::new(), solver.learned(&results), Some(error)),
        };
        self.say_fault();
        let mut made = outputs.into_iter();
        let chain = |target: &PlatformTarget| {
            match target.result.map(|result| (result, made.next())) {
                Some((_, Some(StepOutput::Chain(chain)))) => chain,
                Some((result, None)) => highest(graph, result, &steps),
                // An image without layers.
                Some((_, Some(StepOutput::Context(_)))) | None => Chain::new(),
            }
        };
        let chains = bases.targets.iter().map(chain).collect();
        // Sources count neither as found nor as run: they are what steps stand on.
        let shown = |step: &&StepFacts<Chain>| {
            let known = graph.step(step.id);
            let is_context = bases.shown.contains(&known.operation);
            !step.inputs.is_empty() && known.shown_as.is_none() && !is_context
        };
        let ran = steps.iter().filter(shown).filter(|step| step.ran).count();
        let cached = steps.iter().filter(shown).count() - ran;
        let (executor, sidecars) = (&self.executor, &self.sidecars);
        let explaining = Explaining { graph, steps: &steps, executor, sidecars };
        let failing = error.as_ref().map(|error| error.step);
        let (facts, explained) = explaining.conclude(build, failing).await;
        let error = match error {
            Some(error) if matches!(error.source, execute::Error::NotCached) => {
                let why = explaining.refusal(build, error.step).await;
                Some(failed(bases, error).with_hint(why))
            }
            error => error.map(|error| failed(bases, error)),
        };
        let solved = SolvedGraph {
            chains,
            results,
            steps,
            transfer: self.transfer.clone(),
            imported: self.imported.clone(),
            cached,
            ran,
            indexes: self.indexes.clone(),
            facts,
            explained,
            executor: &self.executor,
        };
        match error {
            None => Ok(solved),
            Some(error) => Err(Box::new(Unsolved { error, solved: Some(solved) })),
        }
    }

    /// Says what is wrong with this machine's records, if anything is.
    fn say_fault(&self) {
        let Some(fault) = self.caches.fault() else { return };
        let events = self.build.events;
        let task = events.task("[internal] records of this machine", Vec::new());
        let text = format!("not usable, the build went on without them: {fault}");
        events.send(task, TaskEvent::Warning(text.into()));
        events.send(task, TaskEvent::Done);
    }
}

/// The caches that lend indexes of layers. Those that the build exports to come first: what they say
/// is theirs already.
fn lenders(build: &Build<'_>, imported: &[&ImportedCache]) -> Vec<(Arc<str>, Sidecar)> {
    if trust::reads_all(build) {
        return Vec::new();
    }
    let targets: Vec<String> =
        build.request.cache_to.iter().filter_map(|to| trust::target_identity(&to.target)).collect();
    let (own, others): (Vec<&ImportedCache>, Vec<&ImportedCache>) = imported
        .iter()
        .partition(|cache| targets.iter().any(|identity| **identity == *cache.identity));
    let sidecar = |cache: &ImportedCache| Some((cache.identity.clone(), cache.sidecar.clone()?));
    own.into_iter().chain(others).filter_map(sidecar).collect()
}

/// The part of a result that a failed build has: the highest output below it.
fn highest(graph: &Graph, result: StepId, steps: &[StepFacts<Chain>]) -> Chain {
    let mut at = Some(result);
    while let Some(id) = at {
        let output = steps.iter().find(|step| step.id == id).and_then(|step| step.output.clone());
        match output {
            Some(output) => return output,
            None => at = graph.step(id).inputs.first().copied(),
        }
    }
    Chain::new()
}

/// A failed step, with the lines that asked for it.
pub(crate) fn failed(bases: &Bases, error: SolveError<execute::Error>) -> Error {
    let step = bases.graph.step(error.step);
    let Diagnosis { span, hint } = blame(bases, step, &error.source);
    Error::Dockerfile {
        message: transfer::chain_text(&error.source),
        place: step.lines.map(|lines| SourceLocation { file: bases.file.clone(), lines, span }),
        hint,
    }
}
