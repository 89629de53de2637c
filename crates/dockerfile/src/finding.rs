//! Findings of checks.

use std::fmt;

use graph::{LineRange, Span};

use crate::check::rules::Rule;

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
