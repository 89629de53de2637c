//! The resources that all requests share: settings, the runtime, the client for registries.

use std::sync::Arc;

use ::engine::ApiError;
use build::images::{CollectPolicy, collect};
use build::{Host, Session};
use registry::{Client, Credentials, DockerConfig};
use runtime::ladder::Unavailable;
use runtime::{Privilege, Runtime, WantedIsolation};
use store::Store;

use super::ServeError;
use super::api_error::failed;
use crate::isolation;
use crate::machine::{self, MachineError};
use crate::settings::{BuildkitdConfig, Environment, Settings, collect_policy};

/// The resources that all requests share.
#[derive(Clone)]
pub(super) struct Resources {
    pub(super) settings: Settings,
    privilege: Privilege,
    runtime: Result<Arc<Runtime>, Unavailable>,
    /// The client of requests without credentials.
    anonymous: Client,
    /// The collection after builds.
    pub(super) policy: Option<CollectPolicy>,
    /// True if clients may have `security.insecure`.
    pub(super) allows_insecure: bool,
    /// True if the client's own logins count for each request.
    keeps_logins: bool,
}

impl Resources {
    /// Opens what requests share, and the store once, so that a root that cannot be used is said at once.
    pub(super) fn open(
        settings: &Settings,
        environment: &Environment,
        privilege: &Privilege,
        wanted: WantedIsolation,
    ) -> Result<Self, ServeError> {
        let store = machine::open_store(settings, privilege)?;
        let runtime = isolation::start(settings, store.privileges(), privilege, wanted)
            .map_err(|error| Unavailable::new(error.to_string()));
        let anonymous = machine::client_with(settings, DockerConfig::default())?;
        let policy = collect_policy(environment)?;
        let settings = settings.clone();
        Ok(Self {
            settings,
            privilege: privilege.clone(),
            runtime,
            anonymous,
            policy,
            allows_insecure: false,
            keeps_logins: false,
        })
    }

    /// The resources of a command of the user's own: with the logins of docker's files, and all rights.
    pub(super) fn of_user(
        settings: &Settings,
        environment: &Environment,
        privilege: &Privilege,
        wanted: WantedIsolation,
    ) -> Result<Self, ServeError> {
        let anonymous = machine::client(settings, environment)?;
        let own = Self::open(settings, environment, privilege, wanted)?;
        Ok(Self { anonymous, allows_insecure: true, keeps_logins: true, ..own })
    }

    /// The same resources with the registries of a `buildkitd.toml`, which count before the service's own.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub(super) fn with_registries(&self, config: &BuildkitdConfig) -> Result<Self, MachineError> {
        let mut settings = self.settings.clone();
        settings.mirrors.splice(0..0, config.mirrors());
        settings.registries.extend(config.registries());
        let anonymous = machine::client_with(&settings, DockerConfig::default())?;
        Ok(Self { settings, anonymous, ..self.clone() })
    }

    /// The line that names the isolation, unless it is the usual one; the reason if there is none.
    pub(super) fn isolation_line(&self, wanted: WantedIsolation) -> Option<String> {
        match &self.runtime {
            Ok(runtime) => isolation::line(runtime, wanted),
            Err(reason) => Some(format!("WARNING: no RUN is possible here: {reason}\n")),
        }
    }

    /// A store for one request: what the request uses stays until it ends.
    pub(super) fn store(&self) -> Result<Store, ApiError> {
        self.open_store().map_err(failed)
    }

    /// A store for one piece of work, as [`Resources::store`].
    pub(super) fn open_store(&self) -> Result<Store, MachineError> {
        machine::open_store(&self.settings, &self.privilege)
    }

    /// The runtime.
    pub(super) fn runtime(&self) -> Result<Arc<Runtime>, Unavailable> {
        self.runtime.clone()
    }

    /// A session for one build, with the logins of its client.
    pub(super) fn session_with(&self, logins: DockerConfig) -> Result<Session, ApiError> {
        Ok(self.session_over(self.store()?, self.anonymous.with_logins(logins)))
    }

    /// A client with the credentials of one request, and no others. What it learns of a registry, such as the
    /// blobs that are there, ends with the request.
    pub(super) fn client(&self, logins: impl IntoIterator<Item = (String, Credentials)>) -> Client {
        if self.keeps_logins {
            return self.anonymous.clone();
        }
        let config = logins.into_iter().fold(DockerConfig::default(), |config, (host, login)| {
            config.with_credentials(&host, login)
        });
        self.anonymous.with_logins(config)
    }

    /// A session for one build.
    pub(super) fn session(
        &self,
        logins: impl IntoIterator<Item = (String, Credentials)>,
    ) -> Result<Session, ApiError> {
        Ok(self.session_over(self.store()?, self.client(logins)))
    }

    fn session_over(&self, store: Store, client: Client) -> Session {
        Session::new(Host {
            store,
            client,
            runtime: self.runtime.clone(),
            engine: String::new(),
            verify_indexes: self.settings.verify_indexes,
        })
    }

    /// Collects what was not used for long, as after a build of `kiln build`.
    pub(super) fn collect(&self, store: &Store) {
        let Some(policy) = &self.policy else { return };
        if let Err(error) = collect(store, policy) {
            tracing::warn!(error = oci::chain_text(&error), "old build cache was not removed");
        }
    }
}
