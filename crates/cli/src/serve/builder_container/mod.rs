//! Builder containers: what buildx' docker-container driver makes of BuildKit's image, and reaches by `docker exec`.
//!
//! There is no process and no image. Such a container is kiln itself: a name, an ID, the files that were copied into it
//! (`buildkitd.toml` with certificates) and a log. `buildctl dial-stdio` in it reaches the service's own BuildKit API,
//! with the registries of that `buildkitd.toml`. It lives as long as the service.
//!
//! [`BuilderContainers`] stands in front of the other containers: what is none of its own it hands on.

mod commands;
mod container;
mod files;
pub(super) mod own_image;
mod request;
mod stream;
mod table;

use std::sync::Arc;

use ::engine::{
    ApiError, ArchiveWriter, AttachQuery, BuildKit, CommitRequest, ConsoleSize, ContainerDetails,
    ContainerEngine, ContainerId, ContainerIdentity, ContainerStreams, ContainerWait, CopyIn,
    CreateContainer, CreatedContainer, Events, ExecDetails, ExecId, ExecSpec, LogLine, LogQuery,
    OutputPiece, OutputStream, PathChange, PathStat, ProcessRow, RemoveContainer, SignalNumber,
    Sizes, StateChange, StopRequest, Upload, WaitCondition,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::api_error::failed;
use super::blocking::blocking;
use super::buildkit::Bridge;
use super::resources::Resources;
use commands::{BuilderCommand, PrintedCommand};
use container::{BuilderContainer, PlacedFiles, RunningBuilder, own_pid};
use files::{BuilderFileError, BuilderFiles};
use request::BuilderRequest;
use stream::StdioConnection;
use table::{BuilderTable, KILLED, fresh_id};

pub(super) use request::is_buildkit_image;

/// The folder in which files say what provenance is to have.
const PROVENANCE: &str = "/etc/buildkit/provenance.d";

/// The parts of the service that builder containers use.
#[derive(Clone)]
pub(super) struct BuilderHost {
    /// The resources of the service.
    pub(super) resources: Arc<Resources>,
    /// BuildKit's API.
    pub(super) bridge: Arc<Bridge>,
    /// Listeners for events.
    pub(super) events: Events,
}

/// Builder containers, in front of all others.
pub(super) struct BuilderContainers {
    host: BuilderHost,
    table: Arc<BuilderTable>,
    others: Arc<dyn ContainerEngine>,
}

impl BuilderHost {
    /// Prepares a container to run. Blocks.
    fn run(
        &self,
        request: &BuilderRequest,
        files: &BuilderFiles,
    ) -> Result<RunningBuilder, ApiError> {
        let mut lines = vec![format!(
            "kiln {} is the BuildKit of this container: builds, cache and sessions are those of the service",
            env!("CARGO_PKG_VERSION")
        )];
        if files.has_folder(PROVENANCE) {
            lines.push(format!("`{PROVENANCE}`: nothing is added to provenance"));
        }
        let mut notes = request.notes.clone();
        let (folder, resources) = match self.registries(request, files, &mut notes)? {
            Some((folder, resources)) => (Some(folder), Arc::new(resources)),
            None => (None, self.resources.clone()),
        };
        lines.extend(notes.iter().map(|note| format!("WARNING: {note}")));
        let buildkit: Arc<dyn BuildKit> = if folder.is_none() && notes.is_empty() {
            self.bridge.clone()
        } else {
            Arc::new(self.bridge.with(resources, notes))
        };
        Ok(RunningBuilder { buildkit, lines, _folder: folder, alive: watch::Sender::default() })
    }

    /// The resources with the registries of `buildkitd.toml`, if there is one.
    fn registries(
        &self,
        request: &BuilderRequest,
        files: &BuilderFiles,
        notes: &mut Vec<String>,
    ) -> Result<Option<(PlacedFiles, Resources)>, ApiError> {
        if files.is_empty() && request.config.is_none() {
            return Ok(None);
        }
        let store = self.resources.store()?;
        let folder = store.scratch_folder().map_err(failed)?;
        let config = files.config(request.config.as_deref(), folder.path()).map_err(file_error)?;
        let Some(config) = config else { return Ok(None) };
        files.write(folder.path()).map_err(file_error)?;
        if let others @ [_, ..] = config.others().as_slice() {
            let others = others.join("`, `");
            notes.push(format!("`{others}` of buildkitd.toml: only its registries have an effect"));
        }
        let resources = self.resources.with_registries(&config).map_err(failed)?;
        Ok(Some((PlacedFiles { _folder: folder, _store: store }, resources)))
    }
}

fn file_error(error: BuilderFileError) -> ApiError {
    match error {
        BuilderFileError::Elsewhere(_) => ApiError::NotImplemented(error.to_string()),
        BuilderFileError::TooMuch => ApiError::TooLarge(error.to_string()),
        BuilderFileError::Write(_) => ApiError::Server(error.to_string()),
        error => ApiError::BadRequest(error.to_string()),
    }
}

/// The refusal of what only a container with a root can do.
fn no_root(what: &str) -> ApiError {
    ApiError::NotImplemented(format!(
        "{what}: this container is kiln itself, and has no files but those that were copied into it"
    ))
}

impl BuilderContainers {
    /// No builder containers yet, in front of the others.
    pub(super) fn new(host: BuilderHost, others: Arc<dyn ContainerEngine>) -> Self {
        let table = Arc::new(BuilderTable::new(host.events.clone()));
        Self { host, table, others }
    }

    /// The other containers, for one of them; none if the container is a builder.
    fn other(&self, id: &ContainerId) -> Option<&dyn ContainerEngine> {
        (!self.table.has(id)).then_some(&*self.others)
    }

    /// The other containers, for a command in one of them; none if it is in a builder.
    fn other_exec(&self, id: &ExecId) -> Option<&dyn ContainerEngine> {
        (!self.table.has_exec(id)).then_some(&*self.others)
    }

    /// Makes a builder container.
    async fn create_builder(&self, request: CreateContainer) -> Result<CreatedContainer, ApiError> {
        let id = ContainerId(fresh_id()?);
        let name = request.name.unwrap_or_else(|| format!("buildkit_{}", &id.0[..12]));
        if let Ok(other) = self.others.find(&name).await
            && other.name == name
        {
            return Err(table::name_taken(&name, &other.id));
        }
        let read = request::read(&request.spec)?;
        let warnings = read.notes.clone();
        self.table.add(BuilderContainer::new(id.clone(), name, request.spec, read))?;
        Ok(CreatedContainer { id, warnings })
    }

    async fn start_builder(&self, id: &ContainerId) -> Result<StateChange, ApiError> {
        let idle = |container: &mut BuilderContainer| {
            let parts = (container.request.clone(), container.files.clone());
            Ok((!container.is_running()).then_some(parts))
        };
        let Some((request, files)) = self.table.with(id, idle)? else {
            return Ok(StateChange::Unchanged);
        };
        let host = self.host.clone();
        let running = blocking(move || host.run(&request, &files)).await;
        self.table.started(id, running)
    }

    /// Starts a command in a builder container.
    fn start_builder_exec(&self, exec: &ExecId) -> Result<ContainerStreams, ApiError> {
        let (spec, buildkit, mut alive) = self.table.with_exec(exec, |container| {
            let running = container.running()?;
            let (buildkit, alive) = (running.buildkit.clone(), running.alive.subscribe());
            Ok((container.begin_exec(exec)?, buildkit, alive))
        })?;
        let worker = || self.host.bridge.daemon().builder().worker();
        match commands::read(&spec.args, worker) {
            BuilderCommand::Printed(printed) => {
                let streams = print(&printed, spec.terminal);
                self.table.exec_ended(exec, printed.exit_code);
                Ok(streams)
            }
            BuilderCommand::DialStdio => {
                let (connection, streams) = StdioConnection::pair();
                let (table, exec) = (self.table.clone(), exec.clone());
                tokio::spawn(async move {
                    let exit_code = tokio::select! {
                        () = buildkit.serve(Box::new(connection)) => 0,
                        // The container was stopped.
                        _ = alive.changed() => KILLED,
                    };
                    table.exec_ended(&exec, exit_code);
                });
                Ok(streams)
            }
        }
    }

    async fn copy_into_builder(
        &self,
        id: &ContainerId,
        request: CopyIn,
        archive: Upload,
    ) -> Result<(), ApiError> {
        let files = self.table.with(id, |container| Ok(container.files.clone()))?;
        let unpack = move || files.with_archive(&request.path, archive).map_err(file_error);
        let files = blocking(unpack).await?;
        self.table.with(id, |container| {
            container.files = files;
            if container.is_running() {
                container
                    .say(["files that were copied in count from the next start on".to_owned()]);
            }
            Ok(())
        })
    }

    fn stat_in_builder(&self, id: &ContainerId, path: &str) -> Result<PathStat, ApiError> {
        const FOLDER: u32 = 0o40755;
        const FILE: u32 = 0o100_644;
        let clean = graph::clean_path(&format!("/{path}"));
        let (files, modified) = self.table.with(id, |container| {
            let details = container.details(Sizes::Left);
            Ok((container.files.clone(), details.created))
        })?;
        let (size, mode) = match files.size(&clean) {
            Some(size) => (size, FILE),
            None if files.has_folder(&clean) => (0, FOLDER),
            None => {
                let message = format!("Could not find the file {path} in container {id}");
                return Err(ApiError::NotFound(message));
            }
        };
        let name = clean.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(PathStat { name, size, mode, modified, link_target: String::new() })
    }
}

/// The streams of a command that has ended.
fn print(printed: &PrintedCommand, terminal: bool) -> ContainerStreams {
    let texts = [(OutputStream::Stdout, &printed.stdout), (OutputStream::Stderr, &printed.stderr)];
    let (sender, output) = mpsc::channel(texts.len());
    for (stream, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        let bytes = Bytes::from(text.clone());
        // There is room for all.
        let _ = sender.try_send(OutputPiece { stream, bytes });
    }
    ContainerStreams { input: None, output, terminal }
}

/// Hands a request about a container on, or does it for a builder.
macro_rules! other_or {
    ($self:ident.$method:ident($id:expr $(, $argument:expr)*), $own:expr) => {
        match $self.other($id) {
            Some(others) => others.$method($id $(, $argument)*).await,
            None => $own,
        }
    };
}

#[async_trait]
impl ContainerEngine for BuilderContainers {
    async fn find(&self, name: &str) -> Result<ContainerIdentity, ApiError> {
        if let Some(found) = self.table.find(name) {
            return Ok(found);
        }
        self.others.find(name).await
    }

    fn is_builder(&self, name: Option<&str>, image: &str) -> bool {
        request::is_builder(name, image)
    }

    async fn create(&self, request: CreateContainer) -> Result<CreatedContainer, ApiError> {
        if request::is_builder(request.name.as_deref(), &request.spec.image) {
            return self.create_builder(request).await;
        }
        if let Some(name) = &request.name
            && let Some(own) = self.table.find(name).filter(|own| own.name == *name)
        {
            return Err(table::name_taken(name, &own.id));
        }
        self.others.create(request).await
    }

    async fn list(&self, sizes: Sizes) -> Result<Vec<ContainerDetails>, ApiError> {
        let mut all = self.table.list(sizes);
        all.extend(self.others.list(sizes).await?);
        Ok(all)
    }

    async fn inspect(&self, id: &ContainerId, sizes: Sizes) -> Result<ContainerDetails, ApiError> {
        other_or!(self.inspect(id, sizes), self.table.with(id, |one| Ok(one.details(sizes))))
    }

    async fn start(&self, id: &ContainerId) -> Result<StateChange, ApiError> {
        other_or!(self.start(id), self.start_builder(id).await)
    }

    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<StateChange, ApiError> {
        other_or!(self.stop(id, request), self.table.end(id, 0))
    }

    async fn restart(&self, id: &ContainerId, request: StopRequest) -> Result<(), ApiError> {
        other_or!(self.restart(id, request), {
            self.table.end(id, 0)?;
            self.start_builder(id).await.map(drop)
        })
    }

    async fn kill(&self, id: &ContainerId, signal: SignalNumber) -> Result<(), ApiError> {
        other_or!(self.kill(id, signal), {
            self.table.with(id, |one| one.running().map(drop))?;
            let exit_code = if signal == SignalNumber::KILL { KILLED } else { 0 };
            self.table.end(id, exit_code).map(drop)
        })
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), ApiError> {
        other_or!(self.rename(id, name), self.table.rename(id, name))
    }

    async fn remove(&self, id: &ContainerId, request: RemoveContainer) -> Result<(), ApiError> {
        other_or!(self.remove(id, request), self.table.remove(id, request))
    }

    async fn wait(
        &self,
        id: &ContainerId,
        condition: WaitCondition,
    ) -> Result<ContainerWait, ApiError> {
        other_or!(self.wait(id, condition), self.table.wait(id, condition))
    }

    async fn attach(
        &self,
        id: &ContainerId,
        query: AttachQuery,
    ) -> Result<ContainerStreams, ApiError> {
        other_or!(self.attach(id, query), self.table.attach(id, query))
    }

    async fn logs(
        &self,
        id: &ContainerId,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ApiError> {
        other_or!(self.logs(id, query), self.table.logs(id, query))
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessRow>, ApiError> {
        other_or!(self.processes(id), {
            self.table.with(id, |one| one.running().map(drop))?;
            let (user, command) = ("root".to_owned(), "buildkitd (kiln serve)".to_owned());
            let row = ProcessRow { user, pid: own_pid(), command, ..ProcessRow::default() };
            Ok(vec![row])
        })
    }

    async fn changes(&self, id: &ContainerId) -> Result<Vec<PathChange>, ApiError> {
        other_or!(self.changes(id), Ok(Vec::new()))
    }

    async fn export(&self, id: &ContainerId, out: ArchiveWriter) -> Result<(), ApiError> {
        other_or!(self.export(id, out), Err(no_root("export")))
    }

    async fn stat_path(&self, id: &ContainerId, path: &str) -> Result<PathStat, ApiError> {
        other_or!(self.stat_path(id, path), self.stat_in_builder(id, path))
    }

    async fn copy_out(
        &self,
        id: &ContainerId,
        path: &str,
        out: ArchiveWriter,
    ) -> Result<(), ApiError> {
        other_or!(self.copy_out(id, path, out), Err(no_root(path)))
    }

    async fn copy_in(
        &self,
        id: &ContainerId,
        request: CopyIn,
        archive: Upload,
    ) -> Result<(), ApiError> {
        other_or!(
            self.copy_in(id, request, archive),
            self.copy_into_builder(id, request, archive).await
        )
    }

    async fn resize(&self, id: &ContainerId, size: ConsoleSize) -> Result<(), ApiError> {
        other_or!(self.resize(id, size), Ok(()))
    }

    async fn create_exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<ExecId, ApiError> {
        other_or!(self.create_exec(id, spec), {
            let exec = ExecId(fresh_id()?);
            self.table.with(id, |container| {
                container.running()?;
                container.add_exec(exec.clone(), spec)
            })?;
            Ok(exec)
        })
    }

    async fn start_exec(
        &self,
        exec: &ExecId,
        size: Option<ConsoleSize>,
    ) -> Result<ContainerStreams, ApiError> {
        match self.other_exec(exec) {
            Some(others) => others.start_exec(exec, size).await,
            None => self.start_builder_exec(exec),
        }
    }

    async fn inspect_exec(&self, exec: &ExecId) -> Result<ExecDetails, ApiError> {
        match self.other_exec(exec) {
            Some(others) => others.inspect_exec(exec).await,
            None => self.table.inspect_exec(exec),
        }
    }

    async fn resize_exec(&self, exec: &ExecId, size: ConsoleSize) -> Result<(), ApiError> {
        match self.other_exec(exec) {
            Some(others) => others.resize_exec(exec, size).await,
            None => Ok(()),
        }
    }

    async fn commit(&self, id: &ContainerId, request: CommitRequest) -> Result<String, ApiError> {
        other_or!(self.commit(id, request), Err(no_root("commit")))
    }
}
