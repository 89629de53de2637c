//! Stages, what they build on, and in which order.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use graph::{LineRange, StepId};
use oci::{ImageConfig, Platform, Reference};

use super::{Context, ImageRequest, Lowerer, NoCache, SCRATCH, StageSummary};
use crate::check::Notes;
use crate::error::Error;
use crate::expand::{Env, Lex, Nothing, Variables as _, Word};
use crate::go;
use crate::instruction::{Instruction, InstructionKind};
use crate::stage::Stage;

/// A stage while it is lowered; also an image that `COPY --from` or a mount reads.
#[derive(Clone, Debug, Default)]
pub(super) struct State<'a> {
    /// The name that is shown.
    pub display: String,
    /// Its base, variables resolved.
    pub base_name: String,
    /// The stage that it begins with, where it is one.
    pub base: Option<usize>,
    /// The named context that stands for it.
    pub context: Option<(String, &'a Context)>,
    /// The caller's name for the local folder that it began with.
    pub local: Option<String>,
    pub lines: Option<LineRange>,
    /// True if it is not a stage of the Dockerfile.
    pub unregistered: bool,
    /// True if its base is known.
    pub resolved: bool,
    /// True if its output is known.
    pub dispatched: bool,
    pub triggers_added: bool,
    pub ignore_cache: bool,
    pub commands: Vec<StageInstruction<'a>>,
    /// The stages that its commands read, with the lines that name them.
    pub dependencies: BTreeMap<usize, LineRange>,
    pub platform: Option<Platform>,
    pub steps_total: usize,
    pub steps_named: usize,
    pub output: Option<StepId>,
    pub env: Env,
    pub cwd: String,
    pub user: String,
    pub config: ImageConfig,
    pub base_config: Option<ImageConfig>,
    /// For each history entry the step that made its layer, if this build made it.
    pub layers: Vec<Option<StepId>>,
    /// Arguments declared so far, each in its first place with its last value.
    pub args: Vec<(String, Option<String>)>,
    /// The last lines with CMD, ENTRYPOINT and HEALTHCHECK.
    pub cmd_lines: Option<LineRange>,
    pub entrypoint_lines: Option<LineRange>,
    pub healthcheck_lines: Option<LineRange>,
    /// True after a WORKDIR, here or in a stage below.
    pub workdir_set: bool,
    /// Arguments, for outlines.
    pub notes: Notes,
}

/// An instruction of a stage.
#[derive(Clone, Debug)]
pub(super) struct StageInstruction<'a> {
    pub instruction: Cow<'a, Instruction>,
    /// The stages that it reads: one for COPY, one for each mount of RUN.
    pub sources: Vec<usize>,
    /// True if it comes from the base's ONBUILD.
    pub onbuild: bool,
}

const IMAGE_HINT: &str =
    "look at the name and the tag; `kiln login HOST` opens repositories that are not public";

impl<'a> Lowerer<'a> {
    pub(super) fn add_stages(&mut self) -> Result<(), Error> {
        for (index, stage) in self.file.stages.iter().enumerate() {
            let state = self.state(index, stage).map_err(|error| error.at(stage.lines))?;
            self.states.push(state);
            if let Some(name) = &stage.name {
                self.names.insert(name.clone(), index);
            }
        }
        Ok(())
    }

    fn state(&mut self, index: usize, stage: &'a Stage) -> Result<State<'a>, Error> {
        self.checks.enter(&stage.comments, stage.lines);
        let base = self.lex.resolve(&stage.base, &self.global)?;
        self.check_from_arguments(&base);
        let mut notes = self.global_arguments.clone();
        notes.used.extend(base.set);
        let base_name = base.text;
        if base_name.is_empty() {
            let error = Error::new(format!("base name ({}) should not be blank", stage.base));
            let error = error.word(&stage.base);
            return Err(self.suggest_variable(error, &base.unset));
        }
        let platform = match &stage.platform {
            None => None,
            Some(text) => {
                let name = stage.name.as_deref().unwrap_or_default();
                Some(self.stage_platform(text, name, &mut notes)?)
            }
        };
        let context = match &stage.name {
            Some(name) => self.named_context(name, platform.as_ref()),
            None => None,
        };
        let base = match context {
            Some(_) => None,
            None => self.names.get(&base_name).copied(),
        };
        let counted = |instruction: &&Instruction| {
            use InstructionKind::{Add, Copy, Run, Workdir};
            matches!(instruction.kind, Add(_) | Copy(_) | Run(_) | Workdir(_))
        };
        let steps = stage.instructions.iter().filter(counted).count();
        let from_image = base.is_none() && base_name != SCRATCH;
        let command = |instruction: &'a Instruction| StageInstruction {
            instruction: Cow::Borrowed(instruction),
            sources: Vec::new(),
            onbuild: false,
        };
        // A stage replaced by a context is not run, and needs none of its dependencies.
        let commands = match context {
            Some(_) => Vec::new(),
            None => stage.instructions.iter().map(command).collect(),
        };
        Ok(State {
            display: stage.name.clone().unwrap_or_else(|| format!("stage-{index}")),
            base_name,
            base,
            steps_total: if context.is_some() { 0 } else { steps + usize::from(from_image) },
            ignore_cache: self.ignores_cache(stage.name.as_deref().unwrap_or_default()),
            context,
            notes,
            lines: Some(stage.lines),
            commands,
            platform,
            cwd: "/".into(),
            ..State::default()
        })
    }

