//! Bake files (HCL or JSON) and compose files: from their texts to targets, without building.
//!
//! Receives the texts of files, the environment and the command line's overrides as data, and a
//! [`Files`] that reads what compose files name (`include`, `extends`, `env_file`, `.env`). Hands
//! over [`Target`]s, and the JSON of `--print`.
//!
//! [`Definitions::load`] evaluates the files, [`Definitions::resolve`] chooses targets, merges
//! them with those that they inherit from, and applies overrides. Expressions are HCL's
//! (`expression`), functions are those of bake's library (`functions`), one file a family.
//!
//! No disk except by [`Files`], no network, no environment of the process; only the functions
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

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub use definitions::{Definitions, FileFormat, Listed};
pub use error::{BakeError, Location};
pub use overrides::OverrideFlags;
pub use resolve::Resolved;
pub use target::{Options, Target};

/// The largest file, in bytes.
pub const MAX_FILE_SIZE: usize = 4 << 20;

/// Everything that decides what files say.
#[derive(Default)]
pub struct Inputs {
    /// The files, in the order in which they are merged.
    pub files: Vec<SourceFile>,
    /// `--var`.
    pub variables: BTreeMap<String, String>,
    /// The caller's environment.
    pub environment: BTreeMap<String, String>,
}

/// A bake or compose file.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name, which decides its format where it has a telling extension.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The files that compose files name. Paths are relative to the folder that bake runs in.
pub trait Files {
    /// The text of a file; `None` if there is no such file, or it is a folder.
    ///
    /// # Errors
    /// If the file cannot be read, is not UTF-8, or is larger than [`MAX_FILE_SIZE`].
    fn read(&self, path: &Path) -> io::Result<Option<String>>;
}

/// No files at all.
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// True if a variable of the environment is set, and neither `0` nor `false`.
fn is_on(environment: &BTreeMap<String, String>, name: &str) -> bool {
    environment.get(name).is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}
