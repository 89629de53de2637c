//! Why a text cannot be read.

use saphyr_parser::ScanError;

use crate::limits::{MAX_SIZE, MAX_VALUES};

/// A text that cannot be read as YAML.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// A text beyond the largest size.
    #[error("it is larger than {} MiB", MAX_SIZE >> 20)]
    TooLarge,
    /// A syntax error.
    #[error("{0}")]
    Syntax(#[from] ScanError),
    /// Nesting beyond the limit.
    #[error("it is nested too deep")]
    TooDeep,
    /// More values than the limit, for example by nested aliases.
    #[error("it has more than {MAX_VALUES} values")]
    TooManyValues,
    /// A key that is a list or a map.
    #[error("`{0}` is no key")]
    Key(String),
    /// A duplicate key.
    #[error("the key `{0}` is there twice")]
    DuplicateKey(String),
    /// A merge key whose value is not a map or a list of maps.
    #[error("`<<` merges maps, and this is none")]
    Merge,
    /// A scalar that does not have the type of its tag.
    #[error("`{text}` is no `{tag}`")]
    Tag {
        /// The tag.
        tag: String,
        /// The scalar as it is written.
        text: String,
    },
    /// A scalar without a counterpart in JSON: infinity or not a number.
    #[error("`{0}` is no value")]
    Value(String),
    /// An alias without an anchor, or within its own anchor.
    #[error("an alias has no value")]
    Alias,
}
