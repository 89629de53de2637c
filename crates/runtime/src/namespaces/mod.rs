//! A command in namespaces of its own, on an overlay or a plain folder.

mod devices;
mod first;
mod mounts;
mod overlay;
mod probe;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::init::outside::let_go_of_output;
use crate::sys::{self, Forked, SignalFd};
use crate::wire::{Failure, Orders, Report, Step, tell};

/// Runs a container, or tries what one needs, to its end.
pub fn run(
    mut orders: Orders,
    control: &mut UnixStream,
    signals: &SignalFd,
    null: &OwnedFd,
) -> Result<Report, Failure> {
    sys::unshare(UnshareFlags::NEWPID).step(|| "make a process namespace".into())?;
    match fork_into_cgroup(&mut orders).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            signals.restore();
            be_first(&orders, control)
        }
        Forked::Parent(pid) => {
            let_go_of_output(null)?;
            drop(orders);
            watch(pid, control, signals)
        }
    }
}

/// Forks, into the ordered cgroup if that is possible (kernel 5.7); else the orders have none any more.
fn fork_into_cgroup(orders: &mut Orders) -> rustix::io::Result<Forked> {
    if let Orders::Run(run) = orders
        && let Some(path) = &run.cgroup
    {
        let forked = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|cgroup| sys::fork(Some(&cgroup)));
        if forked.is_ok() {
            return forked;
        }
        run.cgroup = None;
    }
    sys::fork(None)
}

/// The container's pid 1, until it is the command.
fn be_first(orders: &Orders, control: &mut UnixStream) -> ! {
    let report = match orders {
        Orders::Run(run) => match first::become_command(run, control) {
            Ok(never) => match never {},
            Err(failure) => Report::Failed(failure),
        },
        Orders::Probe { directory, scratch } => match probe::probe(directory, scratch) {
            Ok(capabilities) => Report::Probed(capabilities),
            Err(failure) => Report::Failed(failure),
        },
        // Needs no child.
        Orders::ProbeChroot(_) => std::process::exit(127),
    };
    tell(control, &report);
    std::process::exit(127);
}

/// Waits for the end of pid 1, and brings it about when the other side of the socket is gone.
fn watch(pid: i32, control: &UnixStream, signals: &SignalFd) -> Result<Report, Failure> {
    loop {
        let mut ready = [
            PollFd::new(control, PollFlags::IN | PollFlags::HUP),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            result => result.step(|| "wait for the container".into())?,
        };
        let [control_ready, signal_ready] = ready.map(|ready| !ready.revents().is_empty());
        if control_ready {
            sys::kill(pid, libc::SIGKILL);
        }
        if control_ready || signal_ready {
            // SIGCHLD also comes when pid 1 stops, but waitpid without WUNTRACED waits for its end.
            let status = sys::wait_for(pid).step(|| "wait for the container's end".into())?;
            return Ok(Report::Exited(status));
        }
    }
}
