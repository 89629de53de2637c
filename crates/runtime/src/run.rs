//! Running a container, seen from kiln: start the init process, give it its orders, carry the output, reap it.

use std::fs;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::cgroup::DeviceGuard;
use crate::child_guard::{ChildGuard, Told};
use crate::container::{Container, MOST_LOWERS, MountKind, Overlay, RootSource, Security, Stream};
use crate::error::Error;
use crate::etc;
use crate::init::{INIT_NAME, privileges};
use crate::ladder::{
    self, ChrootCapabilities, Decision, Isolation, LadderError, NamespaceCapabilities, Note, Probe,
    Unavailable, Wanted,
};
use crate::privilege::{self, Privilege};
use crate::sys;
use crate::wire::{Failure, Orders, Report, RunOrders, encode, take_frame};

/// Bytes read from a container's output at once: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// The folders and files of a [`Runtime`].
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// The binary that calls [`crate::init_if_asked`]; for kiln itself `/proc/self/exe`.
    pub init_exe: PathBuf,
    /// A directory for this runtime's use, made if it is missing; best on the file system of the layers. Runtimes of
    /// several processes may share it.
    pub state_dir: PathBuf,
    /// Files and folders that a container in place leaves where they are: kiln's own, besides what is mounted.
    pub kept: Vec<PathBuf>,
}

/// Runs containers.
#[derive(Debug)]
pub struct Runtime {
    /// The init binary, opened: replacing or removing it during a build does no harm.
    init: OwnedFd,
    scratch: PathBuf,
    empty: PathBuf,
    stubs: PathBuf,
    probe: PathBuf,
    guard: Option<DeviceGuard>,
    isolation: Isolation,
    /// kiln's own files, which a container in place leaves alone.
    kept: Vec<PathBuf>,
    /// The folder in which a container in place puts this one's files.
    in_place: PathBuf,
    /// Held by a container in place: this container has one root.
    place: tokio::sync::Mutex<()>,
}

/// The end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// True if it ended with 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The exit code as shells and BuildKit count it: a signal is 128 and its number.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// A container that has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The end of its process.
    pub exit: Exit,
    /// Mount points that were made for it, as paths from the root, parents first. They have been removed from the
    /// upper directory, except for folders in which the process has left something.
    pub stubs: Vec<String>,
    /// True if one of its processes wanted another root, which a plain folder's cannot have.
    pub refused_root: bool,
}

impl Runtime {
    /// Opens the binary and makes the state directory. Blocks for some system calls.
    pub fn new(options: RuntimeOptions) -> Result<Runtime, Error> {
        let init = open(&options.init_exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::Spawn { source: errno.into() })?;
        let directory = |name: &str| {
            let path = options.state_dir.join(name);
            fs::create_dir_all(&path)
                .and_then(|()| fs::canonicalize(&path))
                .map_err(|source| Error::StateDir { path, source })
        };
        let in_place = directory("in-place")?;
        // Before anything else: a killed run may have left this container without its files.
        crate::in_place::recover(&in_place)?;
        Ok(Runtime {
            init,
            scratch: directory("scratch")?,
            empty: directory("empty")?,
            stubs: usual_mount_points(directory("mount-points")?)?,
            probe: directory("probe")?,
            guard: DeviceGuard::new(),
            isolation: Isolation::Namespaces { overlays: Ok(()) },
            kept: options.kept,
            in_place,
            place: tokio::sync::Mutex::new(()),
        })
    }

    /// Makes the runtime with the isolation that [`ladder::decide`] arrives at, probing the machine as far as that takes.
    /// `probe` says what the caller knows of the machine already.
    ///
    /// # Errors
    /// [`Error::Ladder`] if no wanted isolation works here.
    pub fn start(
        options: RuntimeOptions,
        privilege: &Privilege,
        mut probe: Probe,
        wanted: Wanted,
    ) -> Result<(Runtime, Vec<Note>), Error> {
        // First without a runtime: where nothing is wanted or possible, no folder is made for it.
        ladder::decide(privilege, &probe, wanted)?;
        let runtime = Runtime::new(options)?;
        loop {
            match ladder::decide(privilege, &probe, wanted)? {
                Decision::ReexecInUserns => return Err(LadderError::NotReexecuted.into()),
                Decision::ProbeNamespaces => probe.namespaces = Some(runtime.probe_namespaces()?),
                Decision::ProbeChroot => probe.chroot = Some(runtime.probe_chroot()?),
                Decision::ProbeInPlace => probe.in_place = Some(runtime.probe_in_place()),
                Decision::Run { isolation, notes } => {
                    return Ok((runtime.with_isolation(isolation), notes));
                }
            }
        }
    }

