//! Layers as one tree.

use std::path::Path;

use rustix::fs::{CWD, Mode, mkdirat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::container::{MOST_LOWERS, Overlay};
use crate::wire::{FailureKind, SetupFailure, StepContext};

/// The folders under the layers.
#[derive(Clone, Copy)]
pub struct Under<'a> {
    /// An empty folder, for overlays with less layers than the kernel wants.
    pub empty: &'a Path,
    /// A layer with the usual mount points, so that they need not be made in the upper directory and removed again.
    /// It must be on the upper directory's file system: layers of several make overlayfs give out other device numbers.
    pub stubs: Option<&'a Path>,
}

impl<'a> Under<'a> {
    fn layers(self, overlay: &Overlay) -> impl Iterator<Item = &'a Path> + use<'a> {
        let device = |path: &Path| rustix::fs::stat(path).map(|found| found.st_dev);
        let stubs = self.stubs.filter(|stubs| {
            overlay.lowers.len() < MOST_LOWERS
                && overlay.writable.as_ref().is_some_and(|writable| {
                    device(&writable.upper).is_ok_and(|upper| device(stubs) == Ok(upper))
                })
        });
        let present = overlay.lowers.len() + usize::from(stubs.is_some());
        // Without an upper directory the kernel wants two layers.
        let wanted = if overlay.writable.is_some() { 1 } else { 2_usize };
        stubs.into_iter().chain(std::iter::repeat_n(self.empty, wanted.saturating_sub(present)))
    }
}

/// Mounts `overlay` at `target`, relative to `folder`: an empty folder in memory that becomes the working directory.
///
/// mount(2) reads its options from one page, and a path in them may hold no colon: so each directory gets a symbolic
/// link with a short name in `folder`, which the kernel follows. 500 of them take half a page, on any kernel.
pub fn mount_overlay(
    overlay: &Overlay,
    folder: &str,
    under: Under<'_>,
    nodev: bool,
) -> Result<(), SetupFailure> {
    mkdirat(CWD, folder, Mode::from_raw_mode(0o700)).step(|| format!("make `{folder}`"))?;
    rustix::process::chdir(folder).step(|| format!("enter `{folder}`"))?;
    mkdirat(CWD, "tree", Mode::from_raw_mode(0o755))
        .step(|| "make the mount point of an overlay".into())?;

    let mut names = Vec::new();
    for (index, lower) in
        overlay.lowers.iter().map(|lower| lower.as_path()).chain(under.layers(overlay)).enumerate()
    {
        let name = index.to_string();
        link(lower, &name)?;
        names.push(name);
    }
    let mut options = format!("lowerdir={}", names.join(":"));
    if let Some(writable) = &overlay.writable {
        link(&writable.upper, "u")?;
        link(&writable.work, "w")?;
        options.push_str(",upperdir=u,workdir=w");
    }
    // Without these the upper directory is not a plain difference, whatever the kernel was built for. `userxattr` rules
    // redirects out by itself, and refuses to be told so.
    options.push_str(",metacopy=off,index=off");
    options.push_str(if overlay.userxattr { ",userxattr" } else { ",redirect_dir=off" });
    let flags = if nodev { MountFlags::NODEV } else { MountFlags::empty() };
    let attempt = |options: String| {
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        mount("overlay", "tree", "overlay", flags, options.as_c_str())
    };
    // `volatile` (5.10): no syncing of the whole upper file system at every fsync and at the end. A layer is synced
    // when it is stored.
    let mut result = Err(Errno::INVAL);
    if overlay.writable.is_some() {
        result = attempt(format!("{options},volatile"));
    }
    if result == Err(Errno::INVAL) {
        result = attempt(options);
    }
    result.step(|| format!("mount an overlay of {} layers", overlay.lowers.len()))
}

fn link(directory: &Path, name: &str) -> Result<(), SetupFailure> {
    if !directory.is_dir() {
        return Err(SetupFailure::plain(FailureKind::MountSource, directory.to_string_lossy()));
    }
    symlinkat(directory, CWD, name).step(|| format!("name the layer `{}`", directory.display()))
}
