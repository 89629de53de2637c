//! A first process for a container besides its command: it reaps what ends and passes signals on, as `docker run --init`
//! has it. (The kernel gives the first process of a namespace no default actions, and all orphans.)

use rustix::io::Errno;
use rustix::termios::{isatty, tcsetpgrp};

use crate::sys::{self, Forked, SignalFd};
use crate::wire::{SetupFailure, StepContext};

/// Signals that are not passed on: they come of a fault of this process, or of its terminal.
const OWN: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Leaves the caller's process behind as the first; its child goes on, in a process group of its own.
///
/// To be called with the command's rights, no more: other processes of the container can look at the first.
pub fn stay_behind() -> Result<(), SetupFailure> {
    sys::block_signals().step(|| "keep signals for later".into())?;
    match sys::fork(None).step(|| "fork the command".into())? {
        Forked::Child => {
            // For the terminal's signals to come to the command alone. They are blocked, or this process would be stopped.
            let group = || -> rustix::io::Result<()> {
                rustix::process::setpgid(None, None)?;
                if isatty(rustix::stdio::stdin()) {
                    tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid())?;
                }
                Ok(())
            };
            group().step(|| "make a process group".into())?;
            sys::reset_signals();
            Ok(())
        }
        Forked::Parent(pid) => {
            // Its program is kiln's, which no process of the container is to open.
            sys::hide_from_others();
            sys::close_inherited();
            std::process::exit(attend(pid).unwrap_or(127));
        }
    }
}

/// Waits for the end of the command: its exit code, as a shell counts it.
fn attend(command: i32) -> rustix::io::Result<i32> {
    let all: Vec<i32> = (1..=libc::SIGRTMAX()).collect();
    let signals = SignalFd::new(&all)?;
    loop {
        let received = signals.next()?;
        if received.signal == libc::SIGCHLD {
            if let Some(status) = reap(command)? {
                let signal = libc::WTERMSIG(status);
                return Ok(match libc::WIFSIGNALED(status) {
                    true => 128 + signal,
                    false => libc::WEXITSTATUS(status),
                });
            }
        } else if !OWN.contains(&received.signal) {
            sys::kill(command, received.signal);
        }
    }
}

/// Reaps all that have ended. Returns the wait status of the command, if it was among them.
fn reap(command: i32) -> rustix::io::Result<Option<i32>> {
    loop {
        match sys::wait_for_any(false) {
            Ok(Some((pid, status))) if pid == command => return Ok(Some(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}
