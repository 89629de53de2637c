//! Starting an init process: its streams, its orders, the line to it; and a command that runs to its end while its
//! output goes to a callback, as a `RUN` wants it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError};

use rustix::net::{Shutdown, shutdown};
use tokio::net::UnixStream;

use crate::child_guard::ChildGuard;
use crate::container::{
    Container, MOST_LOWERS, MountKind, Overlay, RootSource, Security, Stream, Streams, TerminalSize,
};
use crate::error::Error;
use crate::etc;
use crate::init::{INIT_NAME, privileges};
use crate::ladder::Isolation;
use crate::line::{self, LineMessage};
use crate::reports::{Finished, Reports};
use crate::runtime::Runtime;
use crate::streams::{self, KeptStreams};
use crate::wire::{InitReport, Orders, RunOrders, SetupFailure, encode, take_frame};

/// The init process of a container, which waits for its orders.
pub struct Launched {
    pub line: Arc<UnixStream>,
    pub guard: ChildGuard,
    pub orders: Vec<u8>,
    pub streams: KeptStreams,
}

/// The life that a container is to have.
#[derive(Clone, Copy)]
pub struct LaunchPlan {
    pub streams: Streams,
    /// True if other commands are to join it.
    pub is_joinable: bool,
}

/// The size of a command's terminal, if it has one.
pub fn terminal_size(streams: Streams) -> Option<TerminalSize> {
    match streams {
        Streams::Terminal { size } => Some(size),
        Streams::Piped { .. } => None,
    }
}

/// Begins a command's line: hands its streams over.
pub fn begin(line: impl AsFd, given: &[OwnedFd]) -> Result<(), Error> {
    let files: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
    line::send(line, LineMessage::Begin, &files)
        .map_err(|errno| Error::Talk { source: errno.into() })
}

/// Sends all of `bytes`. An error is told better by the report, or by its absence.
pub async fn send_all(line: &UnixStream, mut bytes: &[u8]) {
    while !bytes.is_empty() && line.writable().await.is_ok() {
        match line.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

impl Runtime {
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
        let is_in_place = self.isolation == Isolation::InPlace;
        let _place = if is_in_place { Some(self.place.lock().await) } else { None };
        let plan = LaunchPlan { streams: Streams::Piped { stdin: false }, is_joinable: false };
        let Launched { line, mut guard, orders, streams } = self.launch(container, plan)?;
        let KeptStreams::Piped { output: mut printed, .. } = streams else {
            return Err(Error::InitDied);
        };
        let mut cancel = pin!(cancel);
        // At its end the init process kills the container.
        let hang_up = || {
            let _ = shutdown(&*line, Shutdown::Write);
        };

        let mut cancelled = false;
        tokio::select! {
            () = send_all(&line, &orders) => {}
            () = &mut cancel => cancelled = true,
        }
        drop(orders);
        if cancelled {
            hang_up();
        }
        let (mut prints, mut talks) = (true, true);
        while prints || talks {
            tokio::select! {
                piece = printed.piece(), if prints => match piece {
                    Some((stream, bytes)) => output(stream, bytes),
                    None => prints = false,
                },
                heard = guard.reports.hear(&line), if talks => {
                    talks = heard;
                    // A process that the init process could not end may hold the output open for good.
                    if !heard && guard.is_unattended() {
                        break;
                    }
                }
                () = &mut cancel, if !cancelled => {
                    cancelled = true;
                    hang_up();
                }
            }
        }
        let reports = guard.reap();
        if cancelled { Err(Error::Cancelled) } else { reports.finish() }
    }

    /// Starts the init process of a container.
    pub(crate) fn launch(
        &self,
        container: &Container,
        plan: LaunchPlan,
    ) -> Result<Launched, Error> {
        check(container)?;
        let orders = encode(&Orders::Run(Box::new(self.orders(container, plan))))?;
        let (streams, given) = streams::make(plan.streams)?;
        let failed = |source| Error::Spawn { source };
        let (line, init_end) = StdUnixStream::pair().map_err(failed)?;
        line.set_nonblocking(true).map_err(failed)?;
        let second = line.try_clone().map_err(failed)?;
        let child = self.spawn(init_end.into())?;
        let guard = self.guard(child, second, &container.root);
        if let Some(hold) = self.opens_held.get() {
            line::send(&line, LineMessage::Keep, &[hold.kept.as_fd()])
                .map_err(|errno| Error::Talk { source: errno.into() })?;
        }
        begin(&line, &given)?;
        let line = Arc::new(UnixStream::from_std(line).map_err(failed)?);
        Ok(Launched { line, guard, orders, streams })
    }

    fn orders(&self, container: &Container, plan: LaunchPlan) -> RunOrders {
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
            terminal: terminal_size(plan.streams),
            is_joinable: plan.is_joinable,
        }
    }

    fn guard(&self, child: Child, line: StdUnixStream, root: &RootSource) -> ChildGuard {
        let (changes, work) = match root {
            RootSource::Directory(directory) => (Some(directory.clone()), None),
            RootSource::Overlay(overlay) => match &overlay.writable {
                Some(writable) => (Some(writable.upper.clone()), Some(writable.work.clone())),
                None => (None, None),
            },
        };
        let place = self.isolation == Isolation::InPlace;
        ChildGuard {
            child: Some(child),
            line,
            reports: Reports::default(),
            changes,
            work,
            place: place.then(|| self.in_place.clone()),
            has_namespace: self.has_mounts(),
        }
    }

    /// Starts the init process. Without `pre_exec` the standard library uses posix_spawn, which does not copy kiln's
    /// page tables; hence the socket as standard input.
    fn spawn(&self, line: OwnedFd) -> Result<Child, Error> {
        let writing = self.opens_held.get().map(|hold| &hold.writing);
        // posix_spawn returns when the child has executed its program.
        let _alone = writing.map(|lock| lock.write().unwrap_or_else(PoisonError::into_inner));
        Command::new(format!("/proc/self/fd/{}", self.init.as_raw_fd()))
            .arg0(INIT_NAME)
            .env_clear()
            .stdin(line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::Spawn { source })
    }

    /// Has an init process try something.
    pub(crate) fn ask(&self, orders: &Orders) -> Result<Result<InitReport, SetupFailure>, Error> {
        let orders = encode(orders)?;
        let (mut line, init_end) =
            StdUnixStream::pair().map_err(|source| Error::Spawn { source })?;
        let mut child = self.spawn(init_end.into())?;
        let mut inbox = Vec::new();
        let talk = line::send(&line, LineMessage::Begin, &[])
            .map_err(io::Error::from)
            .and_then(|()| line.write_all(&orders))
            .and_then(|()| line.read_to_end(&mut inbox));
        let waited = child.wait();
        talk.and(waited).map_err(|source| Error::Talk { source })?;
        while let Some(report) = take_frame(&mut inbox).map_err(|source| Error::Talk { source })? {
            match report {
                InitReport::Failed(failure) => return Ok(Err(failure)),
                InitReport::Probed(_)
                | InitReport::ProbedChroot(_)
                | InitReport::ProbedOpens(_) => {
                    return Ok(Ok(report));
                }
                InitReport::Stubs(_)
                | InitReport::RefusedRoot
                | InitReport::Started(_)
                | InitReport::Exited(_) => {}
            }
        }
        Err(Error::InitDied)
    }
}

/// Refuses what can be seen to be impossible before a process is started for it.
pub fn check(container: &Container) -> Result<(), Error> {
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
