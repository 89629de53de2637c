//! The vocabulary of a build, data only: operations, steps, source map, events.
//!
//! `dockerfile` makes a [`Graph`], `solve` decides what of it must run, `execute` runs it.
//! Invariant: a step's inputs come before it, so a graph has no cycle; every field of an
//! operation that can change its output is part of the operation.

#![forbid(unsafe_code)]

mod content;
mod event;
mod files;
mod operation;
mod pattern;
mod run;
mod source;

pub use content::{ContentPath, ContentQuery};
pub use event::{Event, Events, Failure, Stream, Task, TaskEvent, TaskId, Transfer, chain_text};
pub use files::{Action, ActionKind, ChmodMode, CopyAction, FilesOp, Node, Owner, OwnerName};
pub use operation::{
    GitMtime, GitSource, HttpSource, ImageSource, LocalSource, Operation, shown_url,
};
pub use pattern::{
    Glob, MatchInfo, Pattern, PatternError, PatternMatcher, clean_path, has_wildcard,
    split_wildcards,
};
pub use run::{Mount, MountKind, Network, ProxyEnv, RunOp, SecretEnv, Security, Sharing, Ulimit};
pub use source::{LineRange, SourceFile};

use oci::Platform;

/// The number of a step in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u32);

/// An operation with its inputs; every step has one output, a chain of layers.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// The steps whose outputs it reads, in the order that the operation numbers them.
    pub inputs: Vec<StepId>,
    /// What it is done for (the part of a key that operations with a platform have).
    pub platform: Platform,
    /// The text that progress shows, as `[build 2/5] RUN make`.
    pub name: String,
    /// The lines that asked for it.
    pub lines: Option<LineRange>,
    /// Whether records of earlier builds are left aside (`--no-cache`).
    pub ignore_cache: bool,
    /// A step that progress shows under another one (the merge of `COPY --link`).
    pub shown_as: Option<StepId>,
}

/// Steps and what they read from each other.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    steps: Vec<Step>,
}

impl Graph {
    /// A graph without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step; its inputs must be in the graph.
    ///
    /// # Panics
    /// If an input is not in the graph: a bug in the caller.
    pub fn add(&mut self, step: Step) -> StepId {
        assert!(
            step.inputs.iter().all(|input| (input.0 as usize) < self.steps.len()),
            "inputs come before their step"
        );
        let id = StepId(u32::try_from(self.steps.len()).expect("fewer than 2^32 steps"));
        self.steps.push(step);
        id
    }

    /// The step of a number.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0 as usize]
    }

    /// The step of a number, to change.
    pub fn step_mut(&mut self, id: StepId) -> &mut Step {
        &mut self.steps[id.0 as usize]
    }

    /// All steps in the order they were added.
    pub fn steps(&self) -> impl Iterator<Item = (StepId, &Step)> {
        self.steps.iter().enumerate().map(|(index, step)| (StepId(index as u32), step))
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
