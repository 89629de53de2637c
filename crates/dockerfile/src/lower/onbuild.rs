//! Triggers that a base leaves for its users.

use std::borrow::Cow;

use super::Lowerer;
use super::stages::StageInstruction;
use crate::error::Error;
use crate::instruction::{Instruction, InstructionKind};
use crate::lexer;

impl Lowerer<'_> {
    /// Puts the base's triggers in front of a stage's instructions; whether they read something.
    pub(super) fn add_triggers(&mut self, stage: usize) -> Result<bool, Error> {
        let state = &mut self.states[stage];
        if state.triggers_added || state.dispatched {
            return Ok(false);
        }
        state.triggers_added = true;
        let triggers = match state.base {
            None => std::mem::take(&mut state.config.config.on_build),
            Some(base) => self.states[base].own_triggers(),
        };
        let mut commands = Vec::new();
        let mut reads = false;
        for trigger in triggers {
            let mut command = self.trigger(stage, &trigger)?;
            self.link(stage, &mut command)?;
            reads |= !command.sources.is_empty();
            commands.push(command);
        }
        let state = &mut self.states[stage];
        state.steps_total += commands.len();
        commands.append(&mut state.commands);
        state.commands = commands;
        Ok(reads)
    }

    fn trigger(&self, stage: usize, text: &str) -> Result<StageInstruction<'static>, Error> {
        let lexed = lexer::lex(text)?;
        let Ok([statement]) = <[_; 1]>::try_from(lexed.statements) else {
            return Err("onbuild trigger should be a single expression".into());
        };
        let mut instruction = Instruction::parse(statement, lexed.escape)
            .map_err(|error| Error { lines: None, ..error })?;
        if matches!(instruction.kind, InstructionKind::From(_) | InstructionKind::Onbuild(_)) {
            let keyword = instruction.keyword.to_uppercase();
            return Err(format!("{keyword} isn't allowed as an ONBUILD trigger").into());
        }
        if let Some(lines) = self.states[stage].lines {
            instruction.lines = lines;
        }
        Ok(StageInstruction {
            instruction: Cow::Owned(instruction),
            sources: Vec::new(),
            onbuild: true,
        })
    }
}

impl super::State<'_> {
    fn own_triggers(&self) -> Vec<String> {
        let triggers = self.commands.iter().filter_map(|command| match &command.instruction.kind {
            InstructionKind::Onbuild(text) => Some(text.clone()),
            _ => None,
        });
        triggers.collect()
    }
}
