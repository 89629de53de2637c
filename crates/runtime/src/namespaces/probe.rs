//! A trial of what a container in namespaces needs.

use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::thread::UnshareFlags;

use super::first::private_scratch;
use super::overlay::{Under, mount_overlay};
use crate::container::{Overlay, Writable};
use crate::init::command::die_with_parent;
use crate::ladder::NamespaceCapabilities;
use crate::sys;
use crate::wire::{SetupFailure, StepContext};

/// Tries what a container needs. `directory` holds `lower`, `upper` and `work`.
pub fn probe(directory: &Path, scratch: &Path) -> Result<NamespaceCapabilities, SetupFailure> {
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
        // A mount alone proves nothing: in a user namespace an overlay without `userxattr` mounts too, but cannot mark a
        // folder opaque.
        std::fs::rename("tree/folder", "tree/moved")
            .or_else(|error| {
                if error.kind() == std::io::ErrorKind::CrossesDevices { Ok(()) } else { Err(error) }
            })
            .and_then(|()| std::fs::remove_dir("tree/folder"))
            .and_then(|()| std::fs::create_dir("tree/folder"))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .step(|| "replace a folder in an overlay".into())
    };
    let user_namespace = !crate::privilege::in_initial_user_namespace();
    let overlay = attempt("overlay", user_namespace).map_err(SetupFailure::reason);

    let fresh = |kind: &str| {
        let place = format!("{scratch}/{kind}");
        std::fs::create_dir(&place).is_ok()
            && mount(kind, &place, kind, MountFlags::empty(), None).is_ok()
    };
    Ok(NamespaceCapabilities {
        userxattr: user_namespace,
        overlay,
        fresh_proc: fresh("proc"),
        fresh_sys: fresh("sysfs"),
        own_network: sys::unshare(UnshareFlags::NEWNET).is_ok(),
    })
}
