//! Layers as one tree.

use std::path::Path;

use rustix::fs::{CWD, Mode, mkdirat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::container::Overlay;
use crate::wire::{Failure, FailureKind, Step};

/// Mounts `overlay` at `target`, relative to `folder`: an empty folder in memory that becomes the working directory.
///
/// mount(2) reads its options from one page, and a path in them may hold no colon: so each directory gets a symbolic
/// link with a short name in `folder`, which the kernel follows. 500 of them take half a page, on any kernel.
pub fn mount_overlay(
    overlay: &Overlay,
    folder: &str,
    empty: &Path,
    nodev: bool,
) -> Result<(), Failure> {
    mkdirat(CWD, folder, Mode::from_raw_mode(0o700)).step(|| format!("make `{folder}`"))?;
    rustix::process::chdir(folder).step(|| format!("enter `{folder}`"))?;
    mkdirat(CWD, "tree", Mode::from_raw_mode(0o755))
        .step(|| "make the mount point of an overlay".into())?;

    let empty_layers = match (&overlay.writable, overlay.lowers.len()) {
        (Some(_), 0) => 1,
        (Some(_), _) => 0,
        // Without an upper directory the kernel wants two lower ones.
        (None, present) => 2_usize.saturating_sub(present),
    };
    let empty_layers = std::iter::repeat_n(empty, empty_layers);
    let mut names = Vec::new();
    for (index, lower) in
        overlay.lowers.iter().map(|lower| lower.as_path()).chain(empty_layers).enumerate()
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
    // Without these the upper directory is not a plain difference, whatever the kernel was built for.
    options.push_str(",redirect_dir=off,metacopy=off,index=off");
    if overlay.userxattr {
        options.push_str(",userxattr");
    }
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

fn link(directory: &Path, name: &str) -> Result<(), Failure> {
    if !directory.is_dir() {
        return Err(Failure::plain(FailureKind::MountSource, directory.to_string_lossy()));
    }
    symlinkat(directory, CWD, name).step(|| format!("name the layer `{}`", directory.display()))
}
