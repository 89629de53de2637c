//! The trait for containers in front of which the API stands, and its values.

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    ApiError, ArchiveWriter, ContainerDetails, ContainerExit, ContainerIdentity, ContainerSpec,
    ExecDetails, PathChange, PathStat, ProcessRow, SignalNumber, Upload,
};

/// The containers of a machine. Requests name a container as clients do; [`ContainerEngine::find`] makes an ID of
/// that, and everything else takes the ID.
///
/// A future that is dropped gives up its work, but never ends a container that was started. Events of what a request
/// does (`create`, `attach`, `rename`, …) are sent by the API; an implementation sends those of a container's life,
/// since they happen without a request: `start`, `die`, `destroy` and `exec_die`, by [`crate::Events`] and
/// [`crate::EngineEvent::container`].
#[async_trait]
pub trait ContainerEngine: Send + Sync + 'static {
    /// The container with this name, this ID, or an ID that begins so.
    ///
    /// # Errors
    /// `NotFound` (`No such container: NAME`), or `BadRequest` if several IDs begin so.
    async fn find(&self, name: &str) -> Result<ContainerIdentity, ApiError>;

    /// True for a container that is the service itself, as BuildKit: it needs no restart policy and no volume.
    fn is_builder(&self, name: Option<&str>, image: &str) -> bool {
        let (_, _) = (name, image);
        false
    }

    /// Makes a container and does not start it.
    ///
    /// # Errors
    /// `NotFound` (`No such image: NAME`, after which clients pull it and ask again), `Conflict` if the name is taken,
    /// `NotImplemented` for what the isolation of this machine does not allow.
    async fn create(&self, request: CreateContainer) -> Result<CreatedContainer, ApiError>;

    /// All containers, in any order. Filters are the API's.
    async fn list(&self, sizes: Sizes) -> Result<Vec<ContainerDetails>, ApiError>;

    /// One container.
    async fn inspect(&self, id: &ContainerId, sizes: Sizes) -> Result<ContainerDetails, ApiError>;

    /// Starts a container; returns once its command runs.
    ///
    /// # Errors
    /// `BadRequest` if the command cannot be run, with `executable file not found`, `no such file or directory` or
    /// `permission denied` in the text: clients make exit codes 127 and 126 of these words.
    async fn start(&self, id: &ContainerId) -> Result<StateChange, ApiError>;

    /// Stops a container: sends the signal, waits, kills.
    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<StateChange, ApiError>;

    /// Stops a container that runs, and starts it.
    async fn restart(&self, id: &ContainerId, request: StopRequest) -> Result<(), ApiError>;

    /// Sends a signal to the first process of a container.
    ///
    /// # Errors
    /// `Conflict` (`container ID is not running`).
    async fn kill(&self, id: &ContainerId, signal: SignalNumber) -> Result<(), ApiError>;

    /// Gives a container another name.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), ApiError>;

    /// Removes a container.
    ///
    /// # Errors
    /// `Conflict` if it runs and `force` is not set.
    async fn remove(&self, id: &ContainerId, request: RemoveContainer) -> Result<(), ApiError>;

    /// Begins to wait. When this returns, no change of the state after it is missed: clients wait first and start
    /// then.
    async fn wait(
        &self,
        id: &ContainerId,
        condition: WaitCondition,
    ) -> Result<ContainerWait, ApiError>;

    /// The streams of a container. One that does not run yet may be attached to: the streams begin with its start. The
    /// output ends when the container ends, and at once if it has ended and only old output was asked for.
    async fn attach(
        &self,
        id: &ContainerId,
        query: AttachQuery,
    ) -> Result<ContainerStreams, ApiError>;

    /// The lines of a container's output in the order in which they came, in a channel that ends with them.
    async fn logs(
        &self,
        id: &ContainerId,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ApiError>;

    /// The processes of a container.
    ///
    /// # Errors
    /// `Conflict` if it does not run.
    async fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessRow>, ApiError>;

    /// The paths that differ from the image.
    async fn changes(&self, id: &ContainerId) -> Result<Vec<PathChange>, ApiError>;

    /// Writes the whole file system as an archive.
    async fn export(&self, id: &ContainerId, out: ArchiveWriter) -> Result<(), ApiError>;

    /// Facts about a path in a container. The last part of the path is not followed if it is a link.
    ///
    /// # Errors
    /// `NotFound` (`Could not find the file PATH in container ID`).
    async fn stat_path(&self, id: &ContainerId, path: &str) -> Result<PathStat, ApiError>;

    /// Writes a path of a container as an archive, whose names begin with the last part of the path.
    async fn copy_out(
        &self,
        id: &ContainerId,
        path: &str,
        out: ArchiveWriter,
    ) -> Result<(), ApiError>;

    /// Unpacks an archive, compressed or not, in a folder of a container.
    async fn copy_in(
        &self,
        id: &ContainerId,
        request: CopyIn,
        archive: Upload,
    ) -> Result<(), ApiError>;

    /// Changes the size of a container's terminal.
    async fn resize(&self, id: &ContainerId, size: ConsoleSize) -> Result<(), ApiError>;

    /// Prepares a further command in a container that runs.
    ///
    /// # Errors
    /// `Conflict` (`container ID is not running`).
    async fn create_exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<ExecId, ApiError>;

    /// Starts a command, once. It goes on when its streams are dropped; without `input` it has no input.
    ///
    /// # Errors
    /// `NotFound` (`No such exec instance: ID`), `Conflict` if it was started, or its container does not run.
    async fn start_exec(
        &self,
        exec: &ExecId,
        size: Option<ConsoleSize>,
    ) -> Result<ContainerStreams, ApiError>;

    /// A command.
    async fn inspect_exec(&self, exec: &ExecId) -> Result<ExecDetails, ApiError>;

    /// Changes the size of a command's terminal.
    async fn resize_exec(&self, exec: &ExecId, size: ConsoleSize) -> Result<(), ApiError>;

    /// Makes an image of a container; returns its ID.
    async fn commit(&self, id: &ContainerId, request: CommitRequest) -> Result<String, ApiError> {
        let _ = (id, request);
        let message = "no images are made of containers: put what it does into a Dockerfile";
        Err(ApiError::NotImplemented(message.into()))
    }
}

