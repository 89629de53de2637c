//! Containers with a life of their own: started, signalled, joined by other commands, waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Weak};

use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::container::{Container, ExecCommand, RootSource, Streams, TerminalSize};
use crate::error::Error;
use crate::init::processes::{descendants, parent_of};
use crate::init::walk::open_folder;
use crate::ladder::Isolation;
use crate::line::{self, LineMessage};
use crate::passing;
use crate::reports::{Finished, Reports};
use crate::root_access::RootAccess;
use crate::run::{LaunchPlan, Launched, begin, check, send_all, terminal_size};
use crate::runtime::Runtime;
use crate::streams::{self, ContainerInput, ContainerOutput, KeptStreams, OpenStreams, Terminal};
use crate::wire::{ExecOrders, InitReport, Orders, encode, take_frame};

/// A command that runs in a container.
pub struct RunningContainer {
    /// Its input, if it has one.
    pub stdin: Option<ContainerInput>,
    /// Its output.
    pub output: ContainerOutput,
    /// Its first process.
    pub process: ContainerProcess,
}

/// The first process of a command that runs in a container, and with the container's own command the container.
///
/// It is killed when the last clone is dropped: soon after, and not before the drop returns.
#[derive(Clone)]
pub struct ContainerProcess {
    state: Arc<ProcessState>,
}

struct ProcessState {
    line: Arc<UnixStream>,
    pid: i32,
    end: watch::Receiver<Option<Ending>>,
    terminal: Option<Arc<Terminal>>,
    within: Within,
}

/// The container of a process.
enum Within {
    /// The process is the container's own.
    Itself(Box<ContainerFacts>),
    /// It is a further one.
    Other(Weak<ProcessState>),
}

/// The facts of a container that further commands need.
struct ContainerFacts {
    container: Container,
    isolation: Isolation,
}

/// The end of a process, for all who wait for it.
#[derive(Clone)]
enum Ending {
    Finished(Finished),
    /// Its init process has ended without a word.
    Lost,
}

impl Drop for ProcessState {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl ProcessState {
    /// Ends the line, at which the init process kills the command.
    fn hang_up(&self) {
        let _ = shutdown(&*self.line, Shutdown::Write);
    }

    fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    async fn send(&self, message: LineMessage, files: &[BorrowedFd<'_>]) -> Result<(), Error> {
        if self.has_ended() {
            return Err(Error::ContainerEnded);
        }
        let send = || line::send(&*self.line, message, files).map_err(io::Error::from);
        self.line.async_io(Interest::WRITABLE, send).await.map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::ContainerEnded,
            _ => Error::Talk { source },
        })
    }

    /// Opens the line of a further process, on which its streams and orders follow.
    async fn join(&self) -> Result<UnixStream, Error> {
        let failed = |source| Error::Talk { source };
        let (ours, its) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        self.send(LineMessage::Join, &[its.as_fd()]).await?;
        UnixStream::from_std(ours).map_err(failed)
    }
}

/// A process that has been waited for until it is its command.
struct Started {
    line: Arc<UnixStream>,
    pid: i32,
    streams: KeptStreams,
}

impl Started {
    /// Has the end of the process waited for, by `attend`.
    fn attended(
        self,
        within: Within,
        attend: impl Future<Output = Result<Finished, Error>> + Send + 'static,
    ) -> Result<RunningContainer, Error> {
        let Started { line, pid, streams } = self;
        let (tell_end, end) = watch::channel(None);
        let (tell_over, over) = watch::channel(false);
        let OpenStreams { input, output, terminal } = streams.open(over)?;
        tokio::spawn(async move {
            let end = attend.await.map_or(Ending::Lost, Ending::Finished);
            // The output may be asked for its rest as soon as the end is known.
            tell_over.send_replace(true);
            tell_end.send_replace(Some(end));
        });
        let state = Arc::new(ProcessState { line, pid, end, terminal, within });
        Ok(RunningContainer { stdin: input, output, process: ContainerProcess { state } })
    }
}

impl Runtime {
    /// Starts a container; returns once its command runs.
    ///
    /// When the future is dropped, the container is killed and waited for, which blocks for milliseconds.
    ///
    /// # Errors
    /// The reason that the command could not run ([`Error::ProgramNotFound`], …). [`Error::Refused`] for the isolation
    /// `in-place`.
    pub async fn start_container(
        self: &Arc<Self>,
        container: Container,
        streams: Streams,
    ) -> Result<RunningContainer, Error> {
        if self.isolation == Isolation::InPlace {
            let reason = "a container cannot be started in place of the one that kiln runs in, whose files are aside \
                          meanwhile (`--isolation=in-place`): it takes namespaces, or the capability SYS_CHROOT";
            return Err(Error::Refused(reason.into()));
        }
        let plan = LaunchPlan { streams, is_joinable: true };
        let Launched { line, mut guard, orders, streams } = self.launch(&container, plan)?;
        send_all(&line, &orders).await;
        drop(orders);
        let Some(pid) = guard.reports.until_started(&line).await else {
            while guard.reports.hear(&line).await {}
            return Err(guard.reap().finish().err().unwrap_or(Error::InitDied));
        };
        let attended = line.clone();
        // The runtime keeps the container's cgroup.
        let runtime = self.clone();
        let attend = async move {
            while guard.reports.hear(&attended).await {}
            let finished = guard.reap().finish();
            drop(runtime);
            finished
        };
        let (container, isolation) = (container.without_contents(), self.isolation.clone());
        let within = Within::Itself(Box::new(ContainerFacts { container, isolation }));
        Started { line, pid, streams }.attended(within, attend)
    }
}

