//! A trial of what commands in a plain folder need.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, chown, makedev, mknodat, open};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::notify::{self, Answer, Rules};
use crate::ladder::{ChrootCapabilities, Unavailable};
use crate::passing;
use crate::sys::{self, Forked};
use crate::wire::{FailureKind, SetupFailure, StepContext};

/// A path that only the probe's child opens.
const QUESTION: &str = "/question";

/// Tries what is needed in `directory`, which is empty.
pub fn probe(directory: &Path) -> Result<ChrootCapabilities, SetupFailure> {
    let held =
        rustix::thread::capabilities(None).step(|| "read the capabilities".into())?.effective;
    for (capability, name) in [
        (CapabilitySet::CHOWN, "CHOWN"),
        (CapabilitySet::DAC_OVERRIDE, "DAC_OVERRIDE"),
        (CapabilitySet::FOWNER, "FOWNER"),
        (CapabilitySet::SETUID, "SETUID"),
        (CapabilitySet::SETGID, "SETGID"),
        (CapabilitySet::KILL, "KILL"),
        (CapabilitySet::SYS_CHROOT, "SYS_CHROOT"),
    ] {
        if !held.contains(capability) {
            return Err(SetupFailure::plain(
                FailureKind::Refused,
                format!("the capability {name} is missing"),
            ));
        }
    }
    let file = directory.join("file");
    fs::write(&file, "")
        .map_err(|_| SetupFailure::new(FailureKind::Step, "write a file", Errno::IO))?;
    chown(&file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))
        .step(|| "give a file to another user".into())?;
    let null = directory.join("null");
    let mode = Mode::from_raw_mode(0o666);
    let devices = mknodat(CWD, &null, FileType::CharacterDevice, mode, makedev(1, 3)).is_ok()
        && open(&null, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).is_ok();
    try_in_child(directory)?;
    let supervised = if notify::is_known_machine() {
        try_supervising(directory).map_err(SetupFailure::reason)
    } else {
        Err(Unavailable::new("this type of machine is not known"))
    };
    Ok(ChrootCapabilities { devices, supervised, landlock: super::landlock::version() })
}

/// Changes the root and the user, in a process that is lost for anything else.
fn try_in_child(directory: &Path) -> Result<(), SetupFailure> {
    let steps = || -> rustix::io::Result<()> {
        // The child holds the line to kiln, which waits for the line's end.
        sys::die_with_parent()?;
        rustix::process::chroot(directory)?;
        rustix::process::chdir("/")?;
        let (uid, gid) = (Uid::from_raw(1), Gid::from_raw(1));
        rustix::thread::set_thread_groups(&[gid])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    match sys::fork(None).step(|| "fork".into())? {
        Forked::Child => exit_with(steps()),
        Forked::Parent(pid) => result_of(pid, "change the root and the user"),
    }
}

/// Ends a child with its result as the exit code, for [`result_of`].
fn exit_with(result: rustix::io::Result<()>) -> ! {
    std::process::exit(match result {
        Ok(()) => 0,
        Err(errno) => errno.raw_os_error().clamp(1, 255),
    })
}

/// Waits for a child, and returns its result.
fn result_of(child: i32, step: &'static str) -> Result<(), SetupFailure> {
    let status = sys::wait_for(child).step(|| "wait for a child".into())?;
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Ok(()),
        code => {
            let errno = Errno::from_raw_os_error(code.max(1));
            Err(SetupFailure::new(FailureKind::Step, step, errno))
        }
    }
}

/// Has a child's question answered with a file of this process's.
fn try_supervising(directory: &Path) -> Result<(), SetupFailure> {
    let failed = |what: &'static str| SetupFailure::new(FailureKind::Step, what, Errno::IO);
    let (ours, its) = UnixStream::pair().map_err(|_| failed("make a socket"))?;
    let child = || -> rustix::io::Result<()> {
        sys::die_with_parent()?;
        rustix::process::chroot(directory)?;
        let listener =
            notify::listen(&Rules { told: super::supervisor::calls(), ..Rules::default() })?;
        passing::send(&its, b"+", &[listener.as_fd()])?;
        drop(listener);
        let mut text = String::new();
        let file = open(QUESTION, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).read_to_string(&mut text).map_err(|_| Errno::IO)?;
        if text.contains("Pid:") { Ok(()) } else { Err(Errno::IO) }
    };
    match sys::fork(None).step(|| "fork".into())? {
        Forked::Child => {
            // A listener that is on its way would be kept alive by the socket that it is on its way to, and the question
            // would wait for an answer for good.
            drop(ours);
            exit_with(child())
        }
        Forked::Parent(pid) => {
            drop(its);
            let received = passing::receive(&ours, &mut [0]);
            if let Some(listener) = received.ok().and_then(|(_, files)| files.into_iter().next()) {
                answer_question(&listener);
                // A call that is still waiting gets an error now.
                drop(listener);
            }
            result_of(pid, "answer system calls (kernel 5.14)")
        }
    }
}

/// Answers the first call, whatever it is.
fn answer_question(listener: &OwnedFd) {
    let Ok(Some(told)) = notify::receive(listener) else { return };
    let mut text = [0; QUESTION.len() + 1];
    let address =
        told.args.iter().copied().find(|arg| *arg > 1 << 16 && *arg >> 32 != u64::from(u32::MAX));
    let read = fs::File::open(format!("/proc/{}/mem", told.tid)).and_then(|memory| {
        std::os::unix::fs::FileExt::read_exact_at(&memory, &mut text, address.unwrap_or_default())
    });
    let is_question = read.is_ok() && &text[..QUESTION.len()] == QUESTION.as_bytes();
    let given = match fs::File::open("/proc/self/status") {
        Ok(file) if is_question => notify::answer_with_file(listener, told.id, &file, true).is_ok(),
        _ => false,
    };
    if !given {
        notify::answer(listener, told.id, Answer::Fail(Errno::ACCESS));
    }
}
