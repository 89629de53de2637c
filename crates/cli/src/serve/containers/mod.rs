//! Containers for the Engine API, and for `docker run` without a service: the crate `containers` behind the engine's
//! trait.

mod api_error;
mod details;
mod host_machine;
mod processes;
mod spec;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::containers::{
    BindPolicy, Containers, Creation, ExecSettings, SourceImage, StopTime, UnpackOptions,
};
use ::engine::{
    ApiError, ArchiveWriter, AttachQuery, ConsoleSize, ContainerDetails, ContainerEngine,
    ContainerExit, ContainerId, ContainerIdentity, ContainerSize, ContainerStreams, ContainerWait,
    CopyIn, CreateContainer, CreatedContainer, Events, ExecDetails, ExecId, ExecSpec, LogLine,
    LogQuery, PathChange, PathStat, ProcessRow, RemoveContainer, SignalNumber, Sizes, StateChange,
    StopRequest, StopTimeout, Upload, WaitCondition,
};
use async_trait::async_trait;
use build::images::{self, Kept};
use oci::{Config, Platform};
use tokio::sync::mpsc;

use super::ServeError;
use super::api_error::{failed, image_error};
use super::blocking::blocking;
use super::resources::Resources;
use super::stopping::Activity;
use crate::args::isolation_or_setting;
use crate::machine;
use crate::render::Report;
use crate::settings::{Environment, Settings};
use api_error::answer;
use host_machine::HostMachine;

/// The containers of this machine.
pub(crate) struct LocalContainers {
    containers: Containers,
    resources: Arc<Resources>,
}

/// The containers of the root for commands of the user's own, without a service.
///
/// # Errors
/// If the root cannot be used.
pub(crate) fn of_user(
    settings: &Settings,
    environment: &Environment,
) -> Result<LocalContainers, Report> {
    let wanted = isolation_or_setting(None, settings)?;
    let privilege = machine::rise_for(settings, wanted);
    let resources = Resources::of_user(settings, environment, &privilege, wanted)?;
    let (events, activity) = (Events::default(), Activity::default());
    let opened = LocalContainers::open(Arc::new(resources), &Grants::Own, events, activity);
    Ok(opened.map_err(ServeError::from)?)
}

/// The rights that callers have on containers.
#[derive(Clone, Debug)]
pub(crate) enum Grants {
    /// A service's: what these folders have may be bound.
    Service(Vec<PathBuf>),
    /// The user's own, without a service.
    Own,
}

impl LocalContainers {
    /// Opens the containers of the root.
    ///
    /// # Errors
    /// If the root cannot be read, or a folder cannot be granted.
    pub(super) fn open(
        resources: Arc<Resources>,
        grants: &Grants,
        events: Events,
        activity: Activity,
    ) -> Result<Self, ::containers::Error> {
        let root = &resources.settings.root;
        let binds = match grants {
            Grants::Service(folders) => BindPolicy::granting(folders, root)?,
            Grants::Own => BindPolicy::Own { root: root.clone() },
        };
        let store = resources.open_store();
        let folder = store
            .map_err(|error| ::containers::Error::Machine(Box::new(error)))?
            .containers_folder();
        let machine = HostMachine::new(resources.clone(), events, activity);
        let containers = Containers::open(folder, binds, Arc::new(machine))?;
        Ok(Self { containers, resources })
    }

    /// Stops all containers that run.
    pub(crate) async fn shut_down(&self, time: Duration) {
        self.containers.shut_down(time).await;
    }

    /// Refuses the rights of a container that are not granted here.
    fn check_rights(&self, privileged: bool) -> Result<(), ApiError> {
        if !privileged || self.resources.allows_insecure {
            return Ok(());
        }
        Err(ApiError::BadRequest(
            "`--privileged` is not granted: `kiln serve --allow-insecure-entitlement=security.insecure` gives \
             containers all rights of the service"
                .into(),
        ))
    }

