//! The container's init process: kiln's binary under another name, with one thread.
//!
//! It reads its orders from the socket on its standard input, forks the container's pid 1 and waits for one of two
//! things: pid 1 ends, and that is reported; or the socket ends, because kiln cancelled or is gone, and pid 1 is
//! killed, which takes the whole process namespace with it.

pub(crate) mod bpf;
pub(crate) mod command;
pub(crate) mod filter;
mod guardian;
pub(crate) mod kernel_files;
pub(crate) mod outside;
pub(crate) mod prepare;
pub(crate) mod privileges;
pub(crate) mod processes;
pub(crate) mod strays;
pub(crate) mod walk;

use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use self::outside::Outside;
use crate::ladder::Isolation;
use crate::sys::{self, SignalFd};
use crate::wire::{Failure, FailureKind, Orders, Report, Step, read_orders, tell};
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
            tell(&mut control, &Report::Failed(failure));
            Err(())
        }
    }
}

fn follow_orders(control: &mut UnixStream) -> Result<Report, Failure> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open `/dev/null`".into())?;
    rustix::stdio::dup2_stdin(&null).step(|| "close the standard input".into())?;
    let orders = read_orders(control)
        .map_err(|_| Failure::new(FailureKind::Step, "read the orders", Errno::IO))?;
    // Out of the terminal's reach: its Ctrl-C goes to kiln, which decides.
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::reset_signals();
    if let Orders::Run(run) = &orders
        && !run.isolation.has_mounts()
    {
        guardian::stand_behind(run, &null)?;
    }
    let signals =
        SignalFd::new(&[libc::SIGCHLD]).step(|| "watch for the container's end".into())?;
    match &orders {
        Orders::Run(run) => {
            let outside = Outside { control, signals: &signals, null: &null };
            match &run.isolation {
                Isolation::Chroot(found) => {
                    return chroot::run(run, found.supervised.is_ok(), outside);
                }
                Isolation::InPlace => return in_place::run(run, outside),
                Isolation::Namespaces { .. } => {}
            }
        }
        Orders::ProbeChroot(directory) => {
            signals.restore();
            return chroot::probe(directory).map(Report::ProbedChroot);
        }
        Orders::Probe { .. } => {}
    }
    namespaces::run(orders, control, &signals, &null)
}
