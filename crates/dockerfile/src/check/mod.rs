//! Build checks: BuildKit's rules for what a Dockerfile should not say.
//!
//! Most of them need what lowering knows (variables, bases, the order of things), so lowering
//! calls them as it comes by; each rule is a function that says something or not.

mod instructions;
mod outline;
mod reporter;
pub(crate) mod rules;
mod stages;
mod statements;

use crate::error::Error;
use crate::finding::Finding;
use crate::lower::request::ImageRequest;

pub(crate) use outline::Notes;
pub use outline::{Argument, Outline, TargetStage};
pub(crate) use reporter::Reporter;
pub use rules::{RULES, Rule};
pub(crate) use stages::check_defaults;

/// The state of a check.
#[derive(Clone, Debug)]
pub enum Checking {
    /// These images must be looked up first; then the check is asked again.
    Needs(Vec<ImageRequest>),
    /// To the end.
    Done(Checked),
}

/// The result of a check.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Broken rules, in the order of BuildKit's frontend.
    pub findings: Vec<Finding>,
    /// Why the Dockerfile could not be built; rules behind it were not looked at.
    pub error: Option<Error>,
}

/// The state of an outline.
#[derive(Clone, Debug)]
pub enum Outlining {
    /// These images must be looked up first; then the outline is asked again.
    Needs(Vec<ImageRequest>),
    /// To the end.
    Done(Outline),
}