    /// Sets the isolation of the containers; without it they run in namespaces, on overlays.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Runtime {
        if !isolation.has_mounts() {
            // Their root user could look into this process otherwise.
            sys::hide_from_others();
        }
        self.isolation = isolation;
        self
    }

    /// The isolation of the containers.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// True if a root can be an overlay; otherwise it is a plain folder, with another one for what is put aside.
    pub fn has_overlays(&self) -> bool {
        self.isolation.has_overlays()
    }

    /// True if mounts can be made; otherwise their sources are moved into the root, and out again.
    pub fn has_mounts(&self) -> bool {
        self.isolation.has_mounts()
    }

    /// Tries in a process of its own what a container in namespaces needs, on the state directory's file system. Blocks
    /// for some milliseconds.
    pub fn probe_namespaces(&self) -> Result<Result<NamespaceCapabilities, Unavailable>, Error> {
        let report = self.ask_probe(&["lower/folder", "upper", "work"], |directory| {
            Orders::Probe { directory, scratch: self.scratch.clone() }
        })?;
        match report {
            Ok(Report::Probed(found)) => Ok(Ok(found)),
            Ok(_) => Err(Error::InitDied),
            Err(failure) => Ok(Err(failure.reason())),
        }
    }

    /// Tries what a container in a plain folder needs. As [`Runtime::probe_namespaces`].
    pub fn probe_chroot(&self) -> Result<Result<ChrootCapabilities, Unavailable>, Error> {
        match self.ask_probe(&[], Orders::ProbeChroot)? {
            Ok(Report::ProbedChroot(found)) => Ok(Ok(found)),
            Ok(_) => Err(Error::InitDied),
            Err(failure) => Ok(Err(failure.reason())),
        }
    }

    /// Looks whether this container's files can be exchanged for another's: that takes root's rights on files and users,
    /// and a root that is on the same mount as the state directory.
    pub fn probe_in_place(&self) -> Result<(), Unavailable> {
        if !privilege::has_file_rights() {
            return Err(Unavailable::new("not root, or without its rights on files and users"));
        }
        match crate::in_place::is_on_root(&self.in_place) {
            Ok(true) => Ok(()),
            _ => Err(Unavailable::new(
                "kiln's root is on a volume, and not on the container's own disk (`--root`)",
            )),
        }
    }

    /// Has something tried in a folder of its own, with these folders in it.
    fn ask_probe(
        &self,
        folders: &[&str],
        orders: impl FnOnce(PathBuf) -> Orders,
    ) -> Result<Result<Report, Failure>, Error> {
        let directory = self.probe.join("turn");
        let failed = |source| Error::StateDir { path: directory.clone(), source };
        // One name for all, by turns: what a killed process has left is the next one's to remove.
        let turn = fs::File::open(&self.probe).map_err(failed)?;
        flock(&turn, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).map_err(failed)?;
        for name in folders {
            fs::create_dir_all(directory.join(name)).map_err(failed)?;
        }
        let result = self.ask(&orders(directory.clone()));
        let _ = fs::remove_dir_all(&directory);
        result
    }

    fn ask(&self, orders: &Orders) -> Result<Result<Report, Failure>, Error> {
        let orders = encode(orders)?;
        let (mut control, init_end) =
            StdUnixStream::pair().map_err(|source| Error::Spawn { source })?;
        let mut child = self.spawn(init_end.into(), Stdio::null(), Stdio::null())?;
        let mut inbox = Vec::new();
        let talk = io::Write::write_all(&mut control, &orders)
            .and_then(|()| control.read_to_end(&mut inbox));
        let waited = child.wait();
        talk.and(waited).map_err(|source| Error::Talk { source })?;
        while let Some(report) = take_frame(&mut inbox).map_err(|source| Error::Talk { source })? {
            match report {
                Report::Failed(failure) => return Ok(Err(failure)),
                Report::Probed(_) | Report::ProbedChroot(_) => return Ok(Ok(report)),
                Report::Stubs(_) | Report::RefusedRoot | Report::Exited(_) => {}
            }
        }
        Err(Error::InitDied)
    }

    /// Runs `container` to its end. `output` gets what it prints, in pieces, as they come. Once `cancel` is ready, or
    /// when the future is dropped, everything in the container is killed and waited for.
    ///
    /// Dropping the future blocks until the container is gone: milliseconds.
    pub async fn run(
        &self,
        container: &Container,
        mut output: impl FnMut(Stream, &[u8]),
        cancel: impl Future<Output = ()>,
    ) -> Result<Finished, Error> {
        check(container)?;
        let is_in_place = self.isolation == Isolation::InPlace;
        let _place = if is_in_place { Some(self.place.lock().await) } else { None };
        let orders = encode(&Orders::Run(Box::new(self.orders(container))))?;
        let mut running = self.spawn_for(&container.root)?;
        let mut cancel = std::pin::pin!(cancel);

        let mut cancelled = false;
        tokio::select! {
            // An error here is told better by the report, or by its absence.
            _ = running.control.write_all(&orders) => {}
            () = &mut cancel => cancelled = true,
        }
        drop(orders);
        if cancelled {
            running.hang_up();
        }
        let mut buffers = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut open = (true, true, true);
        while open != (false, false, false) {
            tokio::select! {
                read = running.stdout.read(&mut buffers.0), if open.0 => match read {
                    Ok(count) if count > 0 => output(Stream::Stdout, &buffers.0[..count]),
                    _ => open.0 = false,
                },
                read = running.stderr.read(&mut buffers.1), if open.1 => match read {
                    Ok(count) if count > 0 => output(Stream::Stderr, &buffers.1[..count]),
                    _ => open.1 = false,
                },
                read = running.control.read_buf(&mut running.guard.inbox), if open.2 => match read {
                    Ok(count) if count > 0 => {}
                    // A process that the init process could not end may hold the output open for good.
                    _ if running.guard.is_unattended() => break,
                    _ => open.2 = false,
                },
                () = &mut cancel, if !cancelled => {
                    cancelled = true;
                    running.hang_up();
                }
            }
        }
        let Told { stubs, refused_root, end } = running.guard.reap();
        match end {
            _ if cancelled => Err(Error::Cancelled),
            Some(Report::Failed(failure)) => Err(failure.into()),
            Some(Report::Exited(status)) => {
                Ok(Finished { exit: exit(status), stubs, refused_root })
            }
            _ => Err(Error::InitDied),
        }
    }

    fn orders(&self, container: &Container) -> RunOrders {
        let guard = self.guard.as_ref().filter(|_| container.security == Security::Sandbox);
        RunOrders {
            isolation: self.isolation.clone(),
            in_place: self.in_place.clone(),
            kept: self.kept.clone(),
            container: container.clone(),
            scratch: self.scratch.clone(),
            empty: self.empty.clone(),
            stubs: self.stubs.clone(),
            resolv_conf: etc::resolv_conf(fs::read_to_string("/etc/resolv.conf").ok().as_deref()),
            hosts: etc::hosts(&container.hostname, &container.extra_hosts),
            cgroup: guard.map(|guard| guard.path().to_owned()),
        }
    }

    fn spawn_for(&self, root: &RootSource) -> Result<Running, Error> {
        let failed = |source| Error::Spawn { source };
        let (control, init_end) = StdUnixStream::pair().map_err(failed)?;
        let (stdout, stdout_end) = io::pipe().map_err(failed)?;
        let (stderr, stderr_end) = io::pipe().map_err(failed)?;
        control.set_nonblocking(true).map_err(failed)?;
        let line = control.try_clone().map_err(failed)?;
        let reader = |pipe: io::PipeReader| {
            pipe::Receiver::from_owned_fd(OwnedFd::from(pipe)).map_err(failed)
        };
        let (stdout, stderr) = (reader(stdout)?, reader(stderr)?);
        let control = UnixStream::from_std(control).map_err(failed)?;
        let child = self.spawn(init_end.into(), stdout_end.into(), stderr_end.into())?;
        let (changes, work) = match root {
            RootSource::Directory(directory) => (Some(directory.clone()), None),
            RootSource::Overlay(overlay) => match &overlay.writable {
                Some(writable) => (Some(writable.upper.clone()), Some(writable.work.clone())),
                None => (None, None),
            },
        };
        let has_namespace = self.has_mounts();
        let place = self.isolation == Isolation::InPlace;
        let place = place.then(|| self.in_place.clone());
        let guard = ChildGuard {
            child: Some(child),
            line,
            inbox: Vec::new(),
            changes,
            work,
            place,
            has_namespace,
        };
        Ok(Running { control, stdout, stderr, guard })
    }

    /// Starts the init process. Without `pre_exec` the standard library uses posix_spawn, which does not copy kiln's
    /// page tables; hence the socket as standard input.
    fn spawn(&self, control: OwnedFd, stdout: Stdio, stderr: Stdio) -> Result<Child, Error> {
        Command::new(format!("/proc/self/fd/{}", self.init.as_raw_fd()))
            .arg0(INIT_NAME)
            .env_clear()
            .stdin(control)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|source| Error::Spawn { source })
    }
}