    fn check_from_arguments(&self, word: &Word) {
        let declared = self.global_arguments.declared.keys().map(String::as_str);
        let declared: Vec<&str> =
            declared.chain(self.global.iter().map(|(name, _)| name)).collect();
        self.checks.check_from_arguments(word, &declared);
    }

    fn stage_platform(
        &self,
        text: &str,
        stage: &str,
        notes: &mut Notes,
    ) -> Result<Platform, Error> {
        let word = self.lex.resolve(text, &self.global).map_err(|error| Error {
            message: format!("failed to process arguments for platform {text}: {error}"),
            ..error
        })?;
        self.check_from_arguments(&word);
        let target = self.global.get("TARGETPLATFORM").unwrap_or_default();
        self.checks.check_platform(text, &word, target, stage);
        let Word { text: platform, unset, set } = word;
        notes.used.extend(set);
        let error = match platform.as_str() {
            "" => Error::new(format!("empty platform value from expression {text}")),
            platform => match platform.parse() {
                Ok(platform) => return Ok(platform),
                Err(error) => Error::new(format!("failed to parse platform {text}: {error}"))
                    .hint("as linux/amd64 or linux/arm64/v8"),
            },
        };
        Err(self.suggest_variable(error.word(text), &unset))
    }

    fn suggest_variable(&self, error: Error, unset: &[String]) -> Error {
        let known = || self.global.iter().map(|(name, _)| name);
        let hint = unset.iter().find_map(|name| crate::suggest::search(name, known(), true));
        match hint {
            Some(name) => error.hint(format!("did you mean {name}?")),
            None => match unset.first() {
                Some(name) => error.hint(format!(
                    "`{name}` has no value here: give ARG {name} a default in front of the first FROM, \
                     or --build-arg {name}=VALUE"
                )),
                None => error,
            },
        }
    }

    fn ignores_cache(&self, name: &str) -> bool {
        match &self.request.no_cache {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(names) => names.iter().any(|other| other.eq_ignore_ascii_case(name)),
        }
    }

    pub(super) fn target(&self) -> Result<usize, Error> {
        match self.request.target.as_deref() {
            None | Some("") => Ok(self.states.len() - 1),
            Some(name) => self.names.get(&name.to_lowercase()).copied().ok_or_else(|| {
                Error::new(format!("target stage {} could not be found", go::quote(name)))
                    .suggest(name, self.states.iter().map(|state| state.display.as_str()))
                    .or_hint(|| self.stage_names())
            }),
        }
    }

    /// The stages that can be named, for those who named another.
    fn stage_names(&self) -> String {
        let stages = self.file.stages.iter();
        let names: Vec<&str> = stages.filter_map(|stage| stage.name.as_deref()).collect();
        match names.is_empty() {
            true => "no stage has a name: write FROM IMAGE AS NAME".into(),
            false => format!("the stages are {}", names.join(", ")),
        }
    }

    /// Finds what commands read from.
    pub(super) fn link_stages(&mut self) -> Result<(), Error> {
        for stage in 0..self.file.stages.len() {
            let mut commands = std::mem::take(&mut self.states[stage].commands);
            for command in &mut commands {
                self.link(stage, command).map_err(|error| error.at(command.instruction.lines))?;
            }
            self.states[stage].commands = commands;
        }
        self.refuse_circles()?;
        if let [only] = &mut self.states[..] {
            only.display.clear();
        }
        Ok(())
    }

