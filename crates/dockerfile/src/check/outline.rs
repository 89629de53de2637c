//! A Dockerfile's interface: its stages, and the arguments and secrets of one of them.

use std::collections::{BTreeMap, BTreeSet};

use graph::LineRange;

use crate::lower::request::{AgentUse, SecretUse};
use crate::stage::Dockerfile;

/// The arguments and secrets that a target accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The stage's name; empty where it has none.
    pub name: String,
    /// The description in a comment; empty without one.
    pub description: String,
    /// Build arguments that count, by line.
    pub arguments: Vec<Argument>,
    /// Secrets, by line, each ID once.
    pub secrets: Vec<SecretUse>,
    /// Agents, by line, each ID once.
    pub agents: Vec<AgentUse>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value, given or by default; empty where it has none.
    pub value: String,
    /// The description in a comment; empty without one.
    pub description: String,
    /// The lines of its declaration.
    pub lines: LineRange,
}

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStage {
    /// Its name; empty where it has none.
    pub name: String,
    /// True if it is built by default.
    pub is_default: bool,
    /// The description in a comment; empty without one.
    pub description: String,
    /// Its base, variables not resolved.
    pub base: String,
    /// `--platform`, variables not resolved; empty where it is not given.
    pub platform: String,
    /// The lines of its `FROM`.
    pub lines: LineRange,
}

impl Dockerfile {
    /// The stages that can be built, in order.
    pub fn targets(&self) -> Vec<TargetStage> {
        let last = self.stages.len().saturating_sub(1);
        let target = |(index, stage): (usize, &crate::Stage)| TargetStage {
            name: stage.name.clone().unwrap_or_default(),
            is_default: index == last,
            description: stage.description.clone().unwrap_or_default(),
            base: stage.base.clone(),
            platform: stage.platform.clone().unwrap_or_default(),
            lines: stage.lines,
        };
        self.stages.iter().enumerate().map(target).collect()
    }
}

/// The facts about an argument, collected while a Dockerfile is lowered.
#[derive(Clone, Debug)]
pub(crate) struct ArgumentNote {
    pub argument: Argument,
    /// Arguments that its default reads.
    pub reads: Vec<String>,
}

/// Arguments that a stage can see, and those that it uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub declared: BTreeMap<String, ArgumentNote>,
    pub used: BTreeSet<String>,
}

impl Notes {
    pub(crate) fn declare(&mut self, argument: Argument, mut reads: Vec<String>) {
        let name = argument.name.clone();
        // A default that reads the argument itself reads what its former one read.
        if let Some(own) = reads.iter().position(|read| *read == name) {
            reads.remove(own);
            reads.extend(self.declared.get(&name).into_iter().flat_map(|old| old.reads.clone()));
        }
        self.declared.insert(name, ArgumentNote { argument, reads });
    }

    /// Arguments that are used, also by the defaults of others, and are not in `taken` yet.
    pub(crate) fn take(&self, taken: &mut BTreeSet<String>) -> Vec<Argument> {
        let mut todo: Vec<&String> = self.used.iter().collect();
        let mut used = BTreeSet::new();
        let mut arguments = Vec::new();
        while let Some(name) = todo.pop() {
            let Some(note) = self.declared.get(name).filter(|_| used.insert(name)) else {
                continue;
            };
            todo.extend(&note.reads);
            if taken.insert(name.clone()) {
                arguments.push(note.argument.clone());
            }
        }
        arguments
    }
}