/// A container's ID: 64 digits in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ID of a further command in a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecId(pub String);

impl fmt::Display for ExecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request to make a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateContainer {
    /// Its name; the implementation makes one up if there is none.
    pub name: Option<String>,
    /// The platform of its image; any that is there without one.
    pub platform: Option<String>,
    /// The container. What is unset is the image's.
    pub spec: ContainerSpec,
}

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedContainer {
    /// Its ID.
    pub id: ContainerId,
    /// Sentences that the client shows.
    pub warnings: Vec<String>,
}

/// Says if sizes are to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// They are.
    Counted,
    /// They are not.
    Left,
}

/// The effect of a request on a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// The state is another one now.
    Changed,
    /// It was so before.
    Unchanged,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopRequest {
    /// The signal; the container's, else SIGTERM.
    pub signal: Option<SignalNumber>,
    /// The time after which it is killed; the container's, else ten seconds.
    pub timeout: Option<StopTimeout>,
}

/// The time that a container has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopTimeout {
    /// It is killed then.
    After(Duration),
    /// It is not killed.
    Never,
}

/// A request to remove a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveContainer {
    /// A container that runs is killed.
    pub force: bool,
}

/// The event that a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run, or ceases to.
    NotRunning,
    /// It ceases to run, from now on.
    NextExit,
    /// It is removed.
    Removed,
}

/// A wait that has begun.
pub type ContainerWait = Pin<Box<dyn Future<Output = Result<ContainerExit, ApiError>> + Send>>;

/// The streams that a client attaches to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachQuery {
    /// The input.
    pub stdin: bool,
    /// The output.
    pub stdout: bool,
    /// The errors.
    pub stderr: bool,
    /// Output from before.
    pub logs: bool,
    /// Output, and input, from now on.
    pub stream: bool,
}

/// The streams of a process.
#[derive(Debug)]
pub struct ContainerStreams {
    /// Takes input, if it was asked for and the process has one. The end of the sender is the end of the input if the
    /// container's is open for one client only (`stdin_once`), and for a further command.
    pub input: Option<mpsc::Sender<Bytes>>,
    /// Gives output until the process ends. A client that does not read may make the process wait.
    pub output: mpsc::Receiver<OutputPiece>,
    /// True if the process has a terminal: all output is then of one stream, and is sent as it is.
    pub terminal: bool,
}

/// A stream of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// The output, and everything of a terminal.
    Stdout,
    /// The errors.
    Stderr,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPiece {
    /// Its stream.
    pub stream: OutputStream,
    /// Its bytes; less than 4 GiB.
    pub bytes: Bytes,
}

/// The lines of output that a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Lines that come are sent until the container ends.
    pub follow: bool,
    /// Those of the output.
    pub stdout: bool,
    /// Those of the errors.
    pub stderr: bool,
    /// Those of this time or later.
    pub since: Option<SystemTime>,
    /// Those of this time or earlier; following ends then.
    pub until: Option<SystemTime>,
    /// The last ones of those that are there; all without a number.
    pub tail: Option<u64>,
}

impl LogQuery {
    /// True if the line is one that was asked for; `tail` and `follow` are not looked at.
    pub fn wants(&self, line: &LogLine) -> bool {
        let is_wanted = match line.stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        };
        is_wanted
            && self.since.is_none_or(|since| line.time >= since)
            && self.until.is_none_or(|until| line.time <= until)
    }
}

/// A line of output, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The time at which it came.
    pub time: SystemTime,
    /// Its stream.
    pub stream: OutputStream,
    /// Its bytes, with the newline if it has one.
    pub bytes: Bytes,
}

/// A request to unpack an archive in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyIn {
    /// The folder; links are followed, inside the container.
    pub path: String,
    /// A file does not replace a folder, nor a folder a file.
    pub no_overwrite: bool,
    /// Everything belongs to the container's user; otherwise owners are the archive's.
    pub owner_is_user: bool,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConsoleSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// A further command in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its arguments; at least one.
    pub args: Vec<String>,
    /// Variables beyond the container's, `NAME=VALUE`.
    pub env: Vec<String>,
    /// The folder; the container's without one.
    pub working_dir: Option<String>,
    /// The user; the container's without one.
    pub user: Option<String>,
    /// It has a terminal.
    pub terminal: bool,
    /// The size of the terminal at the start.
    pub console_size: Option<ConsoleSize>,
    /// It has an input.
    pub stdin: bool,
    /// Its output is wanted.
    pub stdout: bool,
    /// Its errors are wanted.
    pub stderr: bool,
    /// All rights are wanted, as `privileged` of a container.
    pub privileged: bool,
    /// Keys that leave its terminal running, which the API watches for; the default ones if unset.
    pub detach_keys: Option<String>,
}

/// A request to make an image of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// The image's name, with its tag if there is one.
    pub name: Option<String>,
    /// A remark, for the history.
    pub comment: String,
    /// The author.
    pub author: String,
    /// Instructions of a Dockerfile that change its config, each on its own.
    pub changes: Vec<String>,
}
