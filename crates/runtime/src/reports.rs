//! The reports of an init process as kiln hears them, and the end of a process that they tell of.

use std::io::Read;

use tokio::net::UnixStream;

use crate::error::Error;
use crate::wire::{InitReport, take_frame};

/// The end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    fn of_status(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }

    /// True if it ended with 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The exit code as shells and BuildKit count it: a signal is 128 and its number.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// A container that has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The end of its process.
    pub exit: Exit,
    /// Mount points that were made for it, as paths from the root, parents first. They have been removed from the
    /// upper directory, except for folders in which the process has left something.
    pub stubs: Vec<String>,
    /// True if one of its processes wanted another root, which a plain folder's cannot have.
    pub refused_root: bool,
}

/// The reports so far.
#[derive(Default)]
pub struct Reports {
    /// Bytes that are not yet a whole report.
    inbox: Vec<u8>,
    /// Mount points that were made.
    pub stubs: Vec<String>,
    pub refused_root: bool,
    /// The process of the command, once it runs.
    started: Option<i32>,
    /// The last report: a failure, an end, or the result of a probe.
    pub end: Option<InitReport>,
}

impl Reports {
    /// Waits until more has been reported. Returns false at the end of the line.
    ///
    /// When the future is dropped, nothing is lost.
    pub async fn hear(&mut self, line: &UnixStream) -> bool {
        loop {
            match self.take_one() {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
            if line.readable().await.is_err() {
                return false;
            }
            match line.try_read_buf(&mut self.inbox) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// Takes what has been sent and not been heard. `line` does not block.
    pub fn hear_rest(&mut self, line: &mut impl Read) {
        let _ = line.read_to_end(&mut self.inbox);
        while let Ok(true) = self.take_one() {}
    }

    fn take_one(&mut self) -> std::io::Result<bool> {
        let Some(report) = take_frame(&mut self.inbox)? else { return Ok(false) };
        match report {
            InitReport::Stubs(made) => self.stubs = made,
            InitReport::RefusedRoot => self.refused_root = true,
            InitReport::Started(pid) => self.started = Some(pid),
            // A failure before the command comes ahead of the exit of the process that met it.
            InitReport::Exited(_) if matches!(self.end, Some(InitReport::Failed(_))) => {}
            report => self.end = Some(report),
        }
        Ok(true)
    }

    /// Waits until the command runs: the number of its process. None if it does not come to that.
    pub async fn until_started(&mut self, line: &UnixStream) -> Option<i32> {
        loop {
            match (self.started, &self.end) {
                (Some(pid), None | Some(InitReport::Exited(_))) => return Some(pid),
                (_, Some(_)) => return None,
                (None, None) => {}
            }
            if !self.hear(line).await {
                return None;
            }
        }
    }

    /// Waits until the end of the command has been reported.
    pub async fn until_end(&mut self, line: &UnixStream) {
        while self.end.is_none() && self.hear(line).await {}
    }

    /// The end that was reported.
    pub fn finish(self) -> Result<Finished, Error> {
        match self.end {
            Some(InitReport::Failed(failure)) => Err(failure.into()),
            Some(InitReport::Exited(status)) => Ok(Finished {
                exit: Exit::of_status(status),
                stubs: self.stubs,
                refused_root: self.refused_root,
            }),
            _ => Err(Error::InitDied),
        }
    }
}
