//! Who runs operations.

use std::error::Error;
use std::future::Future;

use graph::{ContentQuery, Step, StepId};
use oci::Digest;

/// Runs operations and looks at their outputs.
pub trait Executor: Send + Sync {
    /// What a step leaves.
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

    /// Whether an error of `fetch` or `content` says that an output's bytes are gone or damaged, so
    /// that making it again helps. Others are the fault of who asks, as a path that is not there.
    fn blames_output(&self, error: &Self::Error) -> bool;

    /// The output as records keep it; none for what is no chain of layers.
    fn chain_of(&self, output: &Self::Output) -> Option<Self::Chain>;

    /// The output of a record.
    fn restore(&self, chain: Self::Chain) -> Self::Output;
}

/// What a step needs of an input.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a, O> {
    /// The step.
    pub step: &'a Step,
    /// Which of its inputs.
    pub input: usize,
    /// That input's output.
    pub output: &'a O,
    /// The step under which progress shows the bytes: an image's own, else the one that asks.
    pub shown_by: StepId,
}
