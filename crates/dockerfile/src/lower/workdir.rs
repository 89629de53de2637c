//! WORKDIR.

use graph::{Action, ActionInput, ActionKind, FilesOp, Operation};

use super::Lowerer;
use super::files::owner;
use super::names::instruction_text;
use super::stages::StageInstruction;
use super::steps::StepRequest;
use crate::error::Error;
use crate::path;

impl Lowerer<'_> {
    pub(super) fn dispatch_workdir(
        &mut self,
        stage: usize,
        command: &StageInstruction<'_>,
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
        let base = if inputs.is_empty() { ActionInput::Scratch } else { ActionInput::Input(0) };
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
}
