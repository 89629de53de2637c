//! The texts and variables that decide what files say.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The largest file, in bytes.
pub const MAX_FILE_SIZE: usize = 4 << 20;

/// Everything that decides what files say.
#[derive(Default)]
pub struct Inputs {
    /// The files, in the order in which they are merged.
    pub files: Vec<DefinitionFile>,
    /// `--var`.
    pub variables: BTreeMap<String, String>,
    /// The caller's environment.
    pub environment: BTreeMap<String, String>,
}

/// A bake or compose file.
#[derive(Clone, Debug)]
pub struct DefinitionFile {
    /// Its name, which decides its format where it has a telling extension.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The files that compose files name. Paths are relative to the folder that bake runs in.
pub trait ProjectFiles {
    /// The text of a file; `None` if there is no such file, or it is a folder.
    ///
    /// # Errors
    /// If the file cannot be read, is not UTF-8, or is larger than [`MAX_FILE_SIZE`].
    fn read(&self, path: &Path) -> io::Result<Option<String>>;
}

/// No files at all.
pub struct NoFiles;

impl ProjectFiles for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// True if a variable of the environment is set, and neither `0` nor `false`.
pub(crate) fn is_on(environment: &BTreeMap<String, String>, name: &str) -> bool {
    environment.get(name).is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}