    /// Finds what a command reads from; images become states of their own.
    pub(super) fn link(
        &mut self,
        stage: usize,
        command: &mut StageInstruction<'a>,
    ) -> Result<(), Error> {
        let lines = command.instruction.lines;
        let sources = match &command.instruction.kind {
            InstructionKind::Copy(copy) => match &copy.from {
                Some(from) => vec![self.copy_source(from, lines)?],
                None => Vec::new(),
            },
            InstructionKind::Run(run) => run
                .mounts
                .iter()
                .map(|mount| match mount.from.as_str() {
                    "" => self.source_state(SCRATCH, lines),
                    from => self.source_state(from, lines),
                })
                .collect(),
            _ => Vec::new(),
        };
        for source in &sources {
            self.states[stage].dependencies.insert(*source, lines);
        }
        command.sources = sources;
        Ok(())
    }

    fn copy_source(&mut self, from: &str, lines: LineRange) -> Result<usize, Error> {
        if self.lex.word(from, &Nothing)? != from {
            return Err(Error::new(
                "variable expansion is not supported for --from, define a new stage \
                 with FROM using ARG from global scope as a workaround",
            )
            .word(from)
            .hint("write `FROM IMAGE:$VERSION AS NAME` further up, and --from=NAME here"));
        }
        match from.parse::<i64>() {
            Ok(index) => usize::try_from(index)
                .ok()
                .filter(|index| *index < self.file.stages.len())
                .ok_or_else(|| {
                    let last = self.file.stages.len() - 1;
                    Error::new(format!("invalid stage index {index}"))
                        .word(from)
                        .hint(format!("stages count from 0 to {last}; names are safer"))
                }),
            Err(_) => Ok(self.source_state(from, lines)),
        }
    }

    fn source_state(&mut self, from: &str, lines: LineRange) -> usize {
        if let Some(stage) = self.names.get(&from.to_lowercase()) {
            return *stage;
        }
        self.states.push(State {
            base_name: from.into(),
            lines: Some(lines),
            unregistered: true,
            cwd: "/".into(),
            ..State::default()
        });
        self.states.len() - 1
    }

    fn refuse_circles(&self) -> Result<(), Error> {
        // 0: not seen, 1: on the way, 2: done.
        fn visit(lowerer: &Lowerer<'_>, stage: usize, marks: &mut [u8]) -> Option<LineRange> {
            marks[stage] = 1;
            for (&next, &lines) in &lowerer.states[stage].dependencies {
                match marks[next] {
                    1 => return Some(lines),
                    0 => {
                        if let Some(lines) = visit(lowerer, next, marks) {
                            return Some(lines);
                        }
                    }
                    _ => {}
                }
            }
            marks[stage] = 2;
            None
        }
        let mut marks = vec![0; self.states.len()];
        for (stage, state) in self.states.iter().enumerate() {
            if marks[stage] == 0
                && let Some(lines) = visit(self, stage, &mut marks)
            {
                let name = &state.display;
                return Err(Error::new(format!("circular dependency detected on stage: {name}"))
                    .at(lines)
                    .word("--from")
                    .hint("a stage can read only what is built before it"));
            }
        }
        Ok(())
    }

    fn find_reachable(&mut self, target: usize) {
        let mut todo = vec![target];
        if self.all_stages {
            todo.extend(0..self.file.stages.len());
        }
        let mut found = BTreeSet::new();
        while let Some(stage) = todo.pop() {
            if found.insert(stage) {
                let state = &self.states[stage];
                todo.extend(state.base.iter().chain(state.dependencies.keys()));
            }
        }
        self.reachable = found;
    }

    /// Finds the bases of all stages that the target needs; the images that are missing.
    pub(super) fn resolve(&mut self, target: usize) -> Result<Vec<ImageRequest>, Error> {
        loop {
            self.find_reachable(target);
            for stage in 0..self.states.len() {
                let state = &self.states[stage];
                if state.base.is_some() || state.resolved || state.dispatched {
                    continue;
                }
                let lines = state.lines;
                self.resolve_base(stage).map_err(|error| match lines {
                    Some(lines) => error.at(lines),
                    None => error,
                })?;
            }
            if !self.needs.is_empty() {
                return Ok(std::mem::take(&mut self.needs));
            }
            let mut more = false;
            for stage in self.reachable.clone() {
                let lines = self.states[stage].lines;
                more |= self.add_triggers(stage).map_err(|error| match lines {
                    Some(lines) => error.at(lines),
                    None => error,
                })?;
            }
            if !more {
                return Ok(Vec::new());
            }
        }
    }

