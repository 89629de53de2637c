//! The mounts of a container: the kernel's file systems, the generated files, and what the caller wants.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

use super::devices;
use super::mount_facts::MountFacts;
use super::overlay::{Under, mount_overlay};
use crate::container::{Mount, MountKind};
use crate::init::kernel_files::MASKED;
use crate::init::walk::{
    LocatedFile, Missing, Root, clean, fd_path, file_type, open_folder, open_source, refuse_link,
};
use crate::sys::{self, MountAttributes};
use crate::wire::{FailureKind, RunOrders, SetupFailure, StepContext};

/// Kernel files that change the host.
const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// One entry of the list of mounts.
enum What<'a> {
    Proc,
    Dev,
    Pts,
    Shm,
    Mqueue,
    Sys,
    Cgroup,
    Generated(&'a str),
    Wanted(&'a Mount),
}

/// Mounts everything. `made` is told of the mount points that were made in the root.
pub fn mount_all(
    orders: &RunOrders,
    root: &mut Root,
    surroundings: &MountFacts,
    made: impl FnOnce(Vec<String>),
) -> Result<(), SetupFailure> {
    let mut list: Vec<(String, What)> = [
        ("/proc", What::Proc),
        ("/dev", What::Dev),
        ("/dev/pts", What::Pts),
        ("/dev/shm", What::Shm),
        ("/dev/mqueue", What::Mqueue),
        ("/sys", What::Sys),
        ("/etc/resolv.conf", What::Generated(&orders.resolv_conf)),
        ("/etc/hosts", What::Generated(&orders.hosts)),
        ("/sys/fs/cgroup", What::Cgroup),
    ]
    .into_iter()
    .map(|(target, what)| (target.to_owned(), what))
    .collect();
    for wanted in &orders.container.mounts {
        let target = clean(&wanted.target);
        // In BuildKit too, a mount with the target of an earlier one takes its place.
        match list.iter_mut().find(|(known, _)| *known == target) {
            Some(known) => known.1 = What::Wanted(wanted),
            None => list.push((target, What::Wanted(wanted))),
        }
    }

    let mut mounter =
        Mounter { orders, root, surroundings, files: 0, bound_proc: false, bound_sys: false };
    let result = list.iter().try_for_each(|(target, what)| mounter.mount_one(target, what)).and_then(|()| {
        let own_dev = list.iter().any(|(target, what)| {
            target == "/dev" && matches!(what, What::Wanted(Mount { kind, .. }) if !matches!(kind, MountKind::Tmpfs { .. }))
        });
        if own_dev { Ok(()) } else { devices::fill_dev(mounter.root, surroundings) }
    });
    let result = result.and_then(|()| if surroundings.sandbox { mounter.hide() } else { Ok(()) });
    made(mounter.root.take_stubs());
    result
}

struct Mounter<'a> {
    orders: &'a RunOrders,
    root: &'a mut Root,
    surroundings: &'a MountFacts,
    files: usize,
    bound_proc: bool,
    bound_sys: bool,
}

