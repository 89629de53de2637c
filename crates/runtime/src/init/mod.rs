//! The container's init process: kiln's binary under another name, with one thread.
//!
//! It reads its orders from the socket on its standard input, forks the container's pid 1 and waits for one of two
//! things: pid 1 ends, and that is reported; or the socket ends, because kiln cancelled or is gone, and pid 1 is
//! killed, which takes the whole process namespace with it.

mod chroot;
mod command;
mod devices;
mod filter;
mod guardian;
pub(crate) mod in_place;
mod mounts;
mod overlay;
pub(crate) mod privileges;
mod stage;
pub(crate) mod walk;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::sys::{self, Forked, SignalFd};
use crate::wire::{Failure, FailureKind, Orders, Report, Step, Way, read_orders, tell};

/// The name under which kiln's binary is a container's init process.
pub(crate) const INIT_NAME: &str = "kiln-init";

/// Call this first thing in `main`: in a container's init process it does its work and does not return.
///
/// Whoever starts the binary under that name by hand gets a process that waits for orders on its standard input.
pub fn init_if_asked() {
    if std::env::args_os().next().is_some_and(|name| name == INIT_NAME) {
        // What kiln is to know has been told; the status is for a log of processes at most.
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
    let mut orders = read_orders(control)
        .map_err(|_| Failure::new(FailureKind::Step, "read the orders", Errno::IO))?;
    // Out of the terminal's reach: its Ctrl-C goes to kiln, which decides.
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::reset_signals();
    if let Orders::Run(run) = &orders
        && !matches!(run.way, Way::Namespaces)
    {
        guardian::stand_behind(run, &null)?;
    }
    let signals =
        SignalFd::new(&[libc::SIGCHLD]).step(|| "watch for the container's end".into())?;
    match &orders {
        Orders::Run(run) => {
            if let Way::Chroot { aside, supervised } = &run.way {
                let outside = Outside { control, signals: &signals, null: &null };
                return chroot::run(run, aside, *supervised, outside);
            }
            if let Way::InPlace { aside, state, kept } = &run.way {
                let outside = Outside { control, signals: &signals, null: &null };
                return in_place::run(run, aside, state, kept, outside);
            }
        }
        Orders::ProbeChroot(directory) => {
            signals.restore();
            return chroot::probe(directory).map(Report::ProbedChroot);
        }
        Orders::Probe { .. } => {}
    }
    sys::unshare(UnshareFlags::NEWPID).step(|| "make a process namespace".into())?;
    match fork_into_cgroup(&mut orders).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            signals.restore();
            drop(signals);
            be_first(&orders, control)
        }
        Forked::Parent(pid) => {
            let_go_of_output(&null)?;
            drop(orders);
            watch(pid, control, &signals)
        }
    }
}

/// What the init process has to do with but the container.
pub(crate) struct Outside<'a> {
    /// kiln.
    control: &'a mut UnixStream,
    /// Its children's ends.
    signals: &'a SignalFd,
    /// `/dev/null`.
    null: &'a OwnedFd,
}

/// Closes the command's output here: it ends with the command, not with us.
fn let_go_of_output(null: &OwnedFd) -> Result<(), Failure> {
    for close in [rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr] {
        close(null).step(|| "let go of the output".into())?;
    }
    Ok(())
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
        Orders::Run(run) => match stage::become_command(run, control) {
            Ok(never) => match never {},
            Err(failure) => Report::Failed(failure),
        },
        Orders::Probe { directory, scratch } => match stage::probe(directory, scratch) {
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

/// What the pid 1 returns when it became the command: nothing.
type Never = Infallible;

/// Opens what is to be mounted as a path: a file, folder or socket. A link in its place is somebody else's work.
fn open_source(path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let source = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    match walk::file_type(&source)? {
        rustix::fs::FileType::Symlink => Err(Errno::LOOP),
        _ => Ok(source),
    }
}

/// Opens a folder as a path.
fn open_folder(path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