    fn resolve_base(&mut self, stage: usize) -> Result<(), Error> {
        let reachable = self.reachable.contains(&stage);
        let state = &self.states[stage];
        if state.base_name == SCRATCH && state.context.is_none() {
            let platform = self.request.platform.clone();
            let state = &mut self.states[stage];
            state.resolved = true;
            state.dispatched = state.unregistered;
            state.config = super::initial_config::empty_image(&platform);
            state.platform = Some(platform);
            return Ok(());
        }
        let reference: Reference = state.base_name.parse().map_err(|error| {
            Error::new(format!(
                "failed to parse stage name {}: {error}",
                go::quote(&state.base_name)
            ))
            .word(self.base_as_written(stage))
            .hint("it is the name of an image, as debian:12, or of a stage further up")
        })?;
        if !reachable {
            return Ok(());
        }
        let platform = state.platform.clone().unwrap_or_else(|| self.request.platform.clone());
        if let Some((name, context)) = state.context.clone() {
            return self.replace_stage(stage, &name, context, &platform);
        }
        if let Some((name, context)) = self.named_context(&state.base_name.clone(), Some(&platform))
        {
            return self.replace_base(stage, &name, context, platform);
        }
        self.resolve_image(stage, reference, platform)
    }

    /// The base in a stage's FROM; for others, the place that they are read from.
    fn base_as_written(&self, stage: usize) -> &str {
        match self.file.stages.get(stage) {
            Some(written) => &written.base,
            None => &self.states[stage].base_name,
        }
    }

    fn resolve_image(
        &mut self,
        stage: usize,
        reference: Reference,
        mut platform: Platform,
    ) -> Result<(), Error> {
        let asked = self.states[stage].base_name.clone();
        let Some(image) = self.image(stage, reference, &platform, None) else { return Ok(()) };
        let image = image.map_err(|reason| {
            let names = self.states.iter().map(|state| state.display.as_str());
            let common = ["alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"];
            Error::new(format!("{asked}: {reason}"))
                .suggest(&asked, names.filter(|name| !name.is_empty()).chain(common))
                .word(self.base_as_written(stage))
                .or_hint(|| IMAGE_HINT.into())
        })?;
        let built = image.config.platform();
        if self.states[stage].platform.is_none()
            && !self.request.platform_explicit
            && !built.serves(&platform)
            && built.serves(&self.request.build_platform)
        {
            platform = self.request.build_platform.clone();
        }
        self.states[stage].platform = Some(platform);
        let no_layers = image.config.rootfs.diff_ids.is_empty()
            && image.config.history.iter().all(|entry| entry.empty_layer);
        let output = match no_layers {
            true => None,
            false => {
                let lines = self.states[stage].lines;
                let wanted = self.platform_of(stage);
                self.checks.check_image(&asked, &wanted, &built, lines);
                let text = format!("FROM {}", image.source.reference);
                let name = self.step_name(stage, &text, false);
                let lines = self.states[stage].lines;
                Some(self.share_image(image.source, name, lines))
            }
        };
        let state = &mut self.states[stage];
        state.output = output;
        state.base_config = Some(image.config.clone());
        state.set_config(super::initial_config::inherited(image.config));
        state.resolved = true;
        state.dispatched = state.unregistered;
        Ok(())
    }

    pub(super) fn stage_summaries(&self) -> Vec<StageSummary> {
        let stages = self.reachable.iter().map(|stage| &self.states[*stage]);
        stages
            .filter(|state| !state.unregistered)
            .map(|state| StageSummary {
                name: state.display.clone(),
                base: state.base_name.clone(),
                result: state.output,
            })
            .collect()
    }
}

impl State<'_> {
    /// Takes an image's config; its layers were made elsewhere.
    pub(super) fn set_config(&mut self, config: ImageConfig) {
        self.layers = vec![None; config.history.len()];
        self.config = config;
    }
}

/// The way in which words of RUN are shown: quotes and unknown variables stay.
pub(super) fn display_lex(lex: &Lex) -> Lex {
    Lex { raw_quotes: true, keep_unset: true, ..*lex }
}
