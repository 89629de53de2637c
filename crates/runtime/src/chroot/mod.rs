//! A command in a plain folder as its root, where neither namespaces nor mounts are allowed: in an ordinary container,
//! as its root user.
//!
//! What mounts do elsewhere is done by moving things into the root and out again ([`place`]); what `/proc` and `/sys`
//! would show is answered call by call ([`supervisor`]). The init process stays outside, is the parent of all that the
//! command leaves behind, ends it, and puts everything back, also when kiln itself is gone.

mod filler;
mod kernel_folders;
mod landlock;
mod notify;
mod place;
mod probe;
mod supervisor;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use self::filler::Filler;
pub use self::filler::fill_wanted;
use self::notify::Rules;
use self::place::Placer;
pub use self::probe::probe;
use self::supervisor::{ContainerView, Links, Mounted, Supervisor};
use crate::container::{Container, Mount, MountKind, Network, RootSource, TerminalSize};
use crate::init::command::{
    Never, ResolvedCommand, WorkingFolder, become_and_execute, die_with_parent, prepare,
};
use crate::init::filter::{self, Apart};
use crate::init::outside::Outside;
use crate::init::processes::Children;
use crate::init::streams::CommandStreams;
use crate::init::walk::{Root, clean, file_type, open_folder};
use crate::init::watch::{CommandProcess, CommandWatch, NoReturn, Rung, birth_line};
use crate::init::{kernel_files, privileges};
use crate::passing;
use crate::sys::{self, Forked};
use crate::wire::{
    ExecOrders, FailureKind, InitReport, Orders, RunOrders, SetupFailure, StepContext, read_orders,
    tell,
};

/// Runs a container to its end.
pub fn run(
    orders: &RunOrders,
    supervised: bool,
    outside: Outside<'_>,
) -> Result<InitReport, SetupFailure> {
    let Outside { control, signals, streams } = outside;
    let container = &orders.container;
    refuse(container)?;
    let aside = orders.aside()?;
    sys::hide_from_others();
    rustix::process::umask(Mode::empty());
    let mut children = Children::adopt()?;
    let (directory, mut root) = open_directory(container)?;
    let prepared = prepare(container, &mut root, WorkingFolder::Made)?;

    let mut placer = Placer::new(aside)?;
    let filled = Filler { placer: &mut placer, root: &mut root, orders, supervised }.fill();
    tell(control, &InitReport::Stubs(root.take_stubs()));
    let kernels = filled?;
    let mut links = Links::default();
    if supervised {
        for (name, target) in kernel_files::LINKS {
            let target = if name == "ptmx" { "/dev/pts/ptmx" } else { target };
            links.learn(format!("/dev/{name}").as_bytes(), target.as_bytes());
        }
        links.devices = !has_devices(&root);
        kernel_folders::find_links(root.top(), &mut links);
    }

    let (ours, its) = birth_line()?;
    match sys::fork(None).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            // Nothing of the parent's is to be taken out twice.
            let _no_return = NoReturn;
            drop(ours);
            signals.restore();
            let command = FolderCommand {
                container,
                prepared,
                streams,
                terminal: orders.terminal,
                is_supervised: supervised,
            };
            let Err(failure) = become_command(&root, command, &its);
            tell(control, &InitReport::Failed(failure));
            Ok(InitReport::Exited(127))
        }
        Forked::Parent(pid) => {
            drop((its, streams));
            let supervisor = supervised.then(|| {
                let top = root.top().try_clone().map_err(|_| Errno::MFILE)?;
                Supervisor::new((directory, top), kernels, links, shown(container, pid))
            });
            let supervisor =
                supervisor.transpose().step(|| "begin to answer system calls".into())?;
            let first = CommandProcess::first(pid, control, Some(ours))?;
            let mut watch = CommandWatch::new(signals, SharedFolder { root, supervisor }, first);
            let status = watch.run();
            // Before anything is taken out.
            children.end_all();
            let supervisor = watch.into_rung().supervisor;
            if supervisor.is_some_and(|supervisor| supervisor.has_refused_a_root()) {
                tell(control, &InitReport::RefusedRoot);
            }
            drop(placer);
            status.map(InitReport::Exited)
        }
    }
}

/// A folder in which commands run.
struct SharedFolder {
    root: Root,
    supervisor: Option<Supervisor>,
}

impl Rung for SharedFolder {
    fn take_over(&mut self, message: &[u8], files: Vec<OwnedFd>) -> Option<OwnedFd> {
        if let (Some(supervisor), Ok(terminal)) = (&mut self.supervisor, message.try_into()) {
            supervisor.add_terminal(u32::from_le_bytes(terminal));
        }
        files.into_iter().next()
    }

    fn fork(&mut self) -> rustix::io::Result<Forked> {
        let forked = sys::fork(None)?;
        if let (Some(supervisor), Forked::Parent(pid)) = (&mut self.supervisor, &forked) {
            supervisor.hide(*pid);
        }
        Ok(forked)
    }

