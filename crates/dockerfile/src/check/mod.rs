//! Build checks: BuildKit's rules for what a Dockerfile should not say.
//!
//! Most of them need what lowering knows (variables, bases, the order of things), so lowering
//! calls them as it comes by; each rule is a function that says something or not.

mod instructions;
mod outline;
mod reporter;
mod rules;
mod stages;
mod statements;

use std::fmt;

use graph::{LineRange, Span};

use crate::error::Error;
use crate::lower::ImageRequest;

pub(crate) use outline::Notes;
pub use outline::{Argument, Outline, Target};
pub(crate) use reporter::Reporter;
pub use rules::{RULES, Rule};
pub(crate) use stages::check_defaults;

/// A place where a Dockerfile breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The fault, in BuildKit's words.
    pub message: String,
    /// The lines.
    pub lines: LineRange,
    /// The words that it is about, where they can be pointed at.
    pub span: Option<Span>,
}

impl fmt::Display for Finding {
    /// `Rule: message (line 3)`, as builds print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (line {})", self.rule.name, self.message, self.lines.first)
    }
}

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
