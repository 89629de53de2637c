//! Errors in a command line, of kiln or of another tool.

use std::fmt::Display;

use crate::render::CommandError;

/// An error in a command line. Its text names the flag and holds no value that is secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// The tool has no such flag.
    #[error("unknown flag: {flag}{}", .near.map(|near| format!("; there is `--{near}`")).unwrap_or_default())]
    Unknown {
        /// The flag as it was typed.
        flag: String,
        /// The name of a flag that looks like it.
        near: Option<&'static str>,
    },
    /// The value of the last flag is missing.
    #[error("`{0}` needs a value")]
    NoValue(String),
    /// A flag has a value that it cannot have.
    #[error("`{flag}`: {reason}")]
    BadValue {
        /// The flag, with its value where that is short and not secret.
        flag: String,
        /// The reason.
        reason: String,
    },
    /// A flag asks for something that kiln does not do.
    #[error("`{flag}`: {reason}")]
    Refused {
        /// The flag, with its value where the value is what is refused.
        flag: String,
        /// The reason, and what works instead.
        reason: String,
    },
    /// A flag is needed and was not given.
    #[error("`{flag}` is missing: {hint}")]
    Missing {
        /// The flag.
        flag: String,
        /// The value to give.
        hint: String,
    },
    /// A flag needs another one.
    #[error("`{flag}` needs `{other}`{reason}")]
    Requires {
        /// The flag.
        flag: String,
        /// The other one.
        other: &'static str,
        /// The end of the sentence.
        reason: &'static str,
    },
    /// Two flags contradict each other.
    #[error("`{0}` and `{1}` cannot be used together")]
    Together(String, &'static str),
    /// Flags or operands that are wrong as a whole, with a sentence that names them.
    #[error("{0}")]
    Usage(String),
}

impl FlagError {
    /// A value that a flag cannot have.
    pub fn bad(flag: impl Into<String>, reason: impl Display) -> Self {
        Self::BadValue { flag: flag.into(), reason: reason.to_string() }
    }

    /// A flag that asks for what kiln does not do.
    pub fn refused(flag: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { flag: flag.into(), reason: reason.into() }
    }

    /// An error whose text names the flags already.
    pub fn whole(error: impl Display) -> Self {
        Self::Usage(error.to_string())
    }

    /// True if the tool has no such flag, which has its own exit code in some tools.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

impl CommandError for FlagError {}

/// A value that is refused while clap reads it. clap names the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A text that is not a truth value.
    #[error("it is neither true nor false")]
    NotABoolean,
    /// A text that is not an age.
    #[error("it is not an age, as 30d, 12h or 2w")]
    NotAnAge,
}

/// Adds the name of a flag to an error in its value.
pub trait InFlag<T> {
    /// Converts an error into one of the flag.
    ///
    /// # Errors
    /// If `self` is an error.
    fn in_flag(self, flag: &str) -> Result<T, FlagError>;
}

impl<T, E: Display> InFlag<T> for Result<T, E> {
    fn in_flag(self, flag: &str) -> Result<T, FlagError> {
        self.map_err(|error| FlagError::bad(flag, error))
    }
}
