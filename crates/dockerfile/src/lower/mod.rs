//! From stages to a graph. The order of things is that of BuildKit's `dockerfile2llb`.

mod args;
mod config;
mod contexts;
mod copy;
mod dispatch;
mod expose;
mod files;
mod git;
mod history;
mod mounts;
mod names;
mod onbuild;
mod request;
mod run;
mod stages;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use graph::{Graph, ImageSource, LineRange, Operation, Step, StepId};
use oci::Platform;

use crate::check::{self, Checked, Checking, Notes, Outlining, Reporter};
use crate::directives::{self, CheckOptions};
use crate::error::Error;
use crate::expand::{Env, Lex};
use crate::stage::Dockerfile;
use stages::State;

pub use git::GitAddress;
pub use request::{
    AgentUse, Context, ContextUse, HistoryLayer, ImageRequest, Images, LowerRequest, Lowered,
    Lowering, NoCache, ResolvedImage, SecretUse, StageSummary,
};

/// Search path where an image has none.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name of the base that is nothing.
pub(crate) const SCRATCH: &str = "scratch";

impl Dockerfile {
    /// Makes the graph of a build; only stages that the target needs are part of it.
    ///
    /// Images that are not known yet are asked for: look them up, add them to `images`, and call
    /// again. A trigger of an image can ask for more.
    ///
    /// # Errors
    /// If the Dockerfile asks for something that is not there, is not granted, or is wrong once
    /// variables are resolved; or if an image could not be looked up.
    pub fn lower(&self, request: &LowerRequest, images: &Images) -> Result<Lowering, Error> {
        let mut lowerer = Lowerer::new(self, request, images, false);
        match lowerer.run().map_err(|error| error.located(&self.source))? {
            Progress::Needs(needs) => Ok(Lowering::Needs(needs)),
            Progress::Done(target) => Ok(Lowering::Done(Box::new(lowerer.finish(target)))),
        }
    }

    /// Looks for broken rules, in all stages where the request names no target. Images are asked
    /// for as by [`Dockerfile::lower`].
    pub fn check(&self, request: &LowerRequest, images: &Images) -> Checking {
        let all = request.target.as_deref().unwrap_or_default().is_empty();
        let mut lowerer = Lowerer::new(self, request, images, all);
        let error = match lowerer.run() {
            Ok(Progress::Needs(needs)) => return Checking::Needs(needs),
            Ok(Progress::Done(_)) => None,
            Err(error) => Some(error.located(&self.source)),
        };
        Checking::Done(Checked { findings: lowerer.checks.into_findings(&self.source), error })
    }

    /// The arguments and secrets of the target. Images are requested as by [`Dockerfile::lower`].
    ///
    /// # Errors
    /// As for [`Dockerfile::lower`].
    pub fn outline(&self, request: &LowerRequest, images: &Images) -> Result<Outlining, Error> {
        let mut lowerer = Lowerer::new(self, request, images, false);
        match lowerer.run().map_err(|error| error.located(&self.source))? {
            Progress::Needs(needs) => Ok(Outlining::Needs(needs)),
            Progress::Done(target) => Ok(Outlining::Done(lowerer.outline(target))),
        }
    }
}

/// The state of a lowering.
enum Progress {
    Needs(Vec<ImageRequest>),
    /// To the end; this is the target.
    Done(usize),
}

/// One lowering while it goes on.
struct Lowerer<'a> {
    file: &'a Dockerfile,
    request: &'a LowerRequest,
    images: &'a Images,
    /// True if stages are lowered that the target does not need.
    all_stages: bool,
    checks: Reporter,
    /// Arguments in front of the first FROM.
    global_arguments: Notes,
    lex: Lex,
    build_args: BTreeMap<String, String>,
    used_args: BTreeSet<String>,
    global: Env,
    epoch: Option<i64>,
    states: Vec<State<'a>>,
    names: HashMap<String, usize>,
    reachable: BTreeSet<usize>,
    needs: Vec<ImageRequest>,
    graph: Graph,
    /// Steps that are the same wherever they are asked for.
    shared: Vec<(Operation, StepId)>,
    /// Steps of local folders, by the caller's name for the folder.
    locals: BTreeMap<String, StepId>,
    /// Paths that stages read of local folders.
    local_paths: BTreeMap<String, BTreeSet<String>>,
    secrets: Vec<SecretUse>,
    agents: Vec<AgentUse>,
}

/// The facts about a step that do not come from its operation.
#[derive(Clone)]
struct StepRequest {
    platform: Platform,
    name: String,
    lines: Option<LineRange>,
    ignore_cache: bool,
}

impl StepRequest {
    /// By no line and with the cache.
    fn by_itself(platform: Platform, name: impl Into<String>) -> Self {
        Self { platform, name: name.into(), lines: None, ignore_cache: false }
    }
}

