//! Running a container, seen from kiln: start the init process, give it its orders, carry the output, bury it.

use std::fs;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Timestamps, flock, open, openat, statat,
    unlinkat, utimensat,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::cgroup::DeviceGuard;
use crate::container::{Container, MOST_LOWERS, MountKind, Overlay, RootSource, Security, Stream};
use crate::error::Error;
use crate::etc;
use crate::identity::IdMapping;
use crate::init::strays::{self, Sign};
use crate::init::{INIT_NAME, privileges};
use crate::probe::Isolation;
use crate::standing;
use crate::sys;
use crate::wire::{Failure, Orders, Report, RunOrders, Way, encode, take_frame};

/// How long a killed container may take to be gone: only a process stuck in the kernel takes longer.
const BURIAL: Duration = Duration::from_secs(20);

/// Bytes read from a container's output at once: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// What a [`Runtime`] needs to know.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// The binary that calls [`crate::init_if_asked`]; for kiln itself `/proc/self/exe`.
    pub init_exe: PathBuf,
    /// A directory for this runtime's use, made if it is missing; best on the file system of the layers. Runtimes of
    /// several processes may share it.
    pub state_dir: PathBuf,
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
    isolation: Option<Isolation>,
    /// What a container in place puts aside.
    in_place: PathBuf,
    /// Held by a container in place: there is one place.
    place: tokio::sync::Mutex<()>,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Whether it ended with 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }

    /// As a shell and BuildKit count it: 128 and the signal's number.
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
    /// How its process ended.
    pub exit: Exit,
    /// Mount points that were made for it, as paths from the root, parents first. They have been removed from the
    /// upper directory, except for folders in which the process has left something.
    pub stubs: Vec<String>,
    /// Whether one of its processes wanted another root, which a plain folder's cannot have.
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
        // What an earlier run was killed over is put back before anything else.
        crate::in_place::recover(&in_place)?;
        Ok(Runtime {
            init,
            scratch: directory("scratch")?,
            empty: directory("empty")?,
            stubs: usual_mount_points(directory("mount-points")?)?,
            probe: directory("probe")?,
            guard: DeviceGuard::new(),
            isolation: None,
            in_place,
            place: tokio::sync::Mutex::new(()),
        })
    }

    /// Runs containers in this way from now on. Without it they run in namespaces, on overlays.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Runtime {
        if matches!(isolation, Isolation::Chroot(_) | Isolation::InPlace { .. }) {
            // Their root user could look into this process otherwise.
            sys::hide_from_others();
        }
        self.isolation = Some(isolation);
        self
    }

    /// How containers run.
    pub fn isolation(&self) -> Option<&Isolation> {
        self.isolation.as_ref()
    }

    /// Whether a root can be an overlay; else it is a plain folder, with another one for what is put aside.
    pub fn has_overlays(&self) -> bool {
        match &self.isolation {
            Some(Isolation::Namespaces { capabilities, .. }) => capabilities.overlay.is_ok(),
            Some(_) => false,
            None => true,
        }
    }

    /// Whether mounts can be made at all; else what is to be mounted is moved into the root, and out again.
    pub fn has_mounts(&self) -> bool {
        matches!(&self.isolation, None | Some(Isolation::Namespaces { .. }))
    }

    /// Tries in a process of its own what a container in namespaces needs, on the state directory's file system. Blocks
    /// for some milliseconds.
    pub fn probe(&self) -> Result<Isolation, Error> {
        let report = self.ask_probe(&["lower/folder", "upper", "work"], |directory| {
            Orders::Probe { directory, scratch: self.scratch.clone() }
        })?;
        Ok(match report {
            Ok(Report::Probed(capabilities)) => {
                Isolation::Namespaces { ids: own_ids(), capabilities }
            }
            Ok(_) => return Err(Error::InitDied),
            Err(failure) => Isolation::Unavailable { reason: failure.sentence() },
        })
    }

    /// Tries what a container in a plain folder needs, where there are no namespaces. As [`Runtime::probe`].
    pub fn probe_chroot(&self) -> Result<Isolation, Error> {
        Ok(match self.ask_probe(&[], Orders::ProbeChroot)? {
            Ok(Report::ProbedChroot(capabilities)) => Isolation::Chroot(capabilities),
            Ok(_) => return Err(Error::InitDied),
            Err(failure) => Isolation::Unavailable { reason: failure.sentence() },
        })
    }

    /// Whether a container can have this one's place: root's rights on files and users, and a root that is on the same
    /// mount as the state directory. `kept` are kiln's own files.
    pub fn probe_in_place(&self, kept: Vec<PathBuf>) -> Result<Isolation, Error> {
        let unavailable = |reason: &str| Ok(Isolation::Unavailable { reason: reason.into() });
        if !crate::standing::has_file_rights() {
            return unavailable("not root, or without its rights on files and users");
        }
        match crate::in_place::is_on_root(&self.in_place) {
            Ok(true) => Ok(Isolation::InPlace { kept }),
            _ => unavailable(
                "kiln's root is on a volume, and not on the container's own disk (`--root`)",
            ),
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
        let is_in_place = matches!(self.isolation, Some(Isolation::InPlace { .. }));
        let _place = if is_in_place { Some(self.place.lock().await) } else { None };
        let orders = encode(&Orders::Run(Box::new(self.orders(container)?)))?;
        let mut running = self.start(&container.root)?;
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
                read = running.control.read_buf(&mut running.grave.inbox), if open.2 => match read {
                    Ok(count) if count > 0 => {}
                    // What the init process could not end may hold the output open for good.
                    _ if running.grave.is_unattended() => break,
                    _ => open.2 = false,
                },
                () = &mut cancel, if !cancelled => {
                    cancelled = true;
                    running.hang_up();
                }
            }
        }
        let Told { stubs, refused_root, end } = running.grave.bury();
        match end {
            _ if cancelled => Err(Error::Cancelled),
            Some(Report::Failed(failure)) => Err(failure.into()),
            Some(Report::Exited(status)) => {
                Ok(Finished { exit: exit(status), stubs, refused_root })
            }
            _ => Err(Error::InitDied),
        }
    }

    fn orders(&self, container: &Container) -> Result<RunOrders, Error> {
        let guard = self.guard.as_ref().filter(|_| container.security == Security::Sandbox);
        let way = match (&self.isolation, &container.aside) {
            (Some(Isolation::Chroot(found)), Some(aside)) => {
                Way::Chroot { aside: aside.clone(), supervised: found.supervised.is_ok() }
            }
            (Some(Isolation::InPlace { kept }), Some(aside)) => Way::InPlace {
                aside: aside.clone(),
                state: self.in_place.clone(),
                kept: kept.clone(),
            },
            (Some(Isolation::Chroot(_) | Isolation::InPlace { .. }), None) => {
                let reason = "a container without mounts needs a folder for what is put aside";
                return Err(Error::Refused(reason.into()));
            }
            (Some(Isolation::Unavailable { reason }), _) => {
                return Err(Error::Refused(reason.clone()));
            }
            (Some(Isolation::Namespaces { .. }) | None, _) => Way::Namespaces,
        };
        Ok(RunOrders {
            way,
            container: container.clone(),
            scratch: self.scratch.clone(),
            empty: self.empty.clone(),
            stubs: self.stubs.clone(),
            resolv_conf: etc::resolv_conf(fs::read_to_string("/etc/resolv.conf").ok().as_deref()),
            hosts: etc::hosts(&container.hostname, &container.extra_hosts),
            cgroup: guard.map(|guard| guard.path().to_owned()),
        })
    }

    fn start(&self, root: &RootSource) -> Result<Running, Error> {
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
        let place = matches!(self.isolation, Some(Isolation::InPlace { .. }));
        let place = place.then(|| self.in_place.clone());
        let grave = Grave {
            child: Some(child),
            line,
            inbox: Vec::new(),
            changes,
            work,
            place,
            has_namespace,
        };
        Ok(Running { control, stdout, stderr, grave })
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
    grave: Grave,
}

