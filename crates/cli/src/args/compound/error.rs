//! Errors in the value of a compound flag.

use std::borrow::Cow;
use std::io;

use bake::csv::CsvError;
use oci::{DigestError, PlatformError, ReferenceError};

use crate::render::CommandError;

/// An error in the value of a compound flag. Its text does not name the flag, which the caller
/// puts before it, and holds no value that is secret.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// The value cannot be cut into fields.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// A field has no `=`.
    #[error("`{0}` is not `key=value`")]
    NotAPair(String),
    /// A key that this kind of value does not have.
    #[error("`{key}` is not an option of {of}; it has {}", listed(.known))]
    Unknown {
        /// The key as it was written.
        key: String,
        /// The kind of value, such as `type=registry`.
        of: String,
        /// The keys that the kind has.
        known: Vec<&'static str>,
    },
    /// A required key is missing.
    #[error("`{of}` needs `{key}`{hint}")]
    Missing {
        /// The kind of value.
        of: String,
        /// The key.
        key: &'static str,
        /// The end of the sentence: an example, or another source of the value.
        hint: &'static str,
    },
    /// A key has a value that it cannot have.
    #[error("`{key}={value}`: expected {expected}")]
    Invalid {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The values that it can have.
        expected: Cow<'static, str>,
    },
    /// A text without a key that does not have the flag's form.
    #[error("`{text}`: expected {expected}")]
    Malformed {
        /// The text.
        text: String,
        /// The form that it should have.
        expected: Cow<'static, str>,
    },
    /// An unknown type, in the words of buildx.
    #[error("unknown {what} type `{name}`: expected {expected}")]
    UnknownType {
        /// The noun: `annotation`, `attestation`.
        what: &'static str,
        /// The type as it was written.
        name: String,
        /// The known types.
        expected: &'static str,
    },
    /// A kind of attestation that two flags ask for.
    #[error("duplicate attestation field {0}")]
    DuplicateAttestation(String),
    /// An option of BuildKit that kiln does not have.
    #[error("`{option}` is not supported yet{hint}")]
    NotSupported {
        /// The option, with its value where that matters.
        option: String,
        /// The end of the sentence: the option that works instead.
        hint: &'static str,
    },
    /// A refused option, with the reason.
    #[error("`{option}`: {reason}")]
    Refused {
        /// The option, with its value where that matters and is not secret.
        option: String,
        /// The reason.
        reason: Cow<'static, str>,
    },
    /// An option has a meaning only with another one.
    #[error("`{option}` needs `{other}`")]
    Requires {
        /// The option.
        option: &'static str,
        /// The other one.
        other: &'static str,
    },
    /// Two options contradict each other.
    #[error("`{0}` and `{1}` cannot be used together")]
    Together(Cow<'static, str>, Cow<'static, str>),
    /// A value that is unusable as a whole, with the reason.
    #[error("{0}")]
    Unusable(Cow<'static, str>),
    /// A file or folder cannot be read.
    #[error("{doing}: {source}")]
    Io {
        /// The action and its path.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// An invalid reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// An invalid platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// An invalid digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The sources of an ssh agent cannot be used.
    #[error("{0}")]
    Agent(String),
    /// The error is in a part of the value, or in one of several flags.
    #[error("`{part}`: {error}")]
    Within {
        /// The part or flag.
        part: String,
        /// Its error.
        error: Box<Self>,
    },
}

fn listed(keys: &[&str]) -> String {
    if keys.is_empty() { "no options".to_owned() } else { keys.join(", ") }
}

impl OptionError {
    /// An error in a part of the value.
    pub fn within(self, part: impl Into<String>) -> Self {
        Self::Within { part: part.into(), error: Box::new(self) }
    }

    /// An error for a key whose value is not one of several.
    pub fn invalid(
        key: impl Into<String>,
        value: impl Into<String>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid { key: key.into(), value: value.into(), expected: expected.into() }
    }

    /// An error for a text that does not have the flag's form.
    pub fn malformed(text: impl Into<String>, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { text: text.into(), expected: expected.into() }
    }

    /// An error for a required key.
    pub fn missing(of: impl Into<String>, key: &'static str, hint: &'static str) -> Self {
        Self::Missing { of: of.into(), key, hint }
    }

    /// A refusal with its reason.
    pub fn refused(option: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused { option: option.into(), reason: reason.into() }
    }

    /// A contradiction of two options.
    pub fn together(
        first: impl Into<Cow<'static, str>>,
        second: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Together(first.into(), second.into())
    }
}

impl CommandError for OptionError {}