impl<'a> Lowerer<'a> {
    fn new(
        file: &'a Dockerfile,
        request: &'a LowerRequest,
        images: &'a Images,
        all_stages: bool,
    ) -> Self {
        let mut build_args: BTreeMap<String, String> = request.build_args.iter().cloned().collect();
        if let Some(epoch) = request.source_date_epoch {
            build_args.entry("SOURCE_DATE_EPOCH".into()).or_insert_with(|| epoch.to_string());
        }
        Self {
            file,
            request,
            images,
            all_stages,
            checks: Reporter::new(file.check.clone()),
            global_arguments: Notes::default(),
            lex: Lex::new(file.escape),
            build_args,
            used_args: BTreeSet::new(),
            global: Env::default(),
            epoch: None,
            states: Vec::new(),
            names: HashMap::new(),
            reachable: BTreeSet::new(),
            needs: Vec::new(),
            graph: Graph::new(),
            shared: Vec::new(),
            locals: BTreeMap::new(),
            local_paths: BTreeMap::new(),
            secrets: Vec::new(),
            agents: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<Progress, Error> {
        self.check_frontend()?;
        self.checks.check_text(self.file);
        self.define_global_args()?;
        self.read_epoch()?;
        self.add_stages()?;
        let target = self.target()?;
        self.link_stages()?;
        let needs = self.resolve(target)?;
        if !needs.is_empty() {
            return Ok(Progress::Needs(needs));
        }
        self.dispatch_stages(target)?;
        self.checks.failure()?;
        Ok(Progress::Done(target))
    }

    /// The language that was asked for must be this one.
    fn check_frontend(&mut self) -> Result<(), Error> {
        let argument = self.behavioural("BUILDKIT_SYNTAX").filter(|value| !value.is_empty());
        let asked = match &argument {
            Some(value) => Some((value.as_str(), None)),
            None => self.file.syntax.as_ref().map(|(value, lines)| (value.as_str(), *lines)),
        };
        if let Some((value, lines)) = asked
            && !directives::is_known_syntax(value)
        {
            return Err(Error { lines, ..directives::foreign_syntax(value) });
        }
        if let Some(options) = self.behavioural("BUILDKIT_DOCKERFILE_CHECK") {
            let options = CheckOptions::parse(&options).map_err(|error| Error {
                message: format!("BUILDKIT_DOCKERFILE_CHECK: {}", error.message),
                ..error
            })?;
            self.checks = Reporter::new(options);
        }
        Ok(())
    }

    /// A build argument that the frontend itself reads.
    fn behavioural(&mut self, name: &str) -> Option<String> {
        let value = self.build_args.get(name)?;
        self.used_args.insert(name.into());
        Some(value.clone())
    }

    /// Adds a step that is the same wherever its operation is asked for.
    fn share(&mut self, operation: Operation, asked: StepRequest) -> StepId {
        self.share_on(operation, Vec::new(), asked)
    }

    fn share_on(
        &mut self,
        operation: Operation,
        inputs: Vec<StepId>,
        asked: StepRequest,
    ) -> StepId {
        let is_same = |(known, step): &&(Operation, StepId)| {
            *known == operation && self.graph.step(*step).inputs == inputs
        };
        if let Some((_, step)) = self.shared.iter().find(is_same) {
            return *step;
        }
        let step = self.add(operation.clone(), inputs, asked);
        self.shared.push((operation, step));
        step
    }

    fn share_image(
        &mut self,
        source: ImageSource,
        name: String,
        lines: Option<LineRange>,
    ) -> StepId {
        let asked =
            StepRequest { platform: source.platform.clone(), name, lines, ignore_cache: false };
        self.share(Operation::Image(source), asked)
    }

    fn add(&mut self, operation: Operation, inputs: Vec<StepId>, asked: StepRequest) -> StepId {
        self.graph.add(Step {
            operation,
            inputs,
            platform: asked.platform,
            name: asked.name,
            lines: asked.lines,
            ignore_cache: asked.ignore_cache,
            shown_as: None,
        })
    }

    /// The arguments and secrets of a stage and of those that it needs.
    fn outline(self, target: usize) -> check::Outline {
        let mut taken = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut todo = vec![target];
        let mut arguments = Vec::new();
        while let Some(index) = todo.pop() {
            if seen.insert(index) {
                let state = &self.states[index];
                arguments.extend(state.notes.take(&mut taken));
                todo.extend(state.dependencies.keys());
                // The base is looked at first: what it declares is where it declares it.
                todo.extend(state.base);
            }
        }
        arguments.sort_by_key(|argument| argument.lines.first);
        let stage = self.file.stages.get(target);
        // Of one ID, what the stage nearest to the target says counts.
        let (mut secrets, mut agents) = (self.secrets, self.agents);
        let mut ids = BTreeSet::new();
        secrets.reverse();
        secrets.retain(|secret| ids.insert(secret.id.clone()));
        secrets.reverse();
        secrets.sort_by_key(|secret| secret.lines.first);
        ids.clear();
        agents.reverse();
        agents.retain(|agent| ids.insert(agent.id.clone()));
        agents.reverse();
        agents.sort_by_key(|agent| agent.lines.first);
        check::Outline {
            name: stage.and_then(|stage| stage.name.clone()).unwrap_or_default(),
            description: stage.and_then(|stage| stage.description.clone()).unwrap_or_default(),
            arguments,
            secrets,
            agents,
        }
    }

    fn finish(mut self, target: usize) -> Lowered {
        let contexts = self.follow_paths(target);
        let summaries = self.stage_summaries();
        let state = self.states.swap_remove(target);
        let config = self.result_config(&state);
        let history_layers = state
            .layers
            .iter()
            .enumerate()
            .filter_map(|(entry, step)| step.map(|step| HistoryLayer { entry, step }))
            .collect();
        let (used, unused) = self
            .build_args
            .keys()
            .filter(|name| self.request.build_args.iter().any(|(given, _)| given == *name))
            .cloned()
            .partition(|name| self.used_args.contains(name));
        Lowered {
            graph: self.graph,
            result: state.output,
            config,
            history_layers,
            base: state.base_config,
            stages: summaries,
            used_build_args: used,
            unused_build_args: unused,
            contexts,
            secrets: self.secrets,
            agents: self.agents,
            source_date_epoch: self.epoch,
            findings: self.checks.into_findings(&self.file.source),
        }
    }
}