    /// The image of a new container.
    async fn image(&self, name: &str, platform: Option<&str>) -> Result<SourceImage, ApiError> {
        let platform = platform
            .filter(|text| !text.is_empty())
            .map(str::parse::<Platform>)
            .transpose()
            .map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let (resources, name) = (self.resources.clone(), name.to_owned());
        blocking(move || {
            let found = images::look_up(&resources.store()?, &name).map_err(image_error)?;
            source_image(name, found.image, platform.as_ref())
        })
        .await
    }

    async fn details(
        &self,
        record: ::containers::ContainerRecord,
        sizes: Sizes,
    ) -> Result<ContainerDetails, ApiError> {
        let size = match sizes {
            Sizes::Counted => {
                let sizes = self.containers.sizes(&record.id).await.map_err(answer)?;
                Some(ContainerSize { changed: sizes.changed, whole: sizes.whole })
            }
            Sizes::Left => None,
        };
        let (pid, execs) = (self.containers.pid(&record.id), self.containers.execs(&record.id));
        let execs = execs.into_iter().map(|exec| ExecId(exec.to_string())).collect();
        Ok(ContainerDetails { size, execs, ..details::of(&record, pid) })
    }
}

/// The image of a platform among those under a name.
fn source_image(
    name: String,
    image: Kept,
    platform: Option<&Platform>,
) -> Result<SourceImage, ApiError> {
    let id = image.id.to_string();
    let source = |config: Config, layers| SourceImage { name: name.clone(), id, config, layers };
    let Some(wanted) = platform else { return Ok(source(image.config.config, image.layers)) };
    if image.images.is_empty() && image.config.platform().serves(wanted) {
        return Ok(source(image.config.config, image.layers));
    }
    let listed = image.images.into_iter().find(|image| image.platform.serves(wanted));
    match listed {
        Some(listed) => Ok(source(listed.config.config, listed.layers)),
        // Clients pull the image of that platform then.
        None => Err(ApiError::NotFound(format!(
            "No such image: image with reference {name} was found but its platform does not match the specified \
             platform: {wanted}"
        ))),
    }
}

/// Does some work to its end, even if the client that asked for it vanishes: half of a start would end the container.
async fn through<T: Send + 'static>(
    work: impl Future<Output = Result<T, ::containers::Error>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(answer),
        Err(error) => Err(failed(error)),
    }
}

fn own_id(id: &ContainerId) -> Result<::containers::ContainerId, ApiError> {
    let parsed = ::containers::ContainerId::parse(&id.0);
    parsed.ok_or_else(|| ApiError::NotFound(format!("No such container: {id}")))
}

fn own_exec(id: &ExecId) -> Result<::containers::ContainerId, ApiError> {
    let parsed = ::containers::ContainerId::parse(&id.0);
    parsed.ok_or_else(|| ApiError::NotFound(format!("No such exec instance: {id}")))
}

fn changed(is_changed: bool) -> StateChange {
    if is_changed { StateChange::Changed } else { StateChange::Unchanged }
}

fn stop_time(request: StopRequest) -> StopTime {
    match request.timeout {
        None => StopTime::Own,
        Some(StopTimeout::After(time)) => StopTime::After(time),
        Some(StopTimeout::Never) => StopTime::Forever,
    }
}

#[async_trait]
impl ContainerEngine for LocalContainers {
    async fn find(&self, name: &str) -> Result<ContainerIdentity, ApiError> {
        let (containers, name) = (self.containers.clone(), name.to_owned());
        let record = blocking(move || containers.find(&name).map_err(answer)).await?;
        Ok(details::identity(&record))
    }

    async fn create(&self, request: CreateContainer) -> Result<CreatedContainer, ApiError> {
        let CreateContainer { name, platform, spec } = request;
        let name = name.as_deref().map(::containers::ContainerName::parse).transpose();
        let name = name.map_err(answer)?;
        self.check_rights(spec.host.privileged)?;
        let image = self.image(&spec.image, platform.as_deref()).await?;
        let annotation = serde_json::to_value(&spec).map_err(failed)?;
        let process = spec::process(&spec, &image.config);
        let host = spec::host(&spec);
        let creation = Creation { name, image, process, host, annotation };
        let record = self.containers.create(creation).await.map_err(answer)?;
        let id = ContainerId(record.id.to_string());
        Ok(CreatedContainer { id, warnings: Vec::new() })
    }

