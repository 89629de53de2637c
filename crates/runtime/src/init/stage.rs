//! The container's pid 1 from its fork to the command: namespaces, root, mounts, pivot, rights.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use super::command::Command;
use super::mounts::{self, Surroundings};
use super::overlay::{Under, mount_overlay};
use super::walk::{Missing, Root, fd_path, file_type};
use super::{Never, filter, open_folder, privileges};
use crate::container::{Container, Network, Overlay, RootSource, Security, Writable};
use crate::identity::{Identity, home};
use crate::probe::Capabilities;
use crate::sys::{self, MountAttributes};
use crate::wire::{Failure, FailureKind, Report, RunOrders, Step, tell};

/// Largest `/etc/passwd` or `/etc/group` that is read, as in BuildKit.
const LARGEST_TABLE: u64 = 10 << 20;

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
        // While this process may: a filter of somebody without rights would keep programs from gaining any.
        filter::take_calls(filter::Apart::Namespaces)
            .step(|| "take system calls from the command".into())?;
    }
    become_and_execute(container, prepared, || Ok(()))
}

/// Who executes what.
pub struct Prepared {
    identity: Identity,
    command: Command,
}

/// Looks the user up in the root's own tables, and makes the working directory.
pub fn prepare(container: &Container, root: &mut Root) -> Result<Prepared, Failure> {
    let passwd = read_table(root, "/etc/passwd")?;
    let identity = match container.user.as_deref().filter(|user| !user.is_empty()) {
        Some(user) => Identity::resolve(user, &passwd, &read_table(root, "/etc/group")?)?,
        None => Identity::resolve("0", &passwd, &read_table(root, "/etc/group")?)
            .unwrap_or(Identity { uid: 0, gid: 0, groups: vec![0] }),
    };
    let command = Command::new(container, home(identity.uid, &passwd))?;
    let cwd = root
        .find(&container.cwd, Missing::Owned(identity.uid, identity.gid))
        .and_then(|place| if place.is_directory()? { Ok(()) } else { Err(Errno::NOTDIR) });
    cwd.step(|| format!("make the working directory `{}`", container.cwd))?;
    Ok(Prepared { identity, command })
}

/// In the root by now: takes the user's rights and becomes the command. `at_last` comes right before that.
pub fn become_and_execute(
    container: &Container,
    Prepared { identity, command }: Prepared,
    at_last: impl FnOnce() -> Result<(), Failure>,
) -> Result<Never, Failure> {
    enter_cwd(&container.cwd)?;
    privileges::set_limits(&container.ulimits)?;
    for fd in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        // So that another user than root can open /dev/stdout and /dev/stderr, which are pipes of ours.
        let _ = rustix::fs::fchown(fd, Some(rustix::process::Uid::from_raw(identity.uid)), None);
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    privileges::become_user(&identity, container.security)?;
    // A change of user resets it.
    die_with_parent()?;
    at_last()?;
    Err(command.execute())
}

/// Asks to be killed with the init process, wherever that ends.
pub fn die_with_parent() -> Result<(), Failure> {
    sys::die_with_parent().step(|| "tie the container to kiln".into())
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
fn private_scratch(scratch: &Path) -> Result<String, Failure> {
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

/// Reads `/etc/passwd` or `/etc/group`; a missing one, or one that is no file, is empty.
fn read_table(root: &mut Root, path: &str) -> Result<String, Failure> {
    let Ok(place) = root.find(path, Missing::Fail) else { return Ok(String::new()) };
    if file_type(&place.file) != Ok(FileType::RegularFile) {
        return Ok(String::new());
    }
    let fd = open(
        fd_path(&place.file),
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )
    .step(|| format!("open the container's {path}"))?;
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(LARGEST_TABLE + 1).read_to_end(&mut bytes).map_err(|_| {
        Failure::new(FailureKind::Step, format!("read the container's {path}"), Errno::IO)
    })?;
    if bytes.len() as u64 > LARGEST_TABLE {
        return Err(Failure::plain(
            FailureKind::Refused,
            format!("the container's {path} exceeds {LARGEST_TABLE} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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

/// Enters the working directory, made again if a mount hides the first one. The root is the container's by now.
fn enter_cwd(cwd: &str) -> Result<(), Failure> {
    match rustix::process::chdir(cwd) {
        Err(Errno::NOENT) => {
            rustix::process::umask(Mode::from_raw_mode(0o022));
            let made = std::fs::create_dir_all(cwd)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
            made.and_then(|()| rustix::process::chdir(cwd))
        }
        result => result,
    }
    .step(|| format!("enter the working directory `{cwd}`"))
}

/// Tries what a container needs. `directory` holds `lower`, `upper` and `work`.
pub fn probe(directory: &Path, scratch: &Path) -> Result<Capabilities, Failure> {
    die_with_parent()?;
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)
        .step(|| "make mount, host name and ipc namespaces".into())?;
    let scratch = private_scratch(scratch)?;
    let attempt = |name: &str, userxattr| {
        let overlay = Overlay {
            lowers: vec![directory.join("lower")],
            writable: Some(Writable {
                upper: directory.join("upper"),
                work: directory.join("work"),
            }),
            userxattr,
        };
        mount_overlay(
            &overlay,
            &format!("{scratch}/{name}"),
            Under { empty: Path::new("/"), stubs: None },
            false,
        )?;
        // What tells the two kinds apart: in a user namespace the first mounts too, but cannot mark a folder opaque.
        std::fs::rename("tree/folder", "tree/moved")
            .or_else(|error| {
                if error.kind() == std::io::ErrorKind::CrossesDevices { Ok(()) } else { Err(error) }
            })
            .and_then(|()| std::fs::remove_dir("tree/folder"))
            .and_then(|()| std::fs::create_dir("tree/folder"))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .step(|| "replace a folder in an overlay".into())
    };
    let user_namespace = !crate::standing::in_initial_user_namespace();
    let overlay = attempt("overlay", user_namespace).map_err(Failure::sentence);

    let fresh = |kind: &str| {
        let place = format!("{scratch}/{kind}");
        std::fs::create_dir(&place).is_ok()
            && mount(kind, &place, kind, MountFlags::empty(), None).is_ok()
    };
    Ok(Capabilities {
        userxattr: user_namespace,
        overlay,
        fresh_proc: fresh("proc"),
        fresh_sys: fresh("sysfs"),
        own_network: sys::unshare(UnshareFlags::NEWNET).is_ok(),
    })
}
