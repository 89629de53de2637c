//! BuildKit's API: builds of its clients, on the same code as kiln's own commands.
//!
//! A client's options become flags of a build ([`request`]), its folders, secrets and logins are
//! asked of its session ([`client`]), and its outputs are made here and sent to it ([`outputs`]).
//! No path of this machine is read or written for it but those of kiln's root.

mod blobs;
mod client;
mod inputs;
mod listing;
mod outputs;
mod question;
mod request;

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use ::engine::{BuildKit, Connection};
use async_trait::async_trait;
use build::{FilesOptions, FolderOutput, Outcome, Output, Request, Session};
use graph::Events;
use oci::{Digest, Platform};
use registry::DockerConfig;
use service::{
    Answer, BoxFuture, Builder, Built, Contexts, Daemon, DaemonSettings, PruneOptions,
    ResultFolder, SessionHeaders, Solve, SolveError, TransferLimits, UsageFilter, UsageRecord,
    WorkerInfo,
};
use tokio::sync::Semaphore;

use super::ServeError;
use super::api_error::for_client;
use super::blocking::{WorkError, blocking, on_thread};
use super::resources::Resources;
use client::SessionLogins;
use inputs::Inputs;
use outputs::Outputs;
use request::HeldFolders;
pub(super) use request::say_notes;

/// BuildKit's API on this machine.
pub(super) struct Bridge {
    daemon: Arc<Daemon>,
    builder: LocalBuilder,
}

impl Bridge {
    /// The API, with its state in kiln's root.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub(super) fn open(resources: Arc<Resources>) -> Result<Self, ServeError> {
        let folder = resources.settings.root.join("v1/service");
        let builder = LocalBuilder::open(resources, &folder).map_err(ServeError::Contexts)?;
        let settings = DaemonSettings { history: folder.join("history") };
        let daemon = Daemon::new(Arc::new(builder.clone()), &settings)?;
        Ok(Self { daemon: Arc::new(daemon), builder })
    }

    /// The API with other resources, whose builds begin with these notes. Its state is the same.
    pub(super) fn with(&self, resources: Arc<Resources>, notes: Vec<String>) -> Self {
        let builder = LocalBuilder { resources, notes: notes.into(), ..self.builder.clone() };
        let daemon = Arc::new(self.daemon.with_builder(Arc::new(builder.clone())));
        Self { daemon, builder }
    }

    /// The daemon, for builds that come in another way.
    pub(super) fn daemon(&self) -> Arc<Daemon> {
        self.daemon.clone()
    }
}

#[async_trait]
impl BuildKit for Bridge {
    async fn serve(&self, connection: Box<dyn Connection>) {
        if let Err(error) = service::serve(connection, self.daemon.clone()).await {
            tracing::debug!(error = oci::chain_text(&error), "a connection ended");
        }
    }

    async fn session(&self, connection: Box<dyn Connection>, headers: ::engine::SessionHeaders) {
        let methods = headers.methods.iter().map(String::as_str);
        let held = match SessionHeaders::new(&headers.uuid, &headers.shared_key, methods) {
            Ok(headers) => self.daemon.sessions().serve(connection, headers).await,
            Err(error) => Err(error),
        };
        if let Err(error) = held {
            tracing::debug!(error = oci::chain_text(&error), "a session was refused");
        }
    }
}

/// Builds for clients of BuildKit's API.
#[derive(Clone)]
pub(super) struct LocalBuilder {
    resources: Arc<Resources>,
    contexts: Contexts,
    inputs: Inputs,
    /// Builds that may run at once; others wait.
    turns: Arc<Semaphore>,
    /// Sentences about inputs without effect that each build begins with.
    notes: Arc<[String]>,
}

/// Builds that run at once. Each has a thread that may block, and needs others for its steps.
const MOST_BUILDS: usize = 64;

impl LocalBuilder {
    fn open(resources: Arc<Resources>, folder: &Path) -> std::io::Result<Self> {
        let contexts = Contexts::open(&folder.join("contexts"), TransferLimits::default())?;
        let turns = Arc::new(Semaphore::new(MOST_BUILDS));
        let (inputs, notes) = (Inputs::default(), Arc::default());
        Ok(Self { resources, contexts, inputs, turns, notes })
    }

    /// Runs a build on a thread of its own when there is a turn for it.
    async fn in_turn<T, F>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, SolveError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SolveError>>,
    {
        let _turn = self.turns.acquire().await.map_err(failed)?;
        on_thread(work).await
    }

    /// A session for one build, with the logins of its client and no others.
    fn session(&self, solve: &Solve) -> Result<Session, SolveError> {
        let logins = match &solve.session {
            Some(session) => DockerConfig::of_source(Arc::new(SessionLogins(session.clone()))),
            None => DockerConfig::default(),
        };
        self.resources.session_with(logins).map_err(failed)
    }

    /// Prepares a solve for its build.
    async fn prepare(
        &self,
        solve: &Arc<Solve>,
        events: &Events,
    ) -> Result<PreparedSolve, SolveError> {
        let session = self.session(solve)?;
        let outputs = Outputs::open(solve, session.store())?;
        let (request, held) = self.request(solve, &session, &outputs, events).await?;
        Ok(PreparedSolve { _held: held, request, outputs, session })
    }

