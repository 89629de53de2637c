//! A step's output.

use std::sync::Arc;

use layer::Chain;
use tree::Tree;

/// A step's output. Cheap to clone.
#[derive(Clone, Debug)]
pub enum StepOutput {
    /// Layers; their bytes may be elsewhere.
    Chain(Chain),
    /// Files that the user gives, where they are.
    Context(Arc<Tree>),
}

impl StepOutput {
    /// The layers, if it is layers.
    pub(crate) fn chain(&self) -> Option<&Chain> {
        match self {
            Self::Chain(chain) => Some(chain),
            Self::Context(_) => None,
        }
    }
}
