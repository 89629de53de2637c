//! One builder container: its properties, its life, its log and the commands in it.

use std::sync::Arc;
use std::time::SystemTime;

use ::engine::{
    ApiError, BuildKit, ContainerDetails, ContainerId, ContainerIdentity, ContainerSize,
    ContainerSpec, ContainerState, ContainerStatus, ExecDetails, ExecId, ExecSpec, LogLine,
    OutputStream, Sizes,
};
use store::{ScratchFolder, Store};
use tokio::sync::watch;

use super::files::BuilderFiles;
use super::own_image;
use super::request::BuilderRequest;

/// The most lines of a log; what comes after them is left out.
const MOST_LINES: usize = 1000;
/// The most commands that are remembered.
const MOST_EXECS: usize = 512;
/// The commands that have ended and are remembered.
const ENDED_EXECS: usize = 32;

/// A builder container.
pub(super) struct BuilderContainer {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) spec: ContainerSpec,
    pub(super) request: BuilderRequest,
    pub(super) files: BuilderFiles,
    created: SystemTime,
    running: Option<RunningBuilder>,
    started: Option<SystemTime>,
    finished: Option<SystemTime>,
    /// The reason why its last start failed.
    error: String,
    log: Vec<LogLine>,
    execs: Vec<BuilderExec>,
    moment: watch::Sender<Moment>,
}

/// A moment in the life of a container, for those who wait for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) is_running: bool,
    /// The times that it has ended.
    pub(super) ends: u64,
    /// The exit code of its last end.
    pub(super) exit_code: i32,
    /// The lines of its log.
    pub(super) lines: usize,
}

/// Properties that a container has while it runs.
pub(super) struct RunningBuilder {
    /// BuildKit's API with the registries of this container.
    pub(super) buildkit: Arc<dyn BuildKit>,
    /// Lines for the log.
    pub(super) lines: Vec<String>,
    /// The folder with its files.
    pub(super) _folder: Option<PlacedFiles>,
    /// Dropped with this, which ends its connections.
    pub(super) alive: watch::Sender<()>,
}

/// The folder of a container's files. It goes with the store that it was made in.
pub(super) struct PlacedFiles {
    pub(super) _folder: ScratchFolder,
    pub(super) _store: Store,
}

/// A command in a container.
#[derive(Clone, Debug)]
pub(super) struct BuilderExec {
    pub(super) id: ExecId,
    pub(super) spec: ExecSpec,
    state: ExecState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExecState {
    Created,
    Running,
    Ended(i32),
}

impl BuilderContainer {
    pub(super) fn new(
        id: ContainerId,
        name: String,
        spec: ContainerSpec,
        request: BuilderRequest,
    ) -> Self {
        let program = vec!["buildkitd".to_owned()];
        let spec = ContainerSpec { entrypoint: Some(program), ..spec };
        Self {
            id,
            name,
            spec,
            request,
            files: BuilderFiles::default(),
            created: SystemTime::now(),
            running: None,
            started: None,
            finished: None,
            error: String::new(),
            log: Vec::new(),
            execs: Vec::new(),
            moment: watch::Sender::default(),
        }
    }

