//! Who runs operations.

use std::fmt::Display;
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
    type Error: Display + Send + Sync;

    /// Runs a step. Inputs were fetched, in the step's order. A source's bytes may stay where
    /// they are.
    fn run(
        &self,
        id: StepId,
        step: &Step,
        inputs: Vec<Self::Output>,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// Brings here what `consumer` needs of its input's output.
    fn fetch(
        &self,
        consumer: StepId,
        step: &Step,
        input: usize,
        output: &Self::Output,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The digest of a part of an output.
    fn content(
        &self,
        id: StepId,
        output: &Self::Output,
        query: &ContentQuery,
    ) -> impl Future<Output = Result<Digest, Self::Error>> + Send;

    /// The output as records keep it; none for what is no chain of layers.
    fn chain_of(&self, output: &Self::Output) -> Option<Self::Chain>;

    /// The output of a record.
    fn restore(&self, chain: Self::Chain) -> Self::Output;
}
