//! A trial of whether opens of an overlay's files are reported where the files are.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::UnshareFlags;

use super::first::private_scratch;
use super::overlay::{Under, mount_overlay};
use crate::container::{Overlay, Writable};
use crate::init::command::die_with_parent;
use crate::init::watch::NoReturn;
use crate::ladder::Unavailable;
use crate::sys::{self, Forked};
use crate::wire::{FailureKind, SetupFailure, StepContext};

/// The files, each opened in its own way.
const READ: &str = "watched/read";
const EXECUTED: &str = "watched/executed";
const CHANGED: &str = "watched/changed";

/// The time between two looks at whether the child has ended.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Tries it. `directory` holds `lower/watched`, `upper` and `work`.
pub fn probe(directory: &Path, scratch: &Path) -> Result<Result<(), Unavailable>, SetupFailure> {
    die_with_parent()?;
    sys::unshare(UnshareFlags::NEWNS).step(|| "make a mount namespace".into())?;
    let scratch = private_scratch(scratch)?;
    let lower = directory.join("lower");
    let mut inodes = HashSet::new();
    for name in [READ, EXECUTED, CHANGED] {
        let file =
            fs::File::options().write(true).create_new(true).mode(0o755).open(lower.join(name));
        // Nothing is opened to copy an empty one.
        let found = file.and_then(|mut file| file.write_all(b"-").and_then(|()| file.metadata()));
        let found = found.map_err(|_| {
            SetupFailure::plain(FailureKind::Refused, "no file can be made for a probe")
        })?;
        inodes.insert(found.ino());
    }
    let overlay = Overlay {
        lowers: vec![lower.clone()],
        writable: Some(Writable { upper: directory.join("upper"), work: directory.join("work") }),
        userxattr: false,
    };
    let under = Under { empty: Path::new("/"), stubs: None };
    mount_overlay(&overlay, &format!("{scratch}/opens"), under, false)?;
    let group = match watch(&lower.join("watched")) {
        Ok(group) => group,
        Err(errno) => return Ok(Err(Unavailable::new(format!("fanotify: {errno}")))),
    };
    match sys::fork(None).step(|| "fork".into())? {
        Forked::Child => {
            let _no_return = NoReturn;
            let _ = fs::read(format!("tree/{READ}"));
            let changed = format!("tree/{CHANGED}");
            let _ = fs::set_permissions(changed, fs::Permissions::from_mode(0o700));
            // This is no program: it returns.
            let _ = Command::new(format!("tree/{EXECUTED}")).exec();
        }
        Forked::Parent(child) => {
            while sys::ended(child).step(|| "wait for a probe".into())?.is_none() {
                for inode in answered(&group) {
                    inodes.remove(&inode);
                }
            }
            for inode in answered(&group) {
                inodes.remove(&inode);
            }
        }
    }
    Ok(match inodes.is_empty() {
        true => Ok(()),
        false => Err(Unavailable::new("the kernel does not report them (Linux 6.7 does)")),
    })
}

fn watch(folder: &Path) -> nix::Result<Fanotify> {
    let class = InitFlags::FAN_CLASS_PRE_CONTENT;
    let flags = class | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
    let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
    let mask = MaskFlags::FAN_OPEN_PERM | MaskFlags::FAN_EVENT_ON_CHILD;
    group.mark(MarkFlags::FAN_MARK_ADD, mask, rustix::fs::CWD, Some(folder))?;
    Ok(group)
}

/// Lets opens go on for some time; returns their inodes.
fn answered(group: &Fanotify) -> Vec<u64> {
    let _ = poll(&mut [PollFd::new(group, PollFlags::IN)], Some(&PAUSE));
    let events = group.read_events().unwrap_or_default();
    let answer = |event: &nix::sys::fanotify::FanotifyEvent| {
        let fd = event.fd()?;
        let inode = rustix::fs::fstat(fd).ok().map(|stat| stat.st_ino);
        let _ = group.write_response(FanotifyResponse::new(fd, Response::FAN_ALLOW));
        inode
    };
    events.iter().filter_map(answer).collect()
}
