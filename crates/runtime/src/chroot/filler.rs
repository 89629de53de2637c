//! Filling a plain root with what mounts would put there.

use std::path::Path;

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};
use rustix::io::Errno;

use super::kernel_folders;
use super::place::Placer;
use super::supervisor::Kernels;
use crate::container::{Mount, MountKind};
use crate::init::walk::{LocatedFile, Missing, Root, clean, open_folder, open_source, refuse_link};
use crate::wire::{FailureKind, RunOrders, SetupFailure, StepContext};

/// Puts what is to be mounted into a root where the machine's own `/proc`, `/sys` and `/dev` will be.
pub fn fill_wanted(
    orders: &RunOrders,
    aside: &Path,
    root: &mut Root,
) -> Result<Placer, SetupFailure> {
    let mut placer = Placer::new(aside)?;
    let mut filler = Filler { placer: &mut placer, root, orders, supervised: false };
    let wanted = filler.wanted();
    filler.fill_wanted(&wanted)?;
    Ok(placer)
}

/// Puts everything into the root that mounts would put there.
pub struct Filler<'a> {
    pub placer: &'a mut Placer,
    pub root: &'a mut Root,
    pub orders: &'a RunOrders,
    pub supervised: bool,
}

impl<'a> Filler<'a> {
    fn wanted(&self) -> Vec<(String, &'a Mount)> {
        let mounts = self.orders.container.mounts.iter();
        mounts.map(|mount| (clean(&mount.target), mount)).collect()
    }

    /// Fills the root; what stands at the kernel's folders, where it is ours.
    pub fn fill(mut self) -> Result<Kernels, SetupFailure> {
        let wanted = self.wanted();
        let is_wanted = |target: &str| wanted.iter().any(|(wanted, _)| wanted == target);
        let mut kernels = Kernels::default();
        for target in ["/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts"] {
            if is_wanted(target) {
                continue;
            }
            let name = match target {
                "/proc" => kernel_folders::make_proc(self.placer, self.supervised)?,
                "/dev" => kernel_folders::make_dev(self.placer)?,
                "/sys" => kernel_folders::make_sys(self.placer)?,
                "/etc/resolv.conf" => {
                    self.file(self.orders.resolv_conf.as_bytes(), (0o644, 0, 0))?
                }
                _ => self.file(self.orders.hosts.as_bytes(), (0o644, 0, 0))?,
            };
            if !target.starts_with("/etc") {
                refuse_link(self.root, target)?;
            }
            self.placer.place_own(self.root, target, &name)?;
            let mut find = |path: &str| {
                let place = self.root.find(path, Missing::Fail).step(|| format!("open `{path}`"));
                place.map(|place| Some(place.file))
            };
            match target {
                "/proc" => kernels.proc = find(target)?,
                "/sys" => kernels.sys = find(target)?,
                "/dev" => kernels.pts = find("/dev/pts")?,
                _ => {}
            }
        }
        self.fill_wanted(&wanted)?;
        Ok(kernels)
    }

    fn fill_wanted(&mut self, wanted: &[(String, &Mount)]) -> Result<(), SetupFailure> {
        for (place, (target, mount)) in wanted.iter().enumerate() {
            // The last of several counts.
            if !wanted[place + 1..].iter().any(|(later, _)| later == target) {
                self.place_wanted(target, &mount.kind)?;
            }
        }
        Ok(())
    }

    fn place_wanted(&mut self, target: &str, kind: &MountKind) -> Result<(), SetupFailure> {
        match kind {
            MountKind::Bind { source, subpath, readonly: _ } => {
                let place = find_source(source, subpath)?;
                self.placer.place_other(self.root, target, place)
            }
            MountKind::Tmpfs { .. } => {
                let (_, name) = self.placer.folder(0o1777).step(|| format!("make `{target}`"))?;
                self.placer.place_own(self.root, target, &name)
            }
            MountKind::File { content, mode, uid, gid } => {
                let name = self.file(content.bytes(), (*mode, *uid, *gid))?;
                self.placer.place_own(self.root, target, &name)
            }
            MountKind::Overlay { .. } => Err(SetupFailure::plain(
                FailureKind::Refused,
                format!("`{target}`: layers cannot be mounted here, only folders be moved"),
            )),
        }
    }

    fn file(
        &mut self,
        content: &[u8],
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<String, SetupFailure> {
        let (fd, name) = self.placer.file().step(|| "make a file to be mounted".into())?;
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .and_then(|()| fchmod(&fd, Mode::from_raw_mode(mode & 0o777)))
            .step(|| format!("give a mounted file to {uid}:{gid}"))?;
        std::io::Write::write_all(&mut std::fs::File::from(fd), content)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .step(|| "write a mounted file".into())?;
        Ok(name)
    }
}

/// The source of a mount that is moved into the root, with its folder.
fn find_source(source: &Path, subpath: &str) -> Result<LocatedFile, SetupFailure> {
    let missing = |path: &str| SetupFailure::plain(FailureKind::MountSource, path);
    let shown = source.to_string_lossy();
    let at_top = subpath.split('/').all(|name| name.is_empty() || name == ".");
    if let (true, Some(parent), Some(name)) = (at_top, source.parent(), source.file_name()) {
        let around = open_folder(parent).map_err(|_| missing(&shown))?;
        // Never through a link: a source that became one since is not what was meant.
        let file = open_source(source).map_err(|_| missing(&shown))?;
        return Ok(LocatedFile { file, within: Some((around, name.to_owned())) });
    }
    let mut tree = open_source(source).and_then(Root::new).map_err(|_| missing(&shown))?;
    match tree.find(subpath, Missing::Fail) {
        Err(Errno::NOENT | Errno::NOTDIR) => Err(missing(subpath)),
        result => result.step(|| format!("find the mount source `{subpath}`")),
    }
}
