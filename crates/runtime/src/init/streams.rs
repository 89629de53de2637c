//! The streams of a command, on their way from kiln to the command.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::container::TerminalSize;
use crate::line::{self, LineMessage};
use crate::passing;
use crate::sys;
use crate::wire::{FailureKind, SetupFailure, StepContext};

/// The streams of a command.
pub enum CommandStreams {
    /// None: it prints nothing.
    Silent,
    /// Pipes; without an input `/dev/null` stays it.
    Piped { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal that is still to be made. kiln gets its master over this socket.
    Terminal(OwnedFd),
}

impl CommandStreams {
    /// Waits for the first message of a line.
    pub fn receive(line: &UnixStream) -> Result<CommandStreams, SetupFailure> {
        let received = loop {
            match line::receive(line) {
                // Closed with this process, and on exec in those that it starts.
                Some((LineMessage::Keep, files)) => std::mem::forget(files),
                Some((LineMessage::Begin, files)) => break CommandStreams::of(files),
                _ => break None,
            }
        };
        received
            .ok_or_else(|| SetupFailure::new(FailureKind::Step, "receive the streams", Errno::IO))
    }

    fn of(files: Vec<OwnedFd>) -> Option<CommandStreams> {
        let mut files = files.into_iter();
        Some(match (files.next(), files.next(), files.next(), files.next()) {
            (None, ..) => CommandStreams::Silent,
            (Some(socket), None, ..) => CommandStreams::Terminal(socket),
            (Some(stdout), Some(stderr), stdin, None) => {
                CommandStreams::Piped { stdin, stdout, stderr }
            }
            _ => return None,
        })
    }

    /// Makes them this process's, whose standard input is `/dev/null`. It must lead a session for a terminal, which is
    /// made by opening `multiplexer`: then its number is returned.
    pub fn take_on(
        self,
        multiplexer: &str,
        size: Option<TerminalSize>,
    ) -> Result<Option<u32>, SetupFailure> {
        let failed = || "take on the streams".into();
        match self {
            CommandStreams::Silent => Ok(None),
            CommandStreams::Piped { stdin, stdout, stderr } => {
                if let Some(stdin) = stdin {
                    rustix::stdio::dup2_stdin(stdin).step(failed)?;
                }
                rustix::stdio::dup2_stdout(stdout).step(failed)?;
                rustix::stdio::dup2_stderr(stderr).step(failed)?;
                Ok(None)
            }
            CommandStreams::Terminal(kiln) => {
                take_terminal(multiplexer, size, &kiln).step(|| "make a terminal".into()).map(Some)
            }
        }
    }
}

fn take_terminal(
    multiplexer: &str,
    size: Option<TerminalSize>,
    kiln: &OwnedFd,
) -> rustix::io::Result<u32> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open(multiplexer, flags, Mode::empty())?;
    let number = sys::terminal_number(&master).ok_or(Errno::NOTTY)?;
    unlockpt(&master)?;
    // Not by its path, at which there may be something else.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    if let Some(TerminalSize { columns, rows }) = size {
        let window = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, window)?;
    }
    rustix::process::ioctl_tiocsctty(&slave)?;
    rustix::stdio::dup2_stdin(&slave)?;
    rustix::stdio::dup2_stdout(&slave)?;
    rustix::stdio::dup2_stderr(&slave)?;
    passing::send(kiln, b"+", &[master.as_fd()])?;
    Ok(number)
}
