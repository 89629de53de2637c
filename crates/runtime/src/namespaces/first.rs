//! The container's pid 1 from its fork to the command: namespaces, root, mounts, pivot, rights.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use super::mount_facts::{MountFacts, unified_cgroups};
use super::mounts;
use super::overlay::{Under, mount_overlay};
use crate::container::{Container, Network, RootSource, Security};
use crate::init::command::{Never, WorkingFolder, become_and_execute, die_with_parent, prepare};
use crate::init::streams::CommandStreams;
use crate::init::walk::{Root, clean, open_folder};
use crate::init::{filter, first_process};
use crate::passing;
use crate::sys::{self, MountAttributes};
use crate::wire::{FailureKind, InitReport, RunOrders, SetupFailure, StepContext, tell};

/// The first process's own ends.
pub struct Birth<'a> {
    pub streams: CommandStreams,
    /// The line to the init process of a container that others are to join.
    pub line: Option<&'a UnixStream>,
}

/// The multiplexer of the container's own terminals.
pub const MULTIPLEXER: &str = "/dev/pts/ptmx";

/// Becomes the container's command.
pub fn become_command(
    orders: &RunOrders,
    control: &mut UnixStream,
    birth: Birth<'_>,
) -> Result<Never, SetupFailure> {
    let container = &orders.container;
    die_with_parent()?;
    let surroundings = isolate(container, orders)?;
    if let Some(line) = birth.line {
        send_namespaces(container, line).step(|| "tell the namespaces".into())?;
    }
    let mut root = mount_root(orders, &surroundings)?;
    let prepared = prepare(container, &mut root, WorkingFolder::Made)?;

    mounts::mount_all(orders, &mut root, &surroundings, |stubs| {
        tell(control, &InitReport::Stubs(stubs))
    })?;
    if container.readonly_root {
        sys::mount_attributes(root.top(), &MountAttributes::READONLY, false)
            .step(|| "make the root read-only".into())?;
    }
    pivot(root)?;
    if let Some(number) = birth.streams.take_on(MULTIPLEXER, orders.terminal)? {
        place_console(container, number)?;
    }
    if container.security == Security::Sandbox {
        // Before the rights are given up: a filter set without them needs `no_new_privs`, which breaks set-user-id programs.
        filter::take_calls(filter::Apart::Namespaces)
            .step(|| "take system calls from the command".into())?;
    }
    become_and_execute(container, prepared, || match container.init {
        true => first_process::stay_behind(),
        false => Ok(()),
    })
}

/// Hands the namespaces over to the init process, which could not open them once the command has another user.
fn send_namespaces(container: &Container, line: &UnixStream) -> rustix::io::Result<()> {
    let mut names = vec!["ipc", "uts"];
    if unified_cgroups() {
        names.push("cgroup");
    }
    if container.network == Network::None {
        names.push("net");
    }
    // Last: after it, paths are the container's.
    names.push("mnt");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened: rustix::io::Result<Vec<OwnedFd>> = names
        .iter()
        .map(|name| open(format!("/proc/self/ns/{name}"), flags, Mode::empty()))
        .collect();
    let opened = opened?;
    let files: Vec<BorrowedFd<'_>> = opened.iter().map(AsFd::as_fd).collect();
    passing::send(line, b"+", &files)
}

/// Makes `/dev/console` the command's terminal, as Docker does, unless the container has a `/dev` or console of its own.
fn place_console(container: &Container, terminal: u32) -> Result<(), SetupFailure> {
    const CONSOLE: &str = "/dev/console";
    if container.mounts.iter().any(|mount| clean(&mount.target) == "/dev") {
        return Ok(());
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match open(CONSOLE, flags, Mode::from_raw_mode(0o620)) {
        Err(Errno::EXIST) => Ok(()),
        made => made
            .and_then(|_| rustix::mount::mount_bind(format!("/dev/pts/{terminal}"), CONSOLE))
            .step(|| format!("make `{CONSOLE}`")),
    }
}

/// Enters the namespaces, and prepares a folder in memory to work in.
fn isolate(container: &Container, orders: &RunOrders) -> Result<MountFacts, SetupFailure> {
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::leave_keyring();
    rustix::process::umask(Mode::empty());
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    let own_cgroup_view = unified_cgroups();
    if own_cgroup_view {
        flags |= UnshareFlags::NEWCGROUP;
    }
    if container.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    sys::unshare(flags).step(|| "make namespaces".into())?;
    if container.network == Network::None {
        sys::loopback_up().step(|| "switch the loopback interface on".into())?;
    }
    rustix::system::sethostname(container.hostname.as_bytes())
        .step(|| "set the hostname".into())?;
    Ok(MountFacts {
        scratch: private_scratch(&orders.scratch)?,
        sandbox: container.security == Security::Sandbox,
        guarded: orders.cgroup.is_some(),
        unified_cgroups: own_cgroup_view,
    })
}

/// Cuts the mount namespace off from the host's and mounts a folder in memory over `scratch`.
pub fn private_scratch(scratch: &Path) -> Result<String, SetupFailure> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .step(|| "make the mounts private".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", scratch, "tmpfs", flags, c"mode=700")
        .step(|| format!("mount memory over `{}`", scratch.display()))?;
    // Orders are JSON, so the path is UTF-8.
    Ok(scratch.to_string_lossy().into_owned())
}

fn mount_root(orders: &RunOrders, surroundings: &MountFacts) -> Result<Root, SetupFailure> {
    let folder = format!("{}/root", surroundings.scratch);
    let tree = format!("{folder}/tree");
    let nodev = surroundings.without_devices();
    match &orders.container.root {
        RootSource::Overlay(overlay) => mount_overlay(
            overlay,
            &folder,
            Under { empty: &orders.empty, stubs: Some(&orders.stubs) },
            nodev,
        )?,
        RootSource::Directory(directory) => {
            std::fs::create_dir_all(&tree).map_err(|_| {
                SetupFailure::new(FailureKind::Step, "make the root's mount point", Errno::IO)
            })?;
            rustix::mount::mount_bind_recursive(directory, &tree)
                .step(|| format!("mount the root `{}`", directory.display()))?;
            let attributes = if nodev { MountAttributes::NODEV } else { MountAttributes::NONE };
            let mounted = open_folder(&tree).step(|| "open the root".into())?;
            sys::mount_attributes(&mounted, &attributes, false)
                .step(|| "keep devices off the root".into())?;
        }
    }
    open_folder(&tree).and_then(Root::new).step(|| "open the root".into())
}

/// Makes `root` the root, and lets go of the host's.
fn pivot(root: Root) -> Result<(), SetupFailure> {
    rustix::process::fchdir(root.top()).step(|| "enter the root".into())?;
    drop(root);
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => unmount(".", UnmountFlags::DETACH).step(|| "let go of the host's root".into())?,
        // The host runs from its initial ramdisk, which cannot be pivoted away; as switch_root does it.
        Err(Errno::INVAL) => {
            rustix::mount::mount_move(".", "/").step(|| "move the root".into())?;
            rustix::process::chroot(".").step(|| "enter the moved root".into())?;
        }
        Err(errno) => return Err(errno).step(|| "pivot into the root".into()),
    }
    rustix::process::chdir("/").step(|| "enter the root".into())
}