    fn begun(&mut self, pid: i32) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.show(pid);
        }
    }

    fn join(&mut self, line: &mut UnixStream, birth: &UnixStream) -> Result<Never, SetupFailure> {
        die_with_parent()?;
        let streams = CommandStreams::receive(line)?;
        let Ok(Orders::Exec(orders)) = read_orders(line) else {
            return Err(SetupFailure::new(FailureKind::Step, "read the orders", Errno::IO));
        };
        let ExecOrders { container, terminal } = *orders;
        let prepared = prepare(&container, &mut self.root, WorkingFolder::Found)?;
        let is_supervised = self.supervisor.is_some();
        let container = &container;
        let command = FolderCommand { container, prepared, streams, terminal, is_supervised };
        become_command(&self.root, command, birth)
    }

    fn serve(&mut self, listener: &OwnedFd) -> rustix::io::Result<()> {
        match &mut self.supervisor {
            Some(supervisor) => supervisor.serve_one(listener),
            None => Err(Errno::NOSYS),
        }
    }
}

/// The folder that is a container's root.
pub fn open_directory(container: &Container) -> Result<(&Path, Root), SetupFailure> {
    let RootSource::Directory(directory) = &container.root else {
        return Err(SetupFailure::plain(
            FailureKind::Refused,
            "a container without mounts needs a plain folder as its root",
        ));
    };
    let root = open_folder(directory)
        .and_then(Root::new)
        .step(|| format!("open the root `{}`", directory.display()))?;
    Ok((directory, root))
}

/// Refuses what needs namespaces.
pub fn refuse(container: &Container) -> Result<(), SetupFailure> {
    let no = |text: &str| Err(SetupFailure::plain(FailureKind::Refused, text));
    if container.network == Network::None {
        return no(
            "`--network=none` needs a network namespace, which this machine does not let kiln make",
        );
    }
    if container.readonly_root {
        return no("a read-only root needs a mount, which this machine does not let kiln make");
    }
    Ok(())
}

/// A command that is to run in a folder.
struct FolderCommand<'a> {
    container: &'a Container,
    prepared: ResolvedCommand,
    streams: CommandStreams,
    terminal: Option<TerminalSize>,
    is_supervised: bool,
}

/// The child: enters the root and becomes the command.
fn become_command(
    root: &Root,
    command: FolderCommand<'_>,
    birth: &UnixStream,
) -> Result<Never, SetupFailure> {
    let FolderCommand { container, prepared, streams, terminal, is_supervised } = command;
    die_with_parent()?;
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::leave_keyring();
    // The machine's: there are no others.
    let number = streams.take_on("/dev/ptmx", terminal)?;
    rustix::process::fchdir(root.top()).step(|| "enter the root".into())?;
    rustix::process::chroot(".").step(|| "make the folder the root".into())?;
    rustix::process::chdir("/").step(|| "enter the root".into())?;
    become_and_execute(container, prepared, || {
        // A change of user has made it visible.
        sys::hide_from_others();
        rustix::thread::set_no_new_privs(true).step(|| "forbid new privileges".into())?;
        privileges::give_up_chroot()?;
        // A second wall: nothing outside can be reached by now, and could not be opened either.
        landlock::confine_to(root.top()).step(|| "keep the command in its root".into())?;
        let apart = if is_supervised { Apart::Supervised } else { Apart::Folder };
        filter::take_calls(apart).step(|| "take system calls from the command".into())?;
        if !is_supervised {
            return Ok(());
        }
        let listener = notify::listen(&rules(container))
            .step(|| "have the command's system calls told".into())?;
        let message = number.map(u32::to_le_bytes);
        let message = message.as_ref().map_or(&b"+"[..], |number| &number[..]);
        passing::send(birth, message, &[listener.as_fd()]).step(|| "hand the listener over".into())
    })
}

/// The division of a command's calls between kernel and supervisor.
fn rules(container: &Container) -> Rules {
    let mut told = supervisor::calls();
    if container.mounts.iter().any(is_readonly) {
        told.extend(supervisor::changing_calls());
    }
    Rules { told, told_with: supervisor::tracing_calls(), dismissed: supervisor::syncing_calls() }
}

fn is_readonly(mount: &Mount) -> bool {
    match &mount.kind {
        MountKind::Bind { readonly, .. }
        | MountKind::Overlay { readonly, .. }
        | MountKind::Tmpfs { readonly, .. } => *readonly,
        MountKind::File { .. } => true,
    }
}

/// The mounts that the command sees in `/proc`, with the rest of its view of the machine.
fn shown(container: &Container, first: i32) -> ContainerView {
    let usual = [
        ("/", "overlay", false),
        ("/proc", "proc", false),
        ("/dev", "tmpfs", false),
        ("/dev/pts", "devpts", false),
        ("/dev/shm", "tmpfs", false),
        ("/dev/mqueue", "mqueue", false),
        ("/sys", "sysfs", true),
    ];
    let usual =
        usual.map(|(target, kind, readonly)| Mounted { target: target.into(), kind, readonly });
    let wanted = container.mounts.iter().map(|mount| Mounted {
        target: clean(&mount.target),
        kind: if let MountKind::Tmpfs { .. } = mount.kind { "tmpfs" } else { "overlay" },
        readonly: is_readonly(mount),
    });
    ContainerView {
        first,
        hostname: container.hostname.clone(),
        mounted: usual.into_iter().chain(wanted).collect(),
    }
}

/// True if device files work here.
fn has_devices(root: &Root) -> bool {
    let null = openat(
        root.top(),
        "dev/null",
        OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    null.is_ok_and(|null| file_type(&null) == Ok(rustix::fs::FileType::CharacterDevice))
}
