//! Bake files (HCL or JSON) and compose files: from their texts to targets, without building.
//!
//! Receives the texts of files, the environment and the command line's overrides as data, and a
//! [`ProjectFiles`] that reads what compose files name (`include`, `extends`, `env_file`, `.env`). Hands
//! over [`Target`]s, and the JSON of `--print`.
//!
//! [`Definitions::load`] evaluates the files, [`Definitions::resolve`] chooses targets, merges
//! them with those that they inherit from, and applies overrides. Expressions are HCL's
//! (`expression`), functions are those of bake's library (`functions`), one file a family.
//!
//! No disk except by [`ProjectFiles`], no network, no environment of the process; only the functions
//! `timestamp` and `uuidv4` ask the machine for something, a time and random bytes. Files may be
//! hostile: evaluation has limits on nesting, steps and sizes.

#![forbid(unsafe_code)]

mod budget;
mod compose;
pub mod csv;
mod definition;
mod definitions;
pub mod dotenv;
mod error;
mod expression;
mod functions;
mod inputs;
mod matrix;
mod overrides;
mod pattern;
mod print;
pub mod quantity;
mod resolve;
pub mod substitute;
mod target;
#[cfg(test)]
mod tests;
mod value;

pub use definitions::{Definitions, FileFormat, ListRow};
pub use error::{BakeError, Location};
pub use inputs::{DefinitionFile, Inputs, MAX_FILE_SIZE, NoFiles, ProjectFiles};
pub use overrides::OverrideFlags;
pub use resolve::Resolved;
pub use target::{Options, Target};