    /// Prepares a solve whose result alone is wanted: its outputs and cache exports are made by its own build.
    async fn prepare_result(
        &self,
        solve: &Solve,
        events: &Events,
    ) -> Result<PreparedSolve, SolveError> {
        let solve = Solve { exporters: Vec::new(), cache_exports: Vec::new(), ..solve.clone() };
        self.prepare(&Arc::new(solve), events).await
    }

    async fn build_here(self, solve: Arc<Solve>, events: Events) -> Result<Built, SolveError> {
        let prepared = self.prepare(&solve, &events).await?;
        let PreparedSolve { request, outputs, session, .. } = &prepared;
        let outcome = build::build(session, request, &events).await;
        self.resources.collect(session.store());
        let outcome = outcome.map_err(build_error)?;
        outputs.deliver(&solve, &outcome, &events).await?;
        let contexts = self.contexts.clone();
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = contexts.collect() {
                tracing::debug!(%error, "contexts that were kept for too long stay");
            }
        }));
        Ok(Built { response: outputs::response(&outcome), images: outputs.images(&outcome) })
    }

    /// The files of a result, in a folder.
    async fn files_here(
        self,
        solve: Arc<Solve>,
        events: Events,
    ) -> Result<ResultFolder, SolveError> {
        let mut prepared = self.prepare_result(&solve, &events).await?;
        let store = prepared.session.store().clone();
        let scratch = store.scratch_folder().map_err(failed)?;
        let path = scratch.path().join("files");
        prepared.request.outputs = vec![Output::Local(FolderOutput {
            folder: path.clone(),
            delete: false,
            files: FilesOptions::default(),
        })];
        prepared.build(&events).await?;
        // The folder goes with the store that it was made in.
        Ok(ResultFolder { path, hold: Arc::new((scratch, store)) })
    }
}

/// A solve that can be built.
struct PreparedSolve {
    _held: HeldFolders,
    request: Request,
    outputs: Outputs,
    session: Session,
}

impl PreparedSolve {
    async fn build(&self, events: &Events) -> Result<Outcome, SolveError> {
        build::build(&self.session, &self.request, events).await.map_err(build_error)
    }
}

impl Builder for LocalBuilder {
    fn build(&self, solve: Arc<Solve>, events: Events) -> BoxFuture<'_, Result<Built, SolveError>> {
        let builder = self.clone();
        Box::pin(self.in_turn(move || builder.build_here(solve, events)))
    }

    fn ask(
        &self,
        solve: Arc<Solve>,
        events: Events,
    ) -> BoxFuture<'_, Result<Option<Answer>, SolveError>> {
        let builder = self.clone();
        Box::pin(async move {
            if solve.frontend.attributes.get("requestid").is_none_or(String::is_empty) {
                return Ok(None);
            }
            self.in_turn(move || builder.answer(solve, events)).await.map(Some)
        })
    }

    fn files(
        &self,
        solve: Arc<Solve>,
        events: Events,
    ) -> BoxFuture<'_, Result<ResultFolder, SolveError>> {
        let builder = self.clone();
        Box::pin(self.in_turn(move || builder.files_here(solve, events)))
    }

    fn worker(&self) -> WorkerInfo {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let label = |name: &str, value: &str| {
            (format!("org.mobyproject.buildkit.worker.{name}"), value.to_owned())
        };
        let labels = [
            label("executor", "kiln"),
            label("hostname", &host),
            label("network", "host"),
            label("oci.process-mode", "sandbox"),
            // With it buildx' docker driver exports caches, several platforms and archives.
            label("snapshotter", "kiln"),
        ];
        WorkerInfo {
            id: "kiln".into(),
            labels: BTreeMap::from(labels),
            platforms: vec![Platform::host()],
            version: crate::personalities::buildctl::VERSION.into(),
            revision: "kiln".into(),
        }
    }

    fn usage(&self, filter: UsageFilter) -> BoxFuture<'_, Result<Vec<UsageRecord>, SolveError>> {
        let (resources, contexts) = (self.resources.clone(), self.contexts.clone());
        Box::pin(blocking(move || {
            listing::usage(&resources.store().map_err(failed)?, &contexts, &filter)
        }))
    }

    fn prune(&self, options: PruneOptions) -> BoxFuture<'_, Result<Vec<UsageRecord>, SolveError>> {
        let (resources, contexts) = (self.resources.clone(), self.contexts.clone());
        Box::pin(blocking(move || {
            listing::prune(&resources.store().map_err(failed)?, &contexts, &options)
        }))
    }

    fn blob(&self, digest: &Digest) -> Option<File> {
        self.resources.store().ok()?.open_blob(digest).ok()
    }
}

impl From<WorkError> for SolveError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Join(error) => failed(error),
            // BuildKit's words.
            WorkError::Canceled => Self::new("context canceled"),
        }
    }
}

/// A failure of this machine.
fn failed(error: impl std::error::Error + 'static) -> SolveError {
    SolveError::new(for_client(&oci::chain_text(&error)))
}

/// A failed build, with its lines.
fn build_error(error: build::Error) -> SolveError {
    let report = crate::commands::failure::report(error);
    let message = for_client(&report.message_and_hint());
    let lines = report.excerpt.map(|excerpt| service::ErrorSource {
        filename: excerpt.source.name.to_string(),
        text: excerpt.source.text.clone(),
        lines: (excerpt.lines.first, excerpt.lines.last),
    });
    SolveError { lines, ..SolveError::new(message) }
}