    async fn list(&self, sizes: Sizes) -> Result<Vec<ContainerDetails>, ApiError> {
        let containers = self.containers.clone();
        let records = blocking(move || containers.list().map_err(answer)).await?;
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            match self.details(record, sizes).await {
                // It was removed meanwhile.
                Err(ApiError::NotFound(_)) => {}
                found => all.push(found?),
            }
        }
        Ok(all)
    }

    async fn inspect(&self, id: &ContainerId, sizes: Sizes) -> Result<ContainerDetails, ApiError> {
        let record = self.containers.get(&own_id(id)?).map_err(answer)?;
        self.details(record, sizes).await
    }

    async fn start(&self, id: &ContainerId) -> Result<StateChange, ApiError> {
        let id = own_id(id)?;
        let record = self.containers.get(&id).map_err(answer)?;
        // It may have been made where more is granted.
        self.check_rights(record.host.privileged)?;
        let size = spec::kept(&record).console_size.map(streams::size);
        let containers = self.containers.clone();
        through(async move { containers.start(&id, size).await }).await.map(changed)
    }

    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<StateChange, ApiError> {
        let signal = request.signal.map(SignalNumber::number);
        let (containers, id) = (self.containers.clone(), own_id(id)?);
        let stopped =
            through(async move { containers.stop(&id, signal, stop_time(request)).await });
        stopped.await.map(changed)
    }

    async fn restart(&self, id: &ContainerId, request: StopRequest) -> Result<(), ApiError> {
        self.stop(id, request).await?;
        self.start(id).await.map(drop)
    }

    async fn kill(&self, id: &ContainerId, signal: SignalNumber) -> Result<(), ApiError> {
        self.containers.kill(&own_id(id)?, signal.number()).await.map_err(answer)
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), ApiError> {
        let name = ::containers::ContainerName::parse(name).map_err(answer)?;
        self.containers.rename(&own_id(id)?, name).await.map_err(answer)
    }

    async fn remove(&self, id: &ContainerId, request: RemoveContainer) -> Result<(), ApiError> {
        let (containers, id) = (self.containers.clone(), own_id(id)?);
        through(async move { containers.remove(&id, request.force).await }).await
    }

    async fn wait(
        &self,
        id: &ContainerId,
        condition: WaitCondition,
    ) -> Result<ContainerWait, ApiError> {
        let until = match condition {
            WaitCondition::NotRunning => ::containers::WaitFor::NotRunning,
            WaitCondition::NextExit => ::containers::WaitFor::NextExit,
            WaitCondition::Removed => ::containers::WaitFor::Removed,
        };
        let ended = self.containers.wait(&own_id(id)?, until).map_err(answer)?;
        Ok(Box::pin(async move {
            let ::containers::Ended { code, error } = ended.await;
            Ok(ContainerExit { code, error })
        }))
    }

    async fn attach(
        &self,
        id: &ContainerId,
        query: AttachQuery,
    ) -> Result<ContainerStreams, ApiError> {
        let id = own_id(id)?;
        let record = self.containers.get(&id).map_err(answer)?;
        let attachment = self.containers.attach(&id, streams::selection(query)).map_err(answer)?;
        Ok(streams::of(attachment, record.process.tty))
    }

    async fn logs(
        &self,
        id: &ContainerId,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ApiError> {
        let lines = self.containers.logs(&own_id(id)?, streams::lines(query)).map_err(answer)?;
        Ok(streams::mapped(lines, streams::log_line))
    }

    async fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessRow>, ApiError> {
        let pids = self.containers.processes(&own_id(id)?).map_err(answer)?;
        blocking(move || Ok(processes::rows(&pids))).await
    }

    async fn changes(&self, id: &ContainerId) -> Result<Vec<PathChange>, ApiError> {
        let changes = self.containers.changes(&own_id(id)?).await.map_err(answer)?;
        Ok(changes.into_iter().map(details::change).collect())
    }

    async fn export(&self, id: &ContainerId, out: ArchiveWriter) -> Result<(), ApiError> {
        self.containers.export(&own_id(id)?, out).await.map_err(answer)
    }

    async fn stat_path(&self, id: &ContainerId, path: &str) -> Result<PathStat, ApiError> {
        let facts = self.containers.facts(&own_id(id)?, path).await.map_err(answer)?;
        Ok(details::path_stat(facts))
    }

    async fn copy_out(
        &self,
        id: &ContainerId,
        path: &str,
        out: ArchiveWriter,
    ) -> Result<(), ApiError> {
        self.containers.copy_out(&own_id(id)?, path, out).await.map_err(answer)
    }

    async fn copy_in(
        &self,
        id: &ContainerId,
        request: CopyIn,
        archive: Upload,
    ) -> Result<(), ApiError> {
        self.unpack(id, request, archive).await
    }

    async fn resize(&self, id: &ContainerId, size: ConsoleSize) -> Result<(), ApiError> {
        self.containers.resize(&own_id(id)?, streams::size(size)).await.map_err(answer)
    }

    async fn create_exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<ExecId, ApiError> {
        if spec.privileged {
            return Err(ApiError::BadRequest(
                "`docker exec --privileged` is not supported: a command has the rights of its container".into(),
            ));
        }
        let settings = ExecSettings {
            args: spec.args,
            env: spec.env,
            working_dir: spec.working_dir,
            user: spec.user,
            tty: spec.terminal,
            streams: streams::all(spec.stdin, spec.stdout, spec.stderr),
        };
        let exec = self.containers.create_exec(&own_id(id)?, settings).map_err(answer)?;
        Ok(ExecId(exec.to_string()))
    }

    async fn start_exec(
        &self,
        exec: &ExecId,
        size: Option<ConsoleSize>,
    ) -> Result<ContainerStreams, ApiError> {
        let id = own_exec(exec)?;
        let is_terminal = self.containers.exec(&id).map_err(answer)?.settings.tty;
        let started = self.containers.start_exec(&id, size.map(streams::size)).await;
        Ok(streams::of(started.map_err(answer)?, is_terminal))
    }

    async fn inspect_exec(&self, exec: &ExecId) -> Result<ExecDetails, ApiError> {
        Ok(details::exec(self.containers.exec(&own_exec(exec)?).map_err(answer)?))
    }

    async fn resize_exec(&self, exec: &ExecId, size: ConsoleSize) -> Result<(), ApiError> {
        self.containers.resize_exec(&own_exec(exec)?, streams::size(size)).await.map_err(answer)
    }
}

impl LocalContainers {
    /// Unpacks an archive from anywhere in a folder of a container.
    ///
    /// # Errors
    /// Those of [`ContainerEngine::copy_in`].
    pub(crate) async fn unpack(
        &self,
        id: &ContainerId,
        request: CopyIn,
        archive: impl std::io::Read + Send + 'static,
    ) -> Result<(), ApiError> {
        let options = UnpackOptions {
            path: request.path,
            keeps_kinds: request.no_overwrite,
            owner_is_user: request.owner_is_user,
        };
        let (containers, id) = (self.containers.clone(), own_id(id)?);
        through(async move { containers.copy_in(&id, options, archive).await }).await
    }

    /// Writes a path of a container as an archive to anywhere.
    ///
    /// # Errors
    /// Those of [`ContainerEngine::copy_out`].
    pub(crate) async fn pack(
        &self,
        id: &ContainerId,
        path: &str,
        out: impl std::io::Write + Send + 'static,
    ) -> Result<(), ApiError> {
        self.containers.copy_out(&own_id(id)?, path, out).await.map_err(answer)
    }
}