impl ContainerProcess {
    /// The process's number, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.state.pid
    }

    /// Sends a signal to this process alone.
    ///
    /// The kernel ignores signals to the first process of namespaces for which it has no handler, but SIGKILL and SIGSTOP,
    /// unless the container has [`Container::init`].
    ///
    /// # Errors
    /// [`Error::ContainerEnded`]
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        if !(1..=libc::SIGRTMAX()).contains(&signal) {
            return Err(Error::Refused(format!("{signal} is not the number of a signal")));
        }
        self.state.send(LineMessage::Signal(signal), &[]).await
    }

    /// Kills this process, and with a container's own command all of the container. Does not wait.
    pub fn kill(&self) {
        self.state.hang_up();
    }

    /// Sets the size of the terminal.
    ///
    /// # Errors
    /// [`Error::Refused`] if the command has none.
    pub fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        let Some(terminal) = &self.state.terminal else {
            return Err(Error::Refused("the command has no terminal".into()));
        };
        terminal.resize(size).map_err(|source| Error::Streams { source })
    }

    /// Waits for the end of the process, and with a container's own command of all of the container, of which nothing is
    /// left then. All who wait get the same answer.
    ///
    /// # Errors
    /// [`Error::InitDied`]
    pub async fn wait(&self) -> Result<Finished, Error> {
        let mut end = self.state.end.clone();
        match end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ending::Finished(finished))) => Ok(finished.clone()),
            _ => Err(Error::InitDied),
        }
    }

    /// Runs another command in the container; returns once it runs. It ends with the container at the latest.
    ///
    /// # Errors
    /// Those of [`Runtime::start_container`], and [`Error::ContainerEnded`].
    pub async fn exec(
        &self,
        command: ExecCommand,
        streams: Streams,
    ) -> Result<RunningContainer, Error> {
        let own = self.container()?;
        let ExecCommand { args, env, cwd, user } = command;
        let container = Container { args, env, cwd, user, ..own.facts()?.container.clone() };
        check(&container)?;
        let terminal = terminal_size(streams);
        let orders = encode(&Orders::Exec(Box::new(ExecOrders { container, terminal })))?;
        let (streams, given) = streams::make(streams)?;
        let line = Arc::new(own.join().await?);
        begin(&*line, &given)?;
        drop(given);
        send_all(&line, &orders).await;
        let mut reports = Reports::default();
        let Some(pid) = reports.until_started(&line).await else {
            return Err(match reports.end {
                None => Error::ContainerEnded,
                Some(_) => reports.finish().err().unwrap_or(Error::InitDied),
            });
        };
        let attended = line.clone();
        let attend = async move {
            reports.until_end(&attended).await;
            reports.finish()
        };
        Started { line, pid, streams }.attended(Within::Other(Arc::downgrade(&own)), attend)
    }

    /// Opens the container's root.
    ///
    /// # Errors
    /// [`Error::ContainerEnded`]
    pub async fn root(&self) -> Result<RootAccess, Error> {
        let own = self.container()?;
        let facts = own.facts()?;
        if let (false, RootSource::Directory(root)) =
            (facts.isolation.has_mounts(), &facts.container.root)
        {
            let step = format!("open the root `{}`", root.display());
            let top =
                open_folder(root).map_err(|errno| Error::Setup { step, source: errno.into() })?;
            return Ok(RootAccess::new(top));
        }
        let line = own.join().await?;
        begin(&line, &[])?;
        send_all(&line, &encode(&Orders::OpenRoot)?).await;
        receive_root(&line).await
    }

    /// The processes of the container, in any order, as this process sees them. None once it has ended.
    pub fn processes(&self) -> Vec<i32> {
        let Ok(own) = self.container() else { return Vec::new() };
        let init = parent_of(own.pid);
        init.filter(|_| !own.has_ended()).map(descendants).unwrap_or_default()
    }

    /// The container's own process.
    fn container(&self) -> Result<Arc<ProcessState>, Error> {
        let own = match &self.state.within {
            Within::Itself(_) => Some(self.state.clone()),
            Within::Other(container) => container.upgrade(),
        };
        own.filter(|own| !own.has_ended()).ok_or(Error::ContainerEnded)
    }
}

impl ProcessState {
    fn facts(&self) -> Result<&ContainerFacts, Error> {
        match &self.within {
            Within::Itself(facts) => Ok(facts),
            Within::Other(_) => Err(Error::ContainerEnded),
        }
    }
}

/// Receives a root, or the report of a failure.
async fn receive_root(line: &UnixStream) -> Result<RootAccess, Error> {
    let mut bytes = vec![0; 4096];
    let receive = || passing::receive(line, &mut bytes).map_err(io::Error::from);
    let received: io::Result<(usize, Vec<OwnedFd>)> =
        line.async_io(Interest::READABLE, receive).await;
    let (length, files) = received.map_err(|source| Error::Talk { source })?;
    if let Some(top) = files.into_iter().next() {
        return Ok(RootAccess::new(top));
    }
    bytes.truncate(length);
    match take_frame(&mut bytes) {
        Ok(Some(InitReport::Failed(failure))) => Err(failure.into()),
        _ => Err(Error::ContainerEnded),
    }
}
