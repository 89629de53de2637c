//! Further commands in the namespaces of a container.
//!
//! The init process made the process namespace and its first process, so each process that it forks is in there from its
//! birth. The other namespaces are those that the first process handed over while it was kiln's own code. A process that
//! joins has more rights than those around it until it is its command: it is hidden from them, and uses no file of
//! theirs but the tables of users.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::move_into_link_name_space;

use super::first::MULTIPLEXER;
use crate::container::Security;
use crate::init::command::{Never, WorkingFolder, become_and_execute, die_with_parent, prepare};
use crate::init::filter;
use crate::init::streams::CommandStreams;
use crate::init::walk::{Root, open_folder};
use crate::init::watch::Rung;
use crate::passing;
use crate::sys::{self, Forked};
use crate::wire::{ExecOrders, FailureKind, Orders, SetupFailure, StepContext, read_orders};

/// The namespaces of a container.
pub struct Namespaces {
    /// The cgroup in which the first process was born.
    cgroup: Option<PathBuf>,
    /// In the order in which they are joined.
    others: Vec<OwnedFd>,
}

impl Namespaces {
    pub fn new(cgroup: Option<PathBuf>) -> Namespaces {
        Namespaces { cgroup, others: Vec::new() }
    }

    /// Enters the namespaces: from then on, `/` is the container's.
    fn enter(&self) -> Result<OwnedFd, SetupFailure> {
        if self.others.is_empty() {
            let reason = "the container is not one that others can join";
            return Err(SetupFailure::plain(FailureKind::Refused, reason));
        }
        self.others
            .iter()
            .try_for_each(|namespace| move_into_link_name_space(namespace.as_fd(), None))
            .and_then(|()| open_folder("/"))
            .step(|| "join the container's namespaces".into())
    }
}

/// Opens a cgroup, to be born in it.
pub fn open_cgroup(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

impl Rung for Namespaces {
    fn take_over(&mut self, _: &[u8], files: Vec<OwnedFd>) -> Option<OwnedFd> {
        // Only the first process has any.
        if self.others.is_empty() {
            self.others = files;
        }
        None
    }

    fn fork(&mut self) -> rustix::io::Result<Forked> {
        // Before the birth in a namespace whose other processes could look.
        sys::hide_from_others();
        match &self.cgroup {
            Some(path) => sys::fork(Some(&open_cgroup(path)?)),
            None => sys::fork(None),
        }
    }

    fn join(&mut self, line: &mut UnixStream, _: &UnixStream) -> Result<Never, SetupFailure> {
        die_with_parent()?;
        rustix::process::setsid().step(|| "start a session".into())?;
        sys::leave_keyring();
        rustix::process::umask(Mode::empty());
        let streams = CommandStreams::receive(line)?;
        let orders = read_orders(line)
            .map_err(|_| SetupFailure::new(FailureKind::Step, "read the orders", Errno::IO))?;
        let top = self.enter()?;
        self.others.clear();
        match orders {
            Orders::Exec(orders) => become_command(&orders, streams, top),
            Orders::OpenRoot => {
                passing::send(&*line, b"+", &[top.as_fd()]).step(|| "hand the root over".into())?;
                std::process::exit(0)
            }
            Orders::Run(_)
            | Orders::Probe { .. }
            | Orders::ProbeOpens { .. }
            | Orders::ProbeChroot(_) => {
                Err(SetupFailure::plain(FailureKind::Refused, "a container runs here already"))
            }
        }
    }

    fn begun(&mut self, _: i32) {}

    fn serve(&mut self, _: &OwnedFd) -> rustix::io::Result<()> {
        Err(Errno::NOSYS)
    }
}

fn become_command(
    orders: &ExecOrders,
    streams: CommandStreams,
    top: OwnedFd,
) -> Result<Never, SetupFailure> {
    let ExecOrders { container, terminal } = orders;
    let mut root = Root::new(top).step(|| "open the root".into())?;
    let prepared = prepare(container, &mut root, WorkingFolder::Found)?;
    drop(root);
    streams.take_on(MULTIPLEXER, *terminal)?;
    if container.security == Security::Sandbox {
        filter::take_calls(filter::Apart::Namespaces)
            .step(|| "take system calls from the command".into())?;
    }
    become_and_execute(container, prepared, || {
        // A change of user has made it visible.
        sys::hide_from_others();
        Ok(())
    })
}