impl Running {
    /// Ends the socket, at which the init process kills the container.
    fn hang_up(&self) {
        let _ = self.grave.line.shutdown(Shutdown::Write);
    }
}

/// What has to be done after a container, however it ends: wait for its init process and remove its mount points.
struct Grave {
    /// Until it has been waited for.
    child: Option<Child>,
    line: StdUnixStream,
    inbox: Vec<u8>,
    /// Where the container's changes to its root are.
    changes: Option<PathBuf>,
    work: Option<PathBuf>,
    /// Where the container's own files are meanwhile, if the command runs in their place.
    place: Option<PathBuf>,
    /// Whether a process namespace ends with the init process.
    has_namespace: bool,
}

/// What the init process has told.
#[derive(Default)]
struct Told {
    /// Mount points that were made.
    stubs: Vec<String>,
    refused_root: bool,
    /// How it ended.
    end: Option<Report>,
}

impl Grave {
    /// Whether the init process has ended without a word, and what it started may go on.
    fn is_unattended(&self) -> bool {
        let mut inbox = self.inbox.clone();
        let mut said = false;
        while let Ok(Some(report)) = take_frame(&mut inbox) {
            said |= matches!(report, Report::Exited(_) | Report::Failed(_));
        }
        !self.has_namespace && !said
    }

