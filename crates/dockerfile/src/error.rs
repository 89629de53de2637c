//! An error in a Dockerfile, with its lines.

use graph::{LineRange, SourceFile, Span};

/// Why a Dockerfile cannot be built as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", suffix(.hint))]
pub struct Error {
    /// The lines that are wrong, where some are.
    pub lines: Option<LineRange>,
    /// The words in them that are wrong, where they can be pointed at.
    pub span: Option<Span>,
    /// The fault, in BuildKit's words if it has any.
    pub message: String,
    /// A hint, as `did you mean RUN?`.
    pub hint: Option<String>,
    /// The words as they are written, until they are found in the text.
    pub(crate) word: Option<FaultyWord>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultyWord {
    text: String,
    /// True if the last occurrence of the word is meant.
    last: bool,
}

fn suffix(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default()
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { lines: None, span: None, message: message.into(), hint: None, word: None }
    }

    /// The same, at `lines` unless it is known to be elsewhere.
    pub(crate) fn at(mut self, lines: LineRange) -> Self {
        self.lines.get_or_insert(lines);
        self
    }

    /// The same, about this word of the instruction unless a narrower one is known.
    pub(crate) fn word(mut self, text: impl Into<String>) -> Self {
        self.word.get_or_insert(FaultyWord { text: text.into(), last: false });
        self
    }

    /// The same, about the last place where the word stands.
    pub(crate) fn last_word(mut self, text: impl Into<String>) -> Self {
        self.word.get_or_insert(FaultyWord { text: text.into(), last: true });
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with a hint only where there is none yet.
    pub(crate) fn or_hint(mut self, hint: impl FnOnce() -> String) -> Self {
        self.hint.get_or_insert_with(hint);
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

    /// The same, with its words looked up in the text.
    pub(crate) fn located(mut self, source: &SourceFile) -> Self {
        if let (None, Some(lines), Some(word)) = (self.span, self.lines, self.word.take()) {
            self.span = source.find(lines, &word.text, word.last);
        }
        self
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
