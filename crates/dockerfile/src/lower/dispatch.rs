//! Stages one after the other, instruction by instruction.

use graph::{Action, ActionKind, FilesOp, Node, Operation};
use oci::Platform;

use super::args::NO_ENV;
use super::files::owner;
use super::names::instruction_text;
use super::stages::Command;
use super::{DEFAULT_PATH, Lowerer, StepRequest, config};
use crate::error::Error;
use crate::expand::Lex;
use crate::instruction::InstructionKind;
use crate::path;

impl Lowerer<'_> {
    pub(super) fn dispatch_stages(&mut self, target: usize) -> Result<(), Error> {
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

    fn dispatch(&mut self, stage: usize, command: &Command<'_>) -> Result<(), Error> {
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

    fn dispatch_workdir(
        &mut self,
        stage: usize,
        command: &Command<'_>,
        path: &str,
    ) -> Result<(), Error> {
        let path = self.expand(stage, path)?;
        let state = &mut self.states[stage];
        if !state.workdir_set {
            self.checks.check_workdir(&path);
        }
        state.workdir_set = true;
        let cwd = path::workdir(&state.config.config.working_dir, &path);
        state.config.config.working_dir.clone_from(&cwd);
        state.cwd.clone_from(&cwd);
        let text = format!("WORKDIR {cwd}");
        if cwd == "/" {
            self.record(stage, text, None);
            return Ok(());
        }
        let (env, user) = (state.env.clone(), state.config.config.user.clone());
        let inputs: Vec<_> = state.output.into_iter().collect();
        let platform = self.platform_of(stage);
        let base = if inputs.is_empty() { Node::Scratch } else { Node::Input(0) };
        let shown = instruction_text(&self.lex, &command.instruction.text, &env);
        let name = self.step_name(stage, &shown, command.onbuild);
        let kind = ActionKind::MakeDir {
            path: path::clean(&cwd),
            mode: 0o755,
            make_parents: true,
            owner: (!user.is_empty()).then(|| owner(&user, base)),
            timestamp: self.epoch.map(|seconds| seconds.saturating_mul(1_000_000_000)),
        };
        // `--no-cache` does not affect this step, as in BuildKit.
        let operation = Operation::Files(FilesOp { actions: vec![Action { base, kind }] });
        let lines = Some(command.instruction.lines);
        let asked = StepRequest { platform, name, lines, ignore_cache: false };
        let step = self.add(operation, inputs, asked);
        self.states[stage].output = Some(step);
        self.record(stage, text, Some(step));
        Ok(())
    }

    /// A text with the stage's variables resolved.
    pub(super) fn expand(&self, stage: usize, text: &str) -> Result<String, Error> {
        self.expand_with(&self.lex, stage, text)
    }

    pub(super) fn expand_with(&self, lex: &Lex, stage: usize, text: &str) -> Result<String, Error> {
        let state = &self.states[stage];
        let mut word = lex.resolve(text, &state.env)?;
        // A variable that ARG declares without a value is not a mistake.
        let declared = |name: &String| {
            NO_ENV.contains(&name.as_str()) || state.args.iter().any(|(known, _)| known == name)
        };
        word.unset.retain(|name| !declared(name));
        self.checks.check_unset(&word.unset, state.env.iter().map(|(name, _)| name));
        Ok(word.text)
    }

    pub(super) fn platform_of(&self, stage: usize) -> Platform {
        self.states[stage].platform.clone().unwrap_or_else(|| self.request.platform.clone())
    }
}
