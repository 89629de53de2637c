//! The state that all connections share.

use std::path::PathBuf;
use std::sync::Arc;

use crate::builder::Builder;
use crate::builds::Builds;
use crate::handle::Results;
use crate::history::{History, HistoryError};
use crate::session::Sessions;

/// The settings of a daemon.
#[derive(Clone, Debug)]
pub struct DaemonSettings {
    /// The folder of the records of builds.
    pub history: PathBuf,
}

/// The state that all connections share: builder, sessions, running builds, records of builds.
pub struct Daemon {
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) sessions: Sessions,
    pub(crate) builds: Builds,
    pub(crate) results: Results,
    pub(crate) history: Arc<History>,
}

impl Daemon {
    /// A daemon that builds with `builder`.
    ///
    /// # Errors
    /// If the records of builds cannot be read.
    pub fn new(builder: Arc<dyn Builder>, settings: &DaemonSettings) -> Result<Self, HistoryError> {
        Ok(Self {
            builder,
            sessions: Sessions::default(),
            builds: Builds::default(),
            results: Results::default(),
            history: Arc::new(History::open(&settings.history)?),
        })
    }

    /// A daemon with another builder. Sessions, running builds and records are the same.
    pub fn with_builder(&self, builder: Arc<dyn Builder>) -> Self {
        Self {
            builder,
            sessions: self.sessions.clone(),
            builds: self.builds.clone(),
            results: self.results.clone(),
            history: self.history.clone(),
        }
    }

    /// The open sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The builder.
    pub fn builder(&self) -> &Arc<dyn Builder> {
        &self.builder
    }

    /// The number of builds that run.
    pub fn running(&self) -> usize {
        self.builds.running()
    }
}