    /// Waits and removes.
    fn bury(&mut self) -> Told {
        let mut told = Told::default();
        let Some(mut child) = self.child.take() else { return told };
        let _ = self.line.shutdown(Shutdown::Write);
        // Who puts a container's files back is not to be hurried.
        if self.place.is_none() && !ends_within(&child, BURIAL) {
            let _ = child.kill();
        }
        let _ = child.wait();
        // What was sent and not read yet; the descriptor does not block.
        let _ = self.line.read_to_end(&mut self.inbox);
        if let (true, Some(root)) = (self.is_unattended(), &self.changes) {
            strays::end(Sign::Root, root);
        }
        if let Some(place) = &self.place {
            // Nothing, unless it was killed. What cannot be put back now is put back by the next kiln.
            let _ = crate::in_place::recover(place);
        }

        while let Ok(Some(report)) = take_frame(&mut self.inbox) {
            match report {
                Report::Stubs(made) => told.stubs = made,
                Report::RefusedRoot => told.refused_root = true,
                // A failure before the command comes ahead of the exit of the process that met it.
                Report::Exited(_) if matches!(told.end, Some(Report::Failed(_))) => {}
                report => told.end = Some(report),
            }
        }
        if let Some(changes) = &self.changes {
            remove_stubs(changes, &told.stubs);
        }
        if let Some(work) = &self.work {
            // A mark of `volatile`, which would forbid using the directories again.
            let _ = fs::remove_dir_all(work.join("work/incompat"));
        }
        told
    }
}

impl Drop for Grave {
    fn drop(&mut self) {
        self.bury();
    }
}

/// Waits for a process without polling, where there are process descriptors (kernel 5.3).
fn ends_within(child: &Child, limit: Duration) -> bool {
    let Ok(raw) = i32::try_from(child.id()) else { return true };
    let Some(pid) = rustix::process::Pid::from_raw(raw) else { return true };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)), Ok(0))
}

/// Removes made mount points that are still as they were made, the inner ones first. The folders around them keep
/// their times.
fn remove_stubs(changes: &Path, stubs: &[String]) {
    let Ok(top) = open(changes, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return;
    };
    for stub in stubs.iter().rev() {
        // A folder on the way may have become a symbolic link since: nothing outside may be touched.
        let _ = remove_stub(&top, stub);
    }
}

fn remove_stub(top: &OwnedFd, stub: &str) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names: Vec<&str> = stub.split('/').collect();
    let name = names.pop().unwrap_or_default();
    let mut folder = openat(top, ".", flags, Mode::empty())?;
    for name in names {
        folder = openat(&folder, name, flags, Mode::empty())?;
    }
    let found = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let around = rustix::fs::fstat(&folder)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => unlinkat(&folder, name, AtFlags::REMOVEDIR)?,
        FileType::RegularFile if found.st_size == 0 => unlinkat(&folder, name, AtFlags::empty())?,
        _ => return Ok(()),
    }
    let times = Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: around.st_atime as _,
            tv_nsec: around.st_atime_nsec as _,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: around.st_mtime as _,
            tv_nsec: around.st_mtime_nsec as _,
        },
    };
    utimensat(&folder, ".", &times, AtFlags::empty())
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

fn own_ids() -> IdMapping {
    standing::own_mapping()
}
