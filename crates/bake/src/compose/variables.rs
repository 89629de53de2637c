//! The variables of compose files.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::dotenv::{self, DotenvError};
use crate::inputs::is_on;
use crate::substitute::{Lookup, Tally};

/// The variable that has the project's name.
pub const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// Variables of a project, and those of a file that it includes on top of them.
#[derive(Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
    tally: Rc<Tally>,
}

impl Variables {
    /// The variables of the environment, unless that is switched off, with the given ones on top.
    pub fn new(environment: &BTreeMap<String, String>, given: &BTreeMap<String, String>) -> Self {
        let mut values = BTreeMap::new();
        if !is_on(environment, "BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP") {
            values.clone_from(environment);
        }
        values.extend(given.clone());
        Self { values, tally: Rc::default() }
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// Adds the variables of a `.env` text that have no value yet.
    ///
    /// # Errors
    /// The errors of [`dotenv::read`].
    pub fn add(&mut self, text: &str) -> Result<(), DotenvError> {
        let mut read = BTreeMap::new();
        dotenv::read(text, self, &mut read, &self.tally)?;
        for (name, value) in read {
            self.values.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// The tally of substitutions so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Lookup for Variables {
    fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}
