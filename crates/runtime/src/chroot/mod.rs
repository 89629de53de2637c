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

use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use self::filler::Filler;
pub use self::filler::fill_wanted;
use self::notify::Rules;
use self::place::Placer;
pub use self::probe::probe;
use self::supervisor::{Links, Mounted, Shown, Supervisor};
use crate::container::{Container, Mount, MountKind, Network, RootSource};
use crate::init::filter::{self, Apart};
use crate::init::outside::{Outside, let_go_of_output};
use crate::init::prepare::{Never, Prepared, become_and_execute, die_with_parent, prepare};
use crate::init::processes::Children;
use crate::init::walk::{Root, clean, file_type, open_folder};
use crate::init::{kernel_files, privileges};
use crate::sys::{self, Forked, SignalFd};
use crate::wire::{Failure, FailureKind, Report, RunOrders, Step, tell};

/// Runs a container to its end.
pub fn run(orders: &RunOrders, supervised: bool, outside: Outside<'_>) -> Result<Report, Failure> {
    let Outside { control, signals, null } = outside;
    let container = &orders.container;
    refuse(container)?;
    let aside = orders.aside()?;
    sys::hide_from_others();
    rustix::process::umask(Mode::empty());
    let mut children = Children::adopt()?;
    let (directory, mut root) = open_directory(container)?;
    let prepared = prepare(container, &mut root)?;

    let mut placer = Placer::new(aside)?;
    let filled = Filler { placer: &mut placer, root: &mut root, orders, supervised }.fill();
    tell(control, &Report::Stubs(root.take_stubs()));
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

    let (ours, its) = UnixStream::pair()
        .map_err(|_| Failure::new(FailureKind::Step, "make a socket", Errno::MFILE))?;
    match sys::fork(None).step(|| "fork the container's first process".into())? {
        Forked::Child => {
            drop(ours);
            signals.restore();
            let Err(failure) =
                become_command(&root, container, prepared, supervised.then_some(its));
            tell(control, &Report::Failed(failure));
            // Nothing of the parent's is to be taken out twice.
            std::process::exit(127);
        }
        Forked::Parent(pid) => {
            drop(its);
            let_go_of_output(null)?;
            let mut supervisor = None;
            if supervised && let Ok(Some((_, Some(listener)))) = supervisor::receive_file(&ours) {
                let top = root.top().try_clone();
                let top = top
                    .map_err(|_| Failure::new(FailureKind::Step, "open the root", Errno::MFILE))?;
                let shown = shown(container, pid);
                let made = Supervisor::new(listener, (directory, top), kernels, links, shown);
                supervisor = Some(made.step(|| "begin to answer system calls".into())?);
            }
            let status = watch(pid, control, signals, supervisor.as_mut(), &mut children);
            // Before anything is taken out.
            children.end_all();
            if supervisor.is_some_and(|supervisor| supervisor.has_refused_a_root()) {
                tell(control, &Report::RefusedRoot);
            }
            drop(placer);
            status.map(Report::Exited)
        }
    }
}

/// The folder that is a container's root.
pub fn open_directory(container: &Container) -> Result<(&Path, Root), Failure> {
    let RootSource::Directory(directory) = &container.root else {
        return Err(Failure::plain(
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
pub fn refuse(container: &Container) -> Result<(), Failure> {
    let no = |text: &str| Err(Failure::plain(FailureKind::Refused, text));
    if container.network == Network::None {
        return no(
            "`--network=none` needs a network namespace, which this machine does not let kiln make",
        );
    }
    Ok(())
}

/// The child: enters the root and becomes the command.
fn become_command(
    root: &Root,
    container: &Container,
    prepared: Prepared,
    listener_to: Option<UnixStream>,
) -> Result<Never, Failure> {
    die_with_parent()?;
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::leave_keyring();
    rustix::process::fchdir(root.top()).step(|| "enter the root".into())?;
    rustix::process::chroot(".").step(|| "make the folder the root".into())?;
    rustix::process::chdir("/").step(|| "enter the root".into())?;
    become_and_execute(container, prepared, || {
        rustix::thread::set_no_new_privs(true).step(|| "forbid new privileges".into())?;
        privileges::give_up_chroot()?;
        // A second wall: nothing outside can be reached by now, and could not be opened either.
        landlock::confine_to(root.top()).step(|| "keep the command in its root".into())?;
        let apart = if listener_to.is_some() { Apart::Supervised } else { Apart::Folder };
        filter::take_calls(apart).step(|| "take system calls from the command".into())?;
        let Some(socket) = listener_to else { return Ok(()) };
        let listener = notify::listen(&rules(container))
            .step(|| "have the command's system calls told".into())?;
        supervisor::send_file(&socket, b"+", Some(&listener))
            .step(|| "hand the listener over".into())
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
fn shown(container: &Container, first: i32) -> Shown {
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
    Shown {
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

/// Waits for the end of the command, serving it meanwhile, and brings it about when kiln is gone.
pub fn watch(
    pid: i32,
    control: &UnixStream,
    signals: &SignalFd,
    mut supervisor: Option<&mut Supervisor>,
    children: &mut Children,
) -> Result<i32, Failure> {
    loop {
        let mut ready = vec![
            PollFd::new(control, PollFlags::IN | PollFlags::HUP),
            PollFd::new(signals, PollFlags::IN),
        ];
        if let Some(supervisor) = &supervisor {
            ready.push(PollFd::from_borrowed_fd(supervisor.as_fd(), PollFlags::IN));
        }
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            result => result.step(|| "wait for the container".into())?,
        };
        let ready: Vec<PollFlags> = ready.iter().map(PollFd::revents).collect();
        if !ready[0].is_empty() {
            sys::kill(pid, libc::SIGKILL);
        }
        if let (Some(serving), Some(calls)) = (&mut supervisor, ready.get(2)) {
            let gone = calls.contains(PollFlags::IN) && serving.serve_one().is_err();
            if gone || calls.intersects(PollFlags::HUP | PollFlags::ERR) {
                supervisor = None;
            }
        }
        if !ready[0].is_empty() || !ready[1].is_empty() {
            if !ready[1].is_empty() {
                signals.next().step(|| "wait for the container's end".into())?;
            }
            let ended =
                if ready[0].is_empty() { children.ended(pid) } else { children.wait_for(pid) };
            if let Some(status) = ended.step(|| "wait for the container's end".into())? {
                return Ok(status);
            }
        }
    }
}
