//! The container's init process: kiln's binary under another name, with one thread.
//!
//! It reads its orders from the socket on its standard input, forks the container's pid 1 and waits for one of two
//! things: pid 1 ends, and that is reported; or the socket ends, because kiln cancelled or is gone, and pid 1 is
//! killed, which takes the whole process namespace with it. Meanwhile it passes signals on and starts further commands
//! ([`watch`]).

pub(crate) mod bpf;
pub(crate) mod command;
pub(crate) mod filter;
pub(crate) mod first_process;
mod guardian;
pub(crate) mod kernel_files;
pub(crate) mod outside;
pub(crate) mod privileges;
pub(crate) mod processes;
pub(crate) mod strays;
pub(crate) mod streams;
pub(crate) mod walk;
pub(crate) mod watch;

use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use self::outside::Outside;
use self::streams::CommandStreams;
use crate::ladder::Isolation;
use crate::sys::{self, SignalFd};
use crate::wire::{FailureKind, InitReport, Orders, SetupFailure, StepContext, read_orders, tell};
use crate::{chroot, in_place, namespaces};

/// The name under which kiln's binary is a container's init process.
pub(crate) const INIT_NAME: &str = "kiln-init";

/// Call this first thing in `main`: in a container's init process it does its work and does not return.
///
/// Started by hand under that name, the binary is a process that waits for orders on its standard input.
pub fn init_if_asked() {
    if std::env::args_os().next().is_some_and(|name| name == INIT_NAME) {
        // kiln has its report by now; the status only serves a log of processes.
        let code = i32::from(supervise().is_err());
        std::process::exit(code);
    }
}

/// The whole life of the init process. An error has been reported where there was someone to tell.
fn supervise() -> Result<(), ()> {
    sys::close_inherited();
    let mut control = UnixStream::from(sys::take_stdin().map_err(drop)?);
    match follow_orders(&mut control) {
        Ok(report) => {
            tell(&mut control, &report);
            Ok(())
        }
        Err(failure) => {
            tell(&mut control, &InitReport::Failed(failure));
            Err(())
        }
    }
}

fn follow_orders(control: &mut UnixStream) -> Result<InitReport, SetupFailure> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open `/dev/null`".into())?;
    rustix::stdio::dup2_stdin(null).step(|| "close the standard input".into())?;
    let streams = CommandStreams::receive(control)?;
    let orders = read_orders(control)
        .map_err(|_| SetupFailure::new(FailureKind::Step, "read the orders", Errno::IO))?;
    // Out of the terminal's reach: its Ctrl-C goes to kiln, which decides.
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::reset_signals();
    if let Orders::Run(run) = &orders
        && !run.isolation.has_mounts()
    {
        guardian::stand_behind(run)?;
    }
    let signals =
        SignalFd::new(&[libc::SIGCHLD]).step(|| "watch for the container's end".into())?;
    let outside = Outside { control, signals: &signals, streams };
    match &orders {
        Orders::Run(run) => match &run.isolation {
            Isolation::Chroot(found) => chroot::run(run, found.supervised.is_ok(), outside),
            Isolation::InPlace => in_place::run(run, outside),
            Isolation::Namespaces { .. } => namespaces::run(orders, outside),
        },
        Orders::ProbeChroot(directory) => {
            signals.restore();
            chroot::probe(directory).map(InitReport::ProbedChroot)
        }
        Orders::Probe { .. } | Orders::ProbeOpens { .. } => namespaces::run(orders, outside),
        Orders::Exec(_) | Orders::OpenRoot => {
            Err(SetupFailure::plain(FailureKind::Refused, "no container runs here"))
        }
    }
}
