//! The container's pid 1 from its fork to the command: namespaces, root, mounts, pivot, rights.

use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use super::mounts::{self, Surroundings};
use super::overlay::{Under, mount_overlay};
use crate::container::{Container, Network, RootSource, Security};
use crate::init::filter;
use crate::init::prepare::{Never, become_and_execute, die_with_parent, prepare};
use crate::init::walk::{Root, open_folder};
use crate::sys::{self, MountAttributes};
use crate::wire::{Failure, FailureKind, Report, RunOrders, Step, tell};

/// Becomes the container's command.
pub fn become_command(orders: &RunOrders, control: &mut UnixStream) -> Result<Never, Failure> {
    let container = &orders.container;
    die_with_parent()?;
    let surroundings = isolate(container, orders)?;
    let mut root = mount_root(orders, &surroundings)?;
    let prepared = prepare(container, &mut root)?;

    mounts::mount_all(orders, &mut root, &surroundings, |stubs| {
        tell(control, &Report::Stubs(stubs))
    })?;
    pivot(root)?;
    if container.security == Security::Sandbox {
        // Before the rights are given up: a filter set without them needs `no_new_privs`, which breaks set-user-id programs.
        filter::take_calls(filter::Apart::Namespaces)
            .step(|| "take system calls from the command".into())?;
    }
    become_and_execute(container, prepared, || Ok(()))
}

/// Enters the namespaces, and prepares a folder in memory to work in.
fn isolate(container: &Container, orders: &RunOrders) -> Result<Surroundings, Failure> {
    rustix::process::setsid().step(|| "start a session".into())?;
    sys::leave_keyring();
    rustix::process::umask(Mode::empty());
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    let own_cgroup_view = mounts::unified_cgroups();
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
    Ok(Surroundings {
        scratch: private_scratch(&orders.scratch)?,
        sandbox: container.security == Security::Sandbox,
        guarded: orders.cgroup.is_some(),
        unified_cgroups: own_cgroup_view,
    })
}

/// Cuts the mount namespace off from the host's and mounts a folder in memory over `scratch`.
pub fn private_scratch(scratch: &Path) -> Result<String, Failure> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .step(|| "make the mounts private".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", scratch, "tmpfs", flags, c"mode=700")
        .step(|| format!("mount memory over `{}`", scratch.display()))?;
    // Orders are JSON, so the path is UTF-8.
    Ok(scratch.to_string_lossy().into_owned())
}

fn mount_root(orders: &RunOrders, surroundings: &Surroundings) -> Result<Root, Failure> {
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
                Failure::new(FailureKind::Step, "make the root's mount point", Errno::IO)
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
fn pivot(root: Root) -> Result<(), Failure> {
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
