//! The files of `/dev`.

use rustix::fs::{AtFlags, CWD, FileType, Mode, makedev, mkdirat, mknodat, statat, symlinkat};
use rustix::io::Errno;
use rustix::mount::mount_bind;

use super::mount_facts::MountFacts;
use crate::init::kernel_files::{DEVICES, LINKS};
use crate::init::walk::{Missing, Root, fd_path};
use crate::sys;
use crate::wire::{SetupFailure, StepContext};

/// The character devices that an insecure container has on top, with their folder where there is one.
const INSECURE: [(&str, u32, u32); 6] = [
    ("kmsg", 1, 11),
    ("cuse", 10, 203),
    ("fuse", 10, 229),
    ("kvm", 10, 232),
    ("net/tun", 10, 200),
    ("loop-control", 10, 237),
];

/// Fills the container's `/dev`.
pub fn fill_dev(root: &mut Root, surroundings: &MountFacts) -> Result<(), SetupFailure> {
    let dev =
        root.find("/dev", Missing::Directory).step(|| "open the container's `/dev`".into())?;
    for (name, major, minor) in DEVICES {
        // Device files are made, so that a RUN can remove and replace them; the host's are bound in a user namespace and
        // wherever made ones do not work.
        let made = if surroundings.without_devices() {
            Err(Errno::PERM)
        } else {
            make_device(&dev.file, name, FileType::CharacterDevice, (major, minor))
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(_) => bind_device(root, name).step(|| format!("make the device `/dev/{name}`"))?,
        }
    }
    for (name, target) in LINKS {
        match symlinkat(target, &dev.file, name) {
            Err(Errno::EXIST) => {}
            result => result.step(|| format!("link `/dev/{name}`"))?,
        }
    }
    if statat(CWD, "/proc/kcore", AtFlags::empty()).is_ok() {
        match symlinkat("/proc/kcore", &dev.file, "core") {
            Err(Errno::EXIST) => {}
            result => result.step(|| "link `/dev/core`".into())?,
        }
    }
    if !surroundings.sandbox && crate::privilege::in_initial_user_namespace() {
        fill_insecure(&dev.file)?;
    }
    Ok(())
}

fn make_device(
    dev: &rustix::fd::OwnedFd,
    name: &str,
    kind: FileType,
    (major, minor): (u32, u32),
) -> rustix::io::Result<()> {
    mknodat(dev, name, kind, Mode::from_raw_mode(0o666), makedev(major, minor))
}

fn bind_device(root: &mut Root, name: &str) -> rustix::io::Result<()> {
    let path = format!("/dev/{name}");
    let place = root.find(&path, Missing::File)?;
    mount_bind(path.as_str(), fd_path(&place.file))
}

/// The host's devices that BuildKit gives an insecure container; the loop devices up to the eighth free one.
fn fill_insecure(dev: &rustix::fd::OwnedFd) -> Result<(), SetupFailure> {
    match mkdirat(dev, "net", Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => {}
        result => result.step(|| "make `/dev/net`".into())?,
    }
    let characters = INSECURE
        .map(|(name, major, minor)| (name.to_owned(), FileType::CharacterDevice, (major, minor)));
    let free = sys::free_loop_device().unwrap_or(0).clamp(0, 1 << 10) as u32;
    let loops =
        (0..=free + 7).map(|number| (format!("loop{number}"), FileType::BlockDevice, (7, number)));
    for (name, kind, numbers) in characters.into_iter().chain(loops) {
        match make_device(dev, &name, kind, numbers) {
            Err(Errno::EXIST) => {}
            result => result.step(|| format!("make the device `/dev/{name}`"))?,
        }
    }
    Ok(())
}
