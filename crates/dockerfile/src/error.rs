//! What is wrong with a Dockerfile, and where.

use graph::LineRange;

/// Why a Dockerfile cannot be built as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", suffix(.hint))]
pub struct Error {
    /// The lines that are wrong, where some are.
    pub lines: Option<LineRange>,
    /// What is wrong, in BuildKit's words where it has some.
    pub message: String,
    /// What might help, as `did you mean RUN?`.
    pub hint: Option<String>,
}

fn suffix(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default()
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { lines: None, message: message.into(), hint: None }
    }

    /// The same, at `lines` unless it is known to be elsewhere.
    pub(crate) fn at(mut self, lines: LineRange) -> Self {
        self.lines.get_or_insert(lines);
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the option that `value` was probably meant to be.
    pub(crate) fn suggest<'a>(
        self,
        value: &str,
        options: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        match crate::suggest::search(value, options, true) {
            Some(option) => self.hint(format!("did you mean {option}?")),
            None => self,
        }
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}