/// Fills a layer with what every container needs mount points for.
fn usual_mount_points(layer: PathBuf) -> Result<PathBuf, Error> {
    let fill = || {
        for folder in ["proc", "dev", "sys", "etc"] {
            fs::create_dir_all(layer.join(folder))?;
            fs::set_permissions(layer.join(folder), fs::Permissions::from_mode(0o755))?;
        }
        for file in ["etc/hosts", "etc/resolv.conf"] {
            fs::File::options().create(true).append(true).mode(0o644).open(layer.join(file))?;
        }
        Ok(())
    };
    match fill() {
        Ok(()) => Ok(layer),
        Err(source) => Err(Error::StateDir { path: layer, source }),
    }
}

/// A container on its way.
struct Running {
    control: UnixStream,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    guard: ChildGuard,
}

impl Running {
    /// Ends the socket, at which the init process kills the container.
    fn hang_up(&self) {
        let _ = self.guard.line.shutdown(Shutdown::Write);
    }
}

/// Refuses what can be seen to be impossible before a process is started for it.
fn check(container: &Container) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::Refused(reason));
    let check_overlay = |overlay: &Overlay| match overlay.lowers.len() {
        count if count > MOST_LOWERS => Err(Error::Refused(format!(
            "{count} layers are more than the {MOST_LOWERS} that the kernel can stack"
        ))),
        _ => Ok(()),
    };
    if let RootSource::Overlay(overlay) = &container.root {
        check_overlay(overlay)?;
        if overlay.writable.is_none() {
            return refuse("a container's root must be writable".into());
        }
    }
    if !container.cwd.starts_with('/') {
        return refuse(format!("the working directory `{}` is not absolute", container.cwd));
    }
    for mount in &container.mounts {
        if !mount.target.starts_with('/') {
            return refuse(format!("the mount target `{}` is not absolute", mount.target));
        }
        if mount.target.split('/').all(|name| matches!(name, "" | "." | "..")) {
            return refuse(format!("the mount target `{}` is the root", mount.target));
        }
        if let MountKind::Overlay { overlay, .. } = &mount.kind {
            check_overlay(overlay)?;
        }
    }
    for ulimit in &container.ulimits {
        if privileges::limit_number(&ulimit.name).is_none() {
            return refuse(format!("unknown ulimit `{}`", ulimit.name));
        }
    }
    if let Some((name, _)) =
        container.env.iter().find(|(name, _)| name.is_empty() || name.contains('='))
    {
        return refuse(format!("`{name}` cannot be the name of an environment variable"));
    }
    Ok(())
}

fn exit(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}
