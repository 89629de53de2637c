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
mod vertex;

pub use content::{ContentPath, ContentQuery};
pub use event::{Event, Events, Failure, Stream, Task, TaskEvent, TaskId, TransferProgress};
pub use files::{
    Action, ActionInput, ActionKind, ChmodMode, CopyAction, FilesOp, Owner, OwnerName,
};
pub use oci::chain_text;
pub use operation::{GitMtime, GitSource, HttpSource, ImageSource, LocalSource, Operation};
pub use pattern::{
    Glob, MatchInfo, Pattern, PatternError, PatternMatcher, clean_path, has_wildcard,
    split_wildcards,
};
pub use run::{Mount, MountKind, Network, ProxyEnv, RunOp, SecretEnv, Security, Sharing, Ulimit};
pub use source::{LineRange, LineTable, SourceFile, Span};
pub use vertex::{Vertex, Vertexes};

use std::collections::HashMap;

use oci::Platform;

/// The number of a step in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u32);

/// An operation with its inputs; every step has one output, a chain of layers.
#[derive(Clone, Debug)]
pub struct Step {
    /// The operation.
    pub operation: Operation,
    /// The steps whose outputs it reads, in the order that the operation numbers them.
    pub inputs: Vec<StepId>,
    /// The target platform, a part of the key of operations that have one.
    pub platform: Platform,
    /// The text that progress shows, as `[build 2/5] RUN make`.
    pub name: String,
    /// The lines that asked for it.
    pub lines: Option<LineRange>,
    /// Ignores records of earlier builds (`--no-cache`).
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

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True if there is no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Makes one graph of several: steps that do the same with the same inputs become one, with
    /// the name and the lines of the first. For each graph, the new numbers of its steps.
    pub fn merge<'a>(graphs: impl IntoIterator<Item = &'a Graph>) -> (Self, Vec<Vec<StepId>>) {
        let mut merged = Self::new();
        // Steps by what can be hashed of them; few share that and differ in their operations.
        let mut known: HashMap<Alike, Vec<StepId>> = HashMap::new();
        let mut numbers: Vec<Vec<StepId>> = Vec::new();
        for graph in graphs {
            let mut of_graph: Vec<StepId> = Vec::with_capacity(graph.len());
            for step in &graph.steps {
                let renumbered = |id: &StepId| of_graph[id.0 as usize];
                let step = Step {
                    inputs: step.inputs.iter().map(renumbered).collect(),
                    // Shown under a step that comes after it: set below.
                    shown_as: None,
                    ..step.clone()
                };
                let alike = known.entry(Alike::of(&step)).or_default();
                let same = |id: &&StepId| merged.step(**id).operation == step.operation;
                let id = match alike.iter().find(same) {
                    Some(id) => *id,
                    None => {
                        let id = merged.add(step);
                        alike.push(id);
                        id
                    }
                };
                of_graph.push(id);
            }
            for (id, step) in graph.steps() {
                if let Some(shown_as) = step.shown_as {
                    let shown = of_graph[shown_as.0 as usize];
                    merged.step_mut(of_graph[id.0 as usize]).shown_as = Some(shown);
                }
            }
            numbers.push(of_graph);
        }
        (merged, numbers)
    }
}

/// The facts besides the operations that equal steps have in common.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    kind: std::mem::Discriminant<Operation>,
    inputs: Vec<StepId>,
    /// The platform, where the result depends on it: copied files are the same for every processor.
    platform: Option<Platform>,
    ignore_cache: bool,
}

impl Alike {
    fn of(step: &Step) -> Self {
        Self {
            kind: std::mem::discriminant(&step.operation),
            inputs: step.inputs.clone(),
            platform: match &step.operation {
                Operation::Run(_) | Operation::Image(_) => Some(step.platform.clone()),
                Operation::Local(_)
                | Operation::Http(_)
                | Operation::Git(_)
                | Operation::Files(_)
                | Operation::Merge => None,
            },
            ignore_cache: step.ignore_cache,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(name: &str) -> Operation {
        Operation::Local(LocalSource {
            name: name.into(),
            excludes: Vec::new(),
            follow_paths: Vec::new(),
        })
    }

    fn step(operation: Operation, inputs: &[StepId], platform: &str) -> Step {
        Step {
            operation,
            inputs: inputs.into(),
            platform: platform.parse().unwrap(),
            name: format!("for {platform}"),
            lines: None,
            ignore_cache: false,
            shown_as: None,
        }
    }

    fn run() -> Operation {
        Operation::Run(Box::default())
    }

    #[test]
    fn steps_that_do_the_same_become_one() {
        let graph = |platform: &str| {
            let mut graph = Graph::new();
            let shared = graph.add(step(local("context"), &[], platform));
            let own = graph.add(step(run(), &[shared], platform));
            let mut shown = step(Operation::Merge, &[shared, own], platform);
            shown.shown_as = Some(own);
            graph.add(shown);
            graph
        };
        let (merged, numbers) = Graph::merge(&[graph("linux/amd64"), graph("linux/arm64")]);
        assert_eq!(merged.len(), 5);
        assert_eq!(numbers[0], [0, 1, 2].map(StepId));
        assert_eq!(numbers[1], [0, 3, 4].map(StepId));
        assert_eq!(merged.step(StepId(4)).inputs, [0, 3].map(StepId));
        assert_eq!(merged.step(StepId(4)).shown_as, Some(StepId(3)));
        assert_eq!(merged.step(StepId(0)).name, "for linux/amd64");
    }
}
