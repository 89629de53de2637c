//! Errors of definitions: a kind, and the locations that lead to it.

use std::fmt;
use std::io;

use serde_json::Value;

use crate::csv::CsvError;
use crate::dotenv::DotenvError;
use crate::quantity::QuantityError;
use crate::substitute::SubstituteError;

/// A definition that cannot be read, evaluated or resolved.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    /// An error in a part of a definition.
    #[error("{location}: {source}")]
    In {
        /// The part.
        location: Location,
        /// The error.
        source: Box<BakeError>,
    },
    /// Text that is not HCL. The message has the line and an excerpt.
    #[error("{0}")]
    Hcl(#[source] Box<hcl::Error>),
    /// Text that is not JSON. The message has the line and column.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Text that is not YAML. The message has the line and column.
    #[error("{0}")]
    Yaml(#[from] yaml::YamlError),
    /// A file of variables with an error.
    #[error("{0}")]
    Dotenv(#[from] DotenvError),
    /// A text of a compose file whose variables cannot be substituted.
    #[error("{0}")]
    Substitute(#[from] SubstituteError),
    /// A compound value with a misplaced quote.
    #[error("{0}")]
    Csv(#[from] CsvError),
    /// A text that is no size or duration.
    #[error("{0}")]
    Quantity(#[from] QuantityError),
    /// A file that cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A value of another type.
    #[error("{value} is no {wanted}")]
    Type {
        /// The value in backticks; of a list or map, which can hold secrets, only that it is one.
        value: String,
        /// The type that is needed.
        wanted: &'static str,
    },
    /// A name that is not defined.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// The kind of thing: a variable, an attribute …
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A target or group that is not defined.
    #[error("there is no {kind} `{name}`; there are {known}")]
    NoTarget {
        /// A target, a group or target, or a target like a pattern.
        kind: &'static str,
        /// The name or pattern.
        name: String,
        /// Some of the names that are defined.
        known: String,
    },
    /// A definition that refers to itself.
    #[error("{0} stands on itself")]
    Cycle(String),
    /// Targets that inherit from each other.
    #[error("targets inherit from each other: {0}")]
    InheritanceCycle(String),
    /// A function that does not exist.
    #[error(
        "there is no such function here; put its value into a variable, and set that in the environment"
    )]
    NoFunction,
    /// A function with fewer arguments than it needs.
    #[error("it takes more than {0} arguments")]
    TooFewArguments(usize),
    /// A division by zero.
    #[error("it divides by zero")]
    DivisionByZero,
    /// A limit that definitions have no reason to reach.
    #[error("{0}")]
    Limit(&'static str),
    /// Any other contradiction or value out of range, as a sentence.
    #[error("{0}")]
    Invalid(String),
}

impl BakeError {
    /// The error with the part of the definition that it is in.
    #[must_use]
    pub fn within(self, location: Location) -> Self {
        Self::In { location, source: Box::new(self) }
    }

    /// A value of another type.
    pub(crate) fn wrong_type(value: &Value, wanted: &'static str) -> Self {
        Self::Type { value: shown(value), wanted }
    }

    /// A text that cannot be read as something else.
    pub(crate) fn wrong_text(text: impl fmt::Display, wanted: &'static str) -> Self {
        Self::Type { value: format!("`{text}`"), wanted }
    }
}

impl From<hcl::Error> for BakeError {
    fn from(error: hcl::Error) -> Self {
        Self::Hcl(Box::new(error))
    }
}

/// A value for a message. Lists and maps are not written out: they are long, and can hold secrets.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a map".into(),
        scalar => format!("`{scalar}`"),
    }
}

/// A part of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file of the command line.
    File(String),
    /// A file that another one names.
    Reading(String),
    /// A target.
    Target(String),
    /// A group.
    Group(String),
    /// A service of a compose file.
    Service(String),
    /// A variable.
    Variable(String),
    /// An attribute, a function's name, or a path of keys.
    Key(String),
    /// A flag without its value, which can be a secret.
    Flag(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) | Self::Key(name) | Self::Flag(name) => write!(f, "`{name}`"),
            Self::Reading(path) => write!(f, "reading `{path}`"),
            Self::Target(name) => write!(f, "target `{name}`"),
            Self::Group(name) => write!(f, "group `{name}`"),
            Self::Service(name) => write!(f, "service `{name}`"),
            Self::Variable(name) => write!(f, "variable `{name}`"),
        }
    }
}

/// Adds a location to the error of a result.
pub(crate) trait Within<T> {
    /// The same result, its error with a location.
    fn within(self, location: impl FnOnce() -> Location) -> Result<T, BakeError>;
}

impl<T, E: Into<BakeError>> Within<T> for Result<T, E> {
    fn within(self, location: impl FnOnce() -> Location) -> Result<T, BakeError> {
        self.map_err(|error| error.into().within(location()))
    }
}

/// [`BakeError::Invalid`] with a formatted sentence.
macro_rules! invalid {
    ($($part:tt)*) => { $crate::BakeError::Invalid(format!($($part)*)) };
}
pub(crate) use invalid;
