//! From stages to a graph. The order of things is that of BuildKit's `dockerfile2llb`.

mod args;
mod config;
mod contexts;
mod copy;
mod expose;
mod files;
mod git;
mod history;
mod initial_config;
mod mounts;
mod names;
mod onbuild;
mod outline;
pub(crate) mod request;
mod run;
mod stages;
mod steps;
mod workdir;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use graph::{Graph, Operation, StepId};

use crate::check::{Checked, Checking, Notes, Outlining, Reporter};
use crate::directives::{self, CheckOptions};
use crate::error::Error;
use crate::expand::{Env, Lex};
use crate::instruction::InstructionKind;
use crate::path;
use crate::stage::Dockerfile;
use stages::{StageInstruction, State};

pub use git::GitAddress;
pub use request::{
    AgentUse, Context, ContextUse, HistoryLayer, ImageLookupError, ImageRequest, Images,
    LowerRequest, Lowered, Lowering, NoCache, ResolvedImage, SecretUse, StageSummary,
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

    /// Lowers the stages that the target needs, instruction by instruction.
    fn dispatch_stages(&mut self, target: usize) -> Result<(), Error> {
        for stage in 0..self.states.len() {
            if !self.reachable.contains(&stage) || self.states[stage].dispatched {
                continue;
            }
            self.begin_stage(stage);
            let commands = std::mem::take(&mut self.states[stage].commands);
            for command in &commands {
                self.checks.enter(&command.instruction.comments, command.instruction.lines);
                self.dispatch(stage, command)
                    .map_err(|error| error.at(command.instruction.lines))?;
            }
            self.states[stage].commands = commands;
        }
        debug_assert!(self.states[target].dispatched, "the target needs itself");
        Ok(())
    }

    /// Begins a stage with the base's state, then the base config's environment.
    fn begin_stage(&mut self, stage: usize) {
        if let Some(base) = self.states[stage].base {
            // A stage's base comes before it.
            let (before, after) = self.states.split_at_mut(stage);
            let (base, state) = (&before[base], &mut after[0]);
            state.output = base.output;
            state.env = base.env.clone();
            state.cwd.clone_from(&base.cwd);
            state.user.clone_from(&base.user);
            state.platform.clone_from(&base.platform);
            state.config = base.config.clone();
            state.config.config.on_build.clear();
            state.base_config.clone_from(&base.base_config);
            state.layers.clone_from(&base.layers);
            state.args.clone_from(&base.args);
            state.workdir_set = base.workdir_set;
        }
        let default_platform = &self.request.platform;
        let state = &mut self.states[stage];
        state.dispatched = true;
        let platform = state.platform.get_or_insert_with(|| default_platform.clone());
        let windows = platform.os == "windows";
        let image = &mut state.config.config;
        let has_path = image.env.iter().any(|entry| config::key_value(entry).0 == "PATH");
        if !has_path && !windows {
            image.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for entry in &image.env {
            let (name, value) = config::key_value(entry);
            state.env.set(name, value);
        }
        if !image.working_dir.is_empty() {
            image.working_dir = path::workdir(&image.working_dir, &image.working_dir);
            state.cwd.clone_from(&image.working_dir);
        }
        if !image.user.is_empty() {
            state.user.clone_from(&image.user);
        }
    }

    fn dispatch(&mut self, stage: usize, command: &StageInstruction<'_>) -> Result<(), Error> {
        match &command.instruction.kind {
            InstructionKind::Add(copy) => self.dispatch_copy(stage, command, copy, true)?,
            InstructionKind::Arg(arguments) => {
                self.dispatch_arg(stage, &command.instruction, arguments)?;
            }
            InstructionKind::Cmd(line) => self.dispatch_cmd(stage, &command.instruction, line),
            InstructionKind::Copy(copy) => self.dispatch_copy(stage, command, copy, false)?,
            InstructionKind::Entrypoint(line) => {
                self.dispatch_entrypoint(stage, &command.instruction, line)
            }
            InstructionKind::Env(pairs) => {
                self.dispatch_env(stage, &command.instruction, pairs)?;
            }
            InstructionKind::Expose(ports) => self.dispatch_expose(stage, ports)?,
            InstructionKind::From(_) => return Err("FROM begins a stage".into()),
            InstructionKind::Healthcheck(check) => {
                self.dispatch_healthcheck(stage, &command.instruction, check);
            }
            InstructionKind::Label(pairs) => {
                self.dispatch_label(stage, &command.instruction, pairs)?;
            }
            InstructionKind::Maintainer(name) => self.dispatch_maintainer(stage, name),
            InstructionKind::Onbuild(text) => {
                self.states[stage].config.config.on_build.push(text.clone());
            }
            InstructionKind::Run(run) => self.dispatch_run(stage, command, run)?,
            InstructionKind::Shell(shell) => self.dispatch_shell(stage, shell),
            InstructionKind::StopSignal(signal) => self.dispatch_stop_signal(stage, signal)?,
            InstructionKind::User(user) => self.dispatch_user(stage, user)?,
            InstructionKind::Volume(volumes) => self.dispatch_volume(stage, volumes)?,
            InstructionKind::Workdir(path) => self.dispatch_workdir(stage, command, path)?,
        }
        Ok(())
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
