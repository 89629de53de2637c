//! The interface of whatever runs operations.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;

use graph::{ContentQuery, Step, StepId};
use oci::Digest;

/// Runs operations and looks at their outputs.
pub trait Executor: Send + Sync {
    /// A step's output.
    type Output: Clone + Send + Sync;
    /// An output as records keep it.
    type Chain: Clone + Send + Sync;
    /// Why a step cannot run.
    type Error: Error + Send + Sync + 'static;

    /// Runs a step. Inputs were fetched, in the step's order. A source's bytes may stay where
    /// they are.
    fn run(
        &self,
        id: StepId,
        step: &Step,
        inputs: Vec<Self::Output>,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// Why a step must not run although no record of it can be used; none if it may. Asked before
    /// anything is done for it.
    fn refuses(&self, _id: StepId) -> Option<Self::Error> {
        None
    }

    /// Waits while another build on this machine runs the step of this name, which says all that
    /// the step depends on; `waits` is called if there is one. While the caller has the turn,
    /// others wait for it. None is given where the other build ended its own, and where builds
    /// share nothing.
    fn turn(
        &self,
        _id: StepId,
        _name: Digest,
        _waits: impl FnOnce() + Send,
    ) -> impl Future<Output = Option<Box<dyn StepTurn>>> + Send {
        std::future::ready(None)
    }

    /// Brings here what a step needs of its input's output.
    fn fetch(
        &self,
        fetch: Fetch<'_, Self::Output>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The record digests of a step without inputs: asked once, before anything else of it. Where
    /// they depend on what a server has, this is where it is asked.
    fn source_digests(
        &self,
        _id: StepId,
        step: &Step,
    ) -> impl Future<Output = Result<Vec<Digest>, Self::Error>> + Send {
        std::future::ready(Ok(crate::step_key(step).digests))
    }

    /// The digest of a part of an output.
    fn content(
        &self,
        id: StepId,
        output: &Self::Output,
        query: &ContentQuery,
    ) -> impl Future<Output = Result<Digest, Self::Error>> + Send;

    /// The fault of an output behind an error of `fetch` or `content`; none if the request is at
    /// fault, as with a path that does not exist.
    fn blame(&self, error: &Self::Error) -> Option<Blame>;

    /// The output as records keep it; none for what is no chain of layers.
    fn chain_of(&self, output: &Self::Output) -> Option<Self::Chain>;

    /// The output of a record.
    fn restore(&self, chain: Self::Chain) -> Self::Output;

    /// The names of a chain's layers, from the bottom up.
    fn layers(&self, _chain: &Self::Chain) -> Vec<Digest> {
        Vec::new()
    }

    /// A layer that no place gives and that this machine has in another form, as a chain.
    fn at_hand(&self, _layer: Digest) -> Option<Self::Chain> {
        None
    }

    /// A chain whose bytes come, for some of its layers, from where other chains have those of the
    /// same name.
    fn renewed(&self, chain: Self::Chain, _donors: &BTreeMap<Digest, Self::Chain>) -> Self::Chain {
        chain
    }
}

/// A step's turn. Dropped without an end, another build has it next.
pub trait StepTurn: Send + Sync {
    /// Ends it: those who wait find what was made, or try themselves.
    fn end(self: Box<Self>, has_made: bool);
}

/// The fault of an output whose bytes could not be read. A new run of its step helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// These of its layers cannot be had.
    Layers(Vec<Digest>),
    /// It is damaged.
    Output,
}

/// A step's need of an input.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a, O> {
    /// The step.
    pub step: &'a Step,
    /// The input's index.
    pub input: usize,
    /// The input's output.
    pub output: &'a O,
    /// The content of the input that a step of files reads.
    pub content: Option<&'a ContentQuery>,
    /// The step under which progress shows the bytes: an image's own, else the one that asks.
    pub shown_by: StepId,
}
