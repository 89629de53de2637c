//! Where in a Dockerfile something was asked for.

use std::sync::Arc;

/// A text that steps come from.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The name that users know, as `Dockerfile`.
    pub name: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
}

/// Lines of a source file, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineRange {
    /// The first line.
    pub first: u32,
    /// The last line.
    pub last: u32,
}
