//! `/dev`, `/proc` and `/sys` as plain folders, and which links of an image lead into them.
//!
//! `/proc` has the names that a container would see, as empty files and folders: the supervisor
//! serves their contents. Where there is none, the files that say what the machine is like have their content.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, readlinkat, symlinkat,
};
use rustix::io::Errno;

use super::place::Placer;
use super::supervisor::Links;
use crate::init::kernel_files::{DEVICES, LINKS, is_masked};
use crate::wire::{SetupFailure, StepContext};

/// Kernel files worth having without a supervisor.
const COPIED: [&str; 9] = [
    "cpuinfo",
    "meminfo",
    "stat",
    "version",
    "filesystems",
    "uptime",
    "loadavg",
    "vmstat",
    "devices",
];

/// Makes `/dev`: the name of the folder, for [`Placer::place_own`].
pub fn make_dev(placer: &mut Placer) -> Result<String, SetupFailure> {
    let (dev, name) = placer.folder(0o755).step(|| "make `/dev`".into())?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        match mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor)) {
            // The supervisor opens the machine's own instead.
            Err(Errno::PERM) => empty_file(&dev, name, 0o666),
            result => result,
        }
        .step(|| format!("make the device `/dev/{name}`"))?;
    }
    for (name, target) in LINKS {
        let target = if name == "ptmx" { "/dev/pts/ptmx" } else { target };
        symlinkat(target, &dev, name).step(|| format!("link `/dev/{name}`"))?;
    }
    for (name, mode) in [("shm", 0o1777), ("mqueue", 0o1777), ("pts", 0o755)] {
        mkdirat(&dev, name, Mode::from_raw_mode(mode)).step(|| format!("make `/dev/{name}`"))?;
    }
    Ok(name)
}

/// Makes `/sys`.
pub fn make_sys(placer: &mut Placer) -> Result<String, SetupFailure> {
    let (_, name) = placer.folder(0o555).step(|| "make `/sys`".into())?;
    Ok(name)
}

/// Makes `/proc`; with contents where no supervisor serves it.
pub fn make_proc(placer: &mut Placer, supervised: bool) -> Result<String, SetupFailure> {
    let (proc, name) = placer.folder(0o555).step(|| "make `/proc`".into())?;
    let fill = || -> rustix::io::Result<()> {
        let real = openat(
            CWD,
            "/proc",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        for entry in Dir::read_from(&real)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_process = name.first().is_none_or(u8::is_ascii_digit);
            if is_process || name.starts_with(b".") || is_masked(name) {
                continue;
            }
            match (name, entry.file_type()) {
                (b"mounts" | b"net", _) => {
                    symlinkat([&b"self/"[..], name].concat(), &proc, name)?;
                }
                (b"self" | b"thread-self", _) | (_, FileType::Directory) => {
                    mkdirat(&proc, name, Mode::from_raw_mode(0o555))?;
                }
                _ => empty_file(&proc, name, 0o444)?,
            }
        }
        Ok(())
    };
    fill().step(|| "fill `/proc`".into())?;
    if !supervised {
        for name in COPIED {
            copy(&proc, name);
        }
    }
    Ok(name)
}

fn empty_file(folder: &OwnedFd, name: impl rustix::path::Arg, mode: u32) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::from_raw_mode(mode)).map(drop)
}

/// A program that does not find it will say so.
fn copy(proc: &OwnedFd, name: &str) {
    let mut bytes = Vec::new();
    let read = File::open(format!("/proc/{name}"))
        .and_then(|file| file.take(1 << 20).read_to_end(&mut bytes));
    let target = openat(proc, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    if let (Ok(_), Ok(target)) = (read, target) {
        let _ = File::from(target).write_all(&bytes);
    }
}

/// The links of a tree that say `/proc` or `/sys`, or a name in `/dev` that says so. Folders that cannot be read have
/// none.
pub fn find_links(root: &OwnedFd, links: &mut Links) {
    let mut ahead: VecDeque<(OwnedFd, Vec<u8>)> = VecDeque::new();
    let open = |folder: &OwnedFd, name: &[u8]| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(folder, name, flags, Mode::empty())
    };
    let Ok(top) = open(root, b".") else { return };
    ahead.push_back((top, Vec::new()));
    // The deepest first, so that few folders are open at once.
    while let Some((folder, path)) = ahead.pop_back() {
        let Ok(entries) = Dir::read_from(folder.as_fd()) else { continue };
        let mut folders: Vec<OsString> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            match entry.file_type() {
                FileType::Directory if !matches!(name, b"." | b"..") => {
                    folders.push(OsString::from_vec(name.to_vec()));
                }
                FileType::Symlink => {
                    let Ok(target) = readlinkat(&folder, name, Vec::new()) else { continue };
                    links.learn(&[&path[..], b"/", name].concat(), target.as_bytes());
                }
                _ => {}
            }
        }
        for name in folders {
            let name = name.into_vec();
            if path.is_empty() && matches!(&name[..], b"proc" | b"sys" | b"dev") {
                continue;
            }
            if let Ok(inner) = open(&folder, &name) {
                ahead.push_back((inner, [&path[..], b"/", &name[..]].concat()));
            }
        }
    }
}
