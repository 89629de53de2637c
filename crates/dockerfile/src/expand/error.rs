//! The faults in quotes and variables.

use super::MOST;
use crate::glob::InvalidEscape;

/// A fault in the quotes or variables of a text, in BuildKit's words (`frontend/dockerfile/shell`).
#[derive(Debug, thiserror::Error)]
pub(super) enum WordError {
    #[error("unexpected end of statement while looking for matching single-quote")]
    OpenSingleQuote,
    #[error("unexpected end of statement while looking for matching double-quote")]
    OpenDoubleQuote,
    #[error("unexpected end of statement while looking for matching {stop}")]
    Unfinished { stop: char },
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({colon}{modifier}) in substitution")]
    UnsupportedModifier { colon: &'static str, modifier: char },
    #[error("invalid pattern ({pattern}) in substitution: {source}")]
    InvalidPattern { pattern: String, source: InvalidEscape },
    #[error("{name}: is not allowed to be unset")]
    Unset { name: String },
    #[error("{name}: is not allowed to be empty")]
    Empty { name: String },
    /// The message of the Dockerfile, from `${name:?message}`.
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("the text grows to more than {} MiB", MOST >> 20)]
    TooLong,
}

impl WordError {
    /// `modifier` is none at the end of the text.
    pub(super) fn unsupported(colon: &'static str, modifier: Option<char>) -> Self {
        Self::UnsupportedModifier { colon, modifier: modifier.unwrap_or('\u{fffd}') }
    }

    /// The valid form to suggest.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::OpenSingleQuote | Self::OpenDoubleQuote => {
                Some("close the quote, or put the escape character in front of it")
            }
            Self::MissingBrace
            | Self::MissingSlash
            | Self::BadSubstitution
            | Self::UnsupportedModifier { .. } => Some(
                "the forms are ${V}, ${V:-word}, ${V:+word}, ${V:?message}, ${V#pattern}, \
                 ${V%pattern} and ${V/pattern/word}",
            ),
            Self::InvalidPattern { .. } => {
                Some("patterns have `*`, `?`, and `\\` in front of these")
            }
            Self::Unfinished { .. }
            | Self::Unset { .. }
            | Self::Empty { .. }
            | Self::Required { .. }
            | Self::TooLong => None,
        }
    }
}
