//! A daemon as its flags and its file ask for it.

use std::path::PathBuf;

use crate::args::FlagError;
use crate::personalities::{Invocation, say_notes};
use crate::render::Report;
use crate::serve::{self, ServeOptions};
use crate::settings::{ClientProxies, Environment, Settings};

/// A daemon as its flags and its file ask for it.
#[derive(Debug, Default)]
pub struct ConfiguredDaemon {
    /// The service's options.
    pub options: ServeOptions,
    /// kiln's root.
    pub root: Option<PathBuf>,
    /// Mirrors of Docker Hub.
    pub mirrors: Vec<String>,
    /// Registries with plain HTTP or an unknown certificate.
    pub insecure: Vec<String>,
    /// Proxies that replace those of the environment.
    pub proxies: ClientProxies,
    /// True if it logs what it does.
    pub is_debug: bool,
    /// Sentences on flags and options without effect.
    pub notes: Vec<String>,
}

impl ConfiguredDaemon {
    /// Serves.
    ///
    /// # Errors
    /// If the service cannot start.
    pub fn run(self, invocation: &Invocation, environment: &Environment) -> Result<(), Report> {
        say_notes(&self.notes);
        crate::logging::start(environment, self.is_debug)?;
        let mut settings = invocation.settings(environment)?;
        self.apply(&mut settings, invocation.root.is_some())?;
        serve::run(&self.options, environment, &settings)
    }

    fn apply(&self, settings: &mut Settings, root_is_given: bool) -> Result<(), FlagError> {
        if let (Some(root), false) = (&self.root, root_is_given) {
            settings.root =
                std::path::absolute(root).map_err(|error| FlagError::bad("--data-root", error))?;
        }
        let mirrors = self
            .mirrors
            .iter()
            .map(|mirror| ("docker.io".to_owned(), mirror.trim_end_matches('/').to_owned()));
        settings.mirrors.extend(mirrors);
        let ClientProxies { http, https, all: _, no } = &self.proxies;
        let proxies = &mut settings.proxies;
        for (own, given) in [(&mut proxies.http, http), (&mut proxies.https, https)] {
            *own = given.clone().or(own.take());
        }
        proxies.no = no.clone().or(proxies.no.take());
        settings.insecure_registries.extend(self.insecure.iter().cloned());
        Ok(())
    }
}