    pub(super) fn identity(&self) -> ContainerIdentity {
        ContainerIdentity {
            id: self.id.clone(),
            name: self.name.clone(),
            image: self.spec.image.clone(),
            labels: self.spec.labels.clone(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Its properties while it runs.
    ///
    /// # Errors
    /// If it does not run.
    pub(super) fn running(&self) -> Result<&RunningBuilder, ApiError> {
        let message = || format!("container {} is not running", self.id);
        self.running.as_ref().ok_or_else(|| ApiError::Conflict(message()))
    }

    /// The present, and what comes after it.
    pub(super) fn moments(&self) -> watch::Receiver<Moment> {
        self.moment.subscribe()
    }

    fn change(&mut self, change: impl FnOnce(&mut Moment)) {
        let lines = self.log.len();
        self.moment.send_modify(|moment| {
            change(moment);
            moment.lines = lines;
        });
    }

    /// Adds lines to the log.
    pub(super) fn say(&mut self, lines: impl IntoIterator<Item = String>) {
        let room = MOST_LINES.saturating_sub(self.log.len());
        let line = |text: String| LogLine {
            time: SystemTime::now(),
            stream: OutputStream::Stderr,
            bytes: (text + "\n").into(),
        };
        self.log.extend(lines.into_iter().take(room).map(line));
        self.change(|_| {});
    }

    /// The lines of the log after the first ones.
    pub(super) fn lines_from(&self, first: usize) -> &[LogLine] {
        self.log.get(first..).unwrap_or_default()
    }

    /// Begins to run.
    pub(super) fn begin(&mut self, mut running: RunningBuilder) {
        let lines = std::mem::take(&mut running.lines);
        self.running = Some(running);
        (self.started, self.error) = (Some(SystemTime::now()), String::new());
        self.change(|moment| moment.is_running = true);
        self.say(lines);
    }

    /// Keeps the reason of a start that failed.
    pub(super) fn fail(&mut self, error: &ApiError) {
        self.error = error.to_string();
        self.say([format!("ERROR: {error}")]);
    }

    /// Ends; false if it did not run. Its connections end with it.
    pub(super) fn end(&mut self, exit_code: i32) -> bool {
        let Some(running) = self.running.take() else { return false };
        drop(running);
        self.finished = Some(SystemTime::now());
        self.change(|moment| {
            *moment = Moment { is_running: false, ends: moment.ends + 1, exit_code, ..*moment };
        });
        true
    }

    pub(super) fn details(&self, sizes: Sizes) -> ContainerDetails {
        let running = self.execs.iter().filter(|exec| exec.state == ExecState::Running);
        ContainerDetails {
            id: self.id.clone(),
            name: self.name.clone(),
            image_id: own_image::id(&self.spec.image),
            created: self.created,
            spec: self.spec.clone(),
            state: self.state(),
            execs: running.map(|exec| exec.id.clone()).collect(),
            size: (sizes == Sizes::Counted).then(ContainerSize::default),
        }
    }

    fn state(&self) -> ContainerState {
        let status = match (self.is_running(), self.finished) {
            (true, _) => ContainerStatus::Running,
            (false, Some(_)) => ContainerStatus::Exited,
            (false, None) => ContainerStatus::Created,
        };
        ContainerState {
            status,
            exit_code: self.moment.borrow().exit_code,
            error: self.error.clone(),
            pid: self.is_running().then(own_pid),
            started: self.started,
            finished: self.finished,
        }
    }

    /// Adds a command.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn add_exec(&mut self, id: ExecId, spec: ExecSpec) -> Result<(), ApiError> {
        while self.execs.len() >= MOST_EXECS {
            let idle = self.execs.iter().position(|exec| exec.state != ExecState::Running);
            let message = || format!("{MOST_EXECS} commands run in this container");
            self.execs.remove(idle.ok_or_else(|| ApiError::Unavailable(message()))?);
        }
        self.execs.push(BuilderExec { id, spec, state: ExecState::Created });
        Ok(())
    }

    pub(super) fn exec(&self, id: &ExecId) -> Option<&BuilderExec> {
        self.execs.iter().find(|exec| exec.id == *id)
    }

    /// Begins a command.
    ///
    /// # Errors
    /// If it has begun before, or there is none.
    pub(super) fn begin_exec(&mut self, id: &ExecId) -> Result<ExecSpec, ApiError> {
        let exec = self.execs.iter_mut().find(|exec| exec.id == *id).ok_or_else(|| no_exec(id))?;
        if exec.state != ExecState::Created {
            return Err(ApiError::Conflict(format!("exec command {id} has already run")));
        }
        exec.state = ExecState::Running;
        Ok(exec.spec.clone())
    }

    /// Ends a command, and forgets old ones.
    pub(super) fn end_exec(&mut self, id: &ExecId, exit_code: i32) {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.id == *id) {
            exec.state = ExecState::Ended(exit_code);
        }
        let has_ended = |exec: &BuilderExec| matches!(exec.state, ExecState::Ended(_));
        let mut extra = self.execs.iter().filter(|exec| has_ended(exec)).count();
        extra = extra.saturating_sub(ENDED_EXECS);
        self.execs.retain(|exec| {
            let goes = extra > 0 && has_ended(exec);
            extra -= usize::from(goes);
            !goes
        });
    }

    pub(super) fn exec_details(&self, exec: &BuilderExec) -> ExecDetails {
        let is_running = exec.state == ExecState::Running;
        ExecDetails {
            id: exec.id.clone(),
            container: self.id.clone(),
            spec: exec.spec.clone(),
            running: is_running,
            exit_code: match exec.state {
                ExecState::Ended(code) => Some(code),
                _ => None,
            },
            pid: is_running.then(own_pid),
        }
    }
}

pub(super) fn no_exec(id: &ExecId) -> ApiError {
    ApiError::NotFound(format!("No such exec instance: {id}"))
}

/// The only process there is.
pub(super) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or_default()
}