impl Mounter<'_> {
    fn mount_one(&mut self, target: &str, what: &What<'_>) -> Result<(), SetupFailure> {
        let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match what {
            What::Proc => self.mount_proc(target, quiet),
            What::Dev => {
                refuse_link(self.root, target)?;
                let mut flags = MountFlags::NOSUID | MountFlags::STRICTATIME;
                if self.surroundings.without_devices() {
                    flags |= MountFlags::NODEV;
                }
                self.mount_fresh(target, "tmpfs", flags, "mode=755,size=65536k")
            }
            What::Pts => {
                let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
                let options = "newinstance,ptmxmode=0666,mode=0620";
                // A user namespace may lack the terminals' group.
                self.mount_fresh(target, "devpts", flags, &format!("{options},gid=5"))
                    .or_else(|_| self.mount_fresh(target, "devpts", flags, options))
            }
            What::Shm => self.mount_fresh(target, "tmpfs", quiet, "mode=1777,size=65536k"),
            What::Mqueue => self.mount_fresh(target, "mqueue", quiet, ""),
            What::Sys => self.mount_sys(target, quiet),
            What::Cgroup => self.mount_cgroup(target, quiet),
            What::Generated(text) => {
                let file = self.file(text.as_bytes(), 0o644, 0, 0)?;
                let attributes = MountAttributes::READONLY
                    .and(MountAttributes::NOSUID)
                    .and(MountAttributes::NODEV)
                    .and(MountAttributes::NOEXEC);
                self.bind(target, &file, &attributes, false)
            }
            What::Wanted(wanted) => self.mount_wanted(target, &wanted.kind),
        }
    }

    fn place(&mut self, target: &str, missing: Missing) -> Result<LocatedFile, SetupFailure> {
        self.root.find(target, missing).step(|| format!("make the mount point `{target}`"))
    }

    fn mount_fresh(
        &mut self,
        target: &str,
        kind: &str,
        flags: MountFlags,
        options: &str,
    ) -> Result<(), SetupFailure> {
        let place = self.place(target, Missing::Directory)?;
        let options = std::ffi::CString::new(options).unwrap_or_default();
        mount(kind, fd_path(&place.file), kind, flags, options.as_c_str())
            .step(|| format!("mount {kind} at `{target}`"))
    }

    /// Binds what `source` is, or its folder with everything below, to `target`.
    fn bind(
        &mut self,
        target: &str,
        source: &str,
        attributes: &MountAttributes,
        folder: bool,
    ) -> Result<(), SetupFailure> {
        let place = self.place(target, if folder { Missing::Directory } else { Missing::File })?;
        let to = fd_path(&place.file);
        // A user namespace may only bind a folder together with the mounts below it.
        let bound = if folder { mount_bind_recursive(source, to) } else { mount_bind(source, to) };
        bound
            .and_then(|()| sys::mount_attributes(place.again()?, attributes, folder))
            .step(|| format!("mount at `{target}`"))
    }

    /// A fresh `/proc`, or the host's where the kernel refuses one because the host's is partly hidden itself. That one
    /// has the job's processes in it, some of whose files any user of the same id may write to: it is read-only.
    fn mount_proc(&mut self, target: &str, flags: MountFlags) -> Result<(), SetupFailure> {
        refuse_link(self.root, target)?;
        if let Err(failure) = self.mount_fresh(target, "proc", flags, "") {
            let sandbox = self.surroundings.sandbox;
            let attributes =
                if sandbox { MountAttributes::READONLY } else { MountAttributes::NONE };
            self.bind(target, "/proc", &attributes, true).map_err(|_| failure)?;
            self.bound_proc = true;
        }
        Ok(())
    }

    /// A fresh `/sys`, or the host's where the network namespace is not ours.
    fn mount_sys(&mut self, target: &str, flags: MountFlags) -> Result<(), SetupFailure> {
        refuse_link(self.root, target)?;
        let sandbox = self.surroundings.sandbox;
        let readonly = if sandbox { MountFlags::RDONLY } else { MountFlags::empty() };
        if let Err(failure) = self.mount_fresh(target, "sysfs", flags | readonly, "") {
            let attributes =
                if sandbox { MountAttributes::READONLY } else { MountAttributes::NONE };
            self.bind(target, "/sys", &attributes, true).map_err(|_| failure)?;
            self.bound_sys = true;
        }
        Ok(())
    }

    /// The control groups to look at: what language runtimes size themselves by. Not worth failing for.
    fn mount_cgroup(&mut self, target: &str, flags: MountFlags) -> Result<(), SetupFailure> {
        if self.bound_sys {
            return Ok(());
        }
        let Ok(place) = self.root.find(target, Missing::Fail) else { return Ok(()) };
        let sandbox = self.surroundings.sandbox;
        let readonly = if sandbox { MountFlags::RDONLY } else { MountFlags::empty() };
        if self.surroundings.unified_cgroups {
            let _ = mount("cgroup", fd_path(&place.file), "cgroup2", flags | readonly, None);
        } else {
            let attributes =
                if sandbox { MountAttributes::READONLY } else { MountAttributes::NONE };
            let _ = self.bind(target, "/sys/fs/cgroup", &attributes, true);
        }
        Ok(())
    }

    fn mount_wanted(&mut self, target: &str, kind: &MountKind) -> Result<(), SetupFailure> {
        let attributes = |readonly: &bool, nodev: MountAttributes| {
            if *readonly { nodev.and(MountAttributes::READONLY) } else { nodev }
        };
        let nodev = self.surroundings.nodev();
        match kind {
            MountKind::Bind { source, subpath, readonly } => {
                let missing =
                    || SetupFailure::plain(FailureKind::MountSource, source.to_string_lossy());
                let fd = open_source(source).map_err(|_| missing())?;
                self.bind_below(target, fd, subpath, &attributes(readonly, nodev))
            }
            MountKind::Overlay { overlay, subpath, readonly } => {
                let folder = format!("{}/tree-{}", self.surroundings.scratch, self.files);
                self.files += 1;
                let without_devices = self.surroundings.without_devices();
                mount_overlay(
                    overlay,
                    &folder,
                    Under { empty: &self.orders.empty, stubs: None },
                    without_devices,
                )?;
                let fd = open_folder(format!("{folder}/tree"))
                    .step(|| "open a mounted overlay".into())?;
                self.bind_below(target, fd, subpath, &attributes(readonly, nodev))
            }
            MountKind::Tmpfs { size, readonly } => {
                let mut flags = MountFlags::NOSUID;
                if *readonly {
                    flags |= MountFlags::RDONLY;
                }
                if self.surroundings.without_devices() {
                    flags |= MountFlags::NODEV;
                }
                let options = size.map(|size| format!("size={size}")).unwrap_or_default();
                self.mount_fresh(target, "tmpfs", flags, &options)
            }
            MountKind::File { content, mode, uid, gid } => {
                let file = self.file(content.bytes(), *mode, *uid, *gid)?;
                let mut attributes = MountAttributes::READONLY
                    .and(MountAttributes::NOSUID)
                    .and(MountAttributes::NODEV);
                if mode & 0o111 == 0 {
                    attributes = attributes.and(MountAttributes::NOEXEC);
                }
                self.bind(target, &file, &attributes, false)
            }
        }
    }

    /// Binds a path below an opened source.
    fn bind_below(
        &mut self,
        target: &str,
        source: rustix::fd::OwnedFd,
        subpath: &str,
        attributes: &MountAttributes,
    ) -> Result<(), SetupFailure> {
        let mut tree = Root::new(source).step(|| format!("open the source for `{target}`"))?;
        let at_top = subpath.split('/').all(|name| name.is_empty() || name == ".");
        if at_top {
            let folder = file_type(tree.top()) == Ok(rustix::fs::FileType::Directory);
            return self.bind(target, &fd_path(tree.top()), attributes, folder);
        }
        let found = match tree.find(subpath, Missing::Fail) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                Err(SetupFailure::plain(FailureKind::MountSource, clean(subpath)))
            }
            result => result.step(|| format!("find the mount source `{subpath}`")),
        }?;
        let folder =
            found.is_directory().step(|| format!("look at the mount source `{subpath}`"))?;
        self.bind(target, &fd_path(&found.file), attributes, folder)
    }

    /// Writes a file in memory and names it.
    fn file(
        &mut self,
        content: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<String, SetupFailure> {
        let path = format!("{}/file-{}", self.surroundings.scratch, self.files);
        self.files += 1;
        let write = || -> std::io::Result<File> {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(content)?;
            Ok(file)
        };
        let file = write().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let file = file.step(|| "write a mounted file".into())?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .step(|| format!("give a mounted file to {uid}:{gid}"))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))
            .step(|| "set a mounted file's mode".into())?;
        Ok(path)
    }

    /// Covers kernel files, and makes others read-only.
    fn hide(&mut self) -> Result<(), SetupFailure> {
        let visible = |bound: bool, path: &&str| !(bound && path.starts_with("/proc/"));
        for path in MASKED.iter().filter(|path| visible(self.bound_proc, path)) {
            let Ok(place) = self.root.find(path, Missing::Fail) else { continue };
            let to = fd_path(&place.file);
            if place.is_directory().step(|| format!("look at `{path}`"))? {
                mount("tmpfs", to, "tmpfs", MountFlags::RDONLY, None)
            } else {
                mount_bind("/dev/null", to)
            }
            .step(|| format!("mask `{path}`"))?;
        }
        for path in READONLY.iter().filter(|path| visible(self.bound_proc, path)) {
            let Ok(place) = self.root.find(path, Missing::Fail) else { continue };
            let this = fd_path(&place.file);
            mount_bind_recursive(&this, &this)
                .and_then(|()| {
                    sys::mount_attributes(place.again()?, &MountAttributes::READONLY, false)
                })
                .step(|| format!("make `{path}` read-only"))?;
        }
        Ok(())
    }
}
