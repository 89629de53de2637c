//! What variables of compose files stand for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::rc::Rc;

use crate::personalities::bake::dotenv;
use crate::personalities::bake::substitute::{Lookup, Unset};
use crate::settings::Environment;

/// The variable that has the project's name.
pub const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// Variables of a project, and those of a file that it includes on top of them.
#[derive(Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
    unset: Rc<Unset>,
}

impl Variables {
    /// Variables of the environment, unless it is not to be asked, with those that are given on top.
    pub fn new(environment: &Environment, given: &BTreeMap<String, String>) -> Self {
        let is_off = environment.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP");
        let is_off = is_off.is_some_and(|value| !matches!(value, "0" | "false"));
        let mut values: BTreeMap<String, String> = match is_off {
            true => BTreeMap::new(),
            false => environment.all().map(|(name, value)| (name.into(), value.into())).collect(),
        };
        values.extend(given.clone());
        Self { values, unset: Rc::default() }
    }

    /// Says what a variable is, whatever it was.
    pub fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// Adds the variables of a text like `.env` that are not known yet.
    ///
    /// # Errors
    /// As [`dotenv::read`].
    pub fn add(&mut self, text: &str) -> Result<(), dotenv::DotenvError> {
        let mut read = BTreeMap::new();
        dotenv::read(text, self, &mut read, &self.unset)?;
        for (name, value) in read {
            self.values.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// Where names go that have no value.
    pub fn unset(&self) -> &Unset {
        &self.unset
    }
}

impl Lookup for Variables {
    fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}

/// The text of a file with variables; none where there is no such file, or it is a folder.
///
/// # Errors
/// If it cannot be read.
pub fn read_file(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if file.metadata()?.is_dir() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(dotenv::LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > dotenv::LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", dotenv::LARGEST >> 20)));
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| io::Error::other("it is not UTF-8"))
}
