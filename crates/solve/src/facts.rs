//! Facts about a build's steps: enough to write records of them to a cache.

use std::sync::Arc;

use graph::{ContentQuery, StepId};
use oci::Digest;

/// A build that was solved.
#[derive(Clone, Debug)]
pub struct Solved<O, C> {
    /// The output that was asked for.
    pub output: O,
    /// Every step that it stands on, each after its inputs.
    pub steps: Vec<StepFacts<C>>,
}

/// The facts about a step.
#[derive(Clone, Debug)]
pub struct StepFacts<C> {
    /// The step.
    pub id: StepId,
    /// Its record digests; empty where only content names it.
    pub digests: Vec<Digest>,
    /// Its inputs.
    pub inputs: Vec<InputFacts>,
    /// Its output, where it is known.
    pub output: Option<C>,
    /// Layers of the output that were not where a record promised them.
    pub renewed: Vec<Digest>,
    /// True if it ran in this build.
    pub ran: bool,
    /// The source of its record, where it was found.
    pub cached: Option<Arc<str>>,
}

/// The ways in which an input is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFacts {
    /// The step that makes it.
    pub step: StepId,
    /// The part that is read.
    pub selector: Option<Digest>,
    /// The content that is read, where it may replace the input's key.
    pub content: Option<ContentQuery>,
    /// Digests of the records of what was read, where it is known.
    pub contents: Vec<Digest>,
}
