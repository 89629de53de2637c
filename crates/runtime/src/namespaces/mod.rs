//! A command in namespaces of its own, on an overlay or a plain folder.

mod devices;
mod first;
mod join;
mod mount_facts;
mod mounts;
mod opens;
mod overlay;
mod probe;

use std::os::unix::net::UnixStream;

use rustix::thread::UnshareFlags;

use self::first::Birth;
use self::join::{Namespaces, open_cgroup};
use crate::init::outside::Outside;
use crate::init::watch::{CommandProcess, CommandWatch, NoReturn, birth_line};
use crate::sys::{self, Forked};
use crate::wire::{InitReport, Orders, SetupFailure, StepContext, tell};

/// Runs a container, or tries what one needs, to its end.
pub fn run(mut orders: Orders, outside: Outside<'_>) -> Result<InitReport, SetupFailure> {
    let Outside { control, signals, streams } = outside;
    sys::unshare(UnshareFlags::NEWPID).step(|| "make a process namespace".into())?;
    let is_joinable = matches!(&orders, Orders::Run(run) if run.is_joinable);
    let birth = is_joinable.then(birth_line).transpose()?;
    match fork_into_cgroup(&mut orders).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            let _no_return = NoReturn;
            signals.restore();
            let line = birth.map(|(ours, its)| {
                drop(ours);
                its
            });
            be_first(&orders, control, Birth { streams, line: line.as_ref() });
            Ok(InitReport::Exited(127))
        }
        Forked::Parent(pid) => {
            drop(streams);
            let cgroup = match orders {
                Orders::Run(run) => run.cgroup,
                _ => None,
            };
            let first = CommandProcess::first(pid, control, birth.map(|(ours, _)| ours))?;
            CommandWatch::new(signals, Namespaces::new(cgroup), first).run().map(InitReport::Exited)
        }
    }
}

/// Forks, into the ordered cgroup if that is possible (kernel 5.7); else the orders have none any more.
fn fork_into_cgroup(orders: &mut Orders) -> rustix::io::Result<Forked> {
    if let Orders::Run(run) = orders
        && let Some(path) = &run.cgroup
    {
        let forked = open_cgroup(path).and_then(|cgroup| sys::fork(Some(&cgroup)));
        if forked.is_ok() {
            return forked;
        }
        run.cgroup = None;
    }
    sys::fork(None)
}

/// The container's pid 1, until it is the command. Returns if it could not be that.
fn be_first(orders: &Orders, control: &mut UnixStream, birth: Birth<'_>) {
    let report = match orders {
        Orders::Run(run) => match first::become_command(run, control, birth) {
            Ok(never) => match never {},
            Err(failure) => InitReport::Failed(failure),
        },
        Orders::Probe { directory, scratch } => match probe::probe(directory, scratch) {
            Ok(capabilities) => InitReport::Probed(capabilities),
            Err(failure) => InitReport::Failed(failure),
        },
        Orders::ProbeOpens { directory, scratch } => match opens::probe(directory, scratch) {
            Ok(found) => InitReport::ProbedOpens(found),
            Err(failure) => InitReport::Failed(failure),
        },
        // They need no child.
        Orders::ProbeChroot(_) | Orders::Exec(_) | Orders::OpenRoot => return,
    };
    tell(control, &report);
}
