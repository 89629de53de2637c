//! The init process while commands run in its container: it waits for their ends, passes on what kiln sends, starts
//! further commands, and ends everything when kiln is gone.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::command::Never;
use crate::line::{self, LineMessage};
use crate::passing;
use crate::sys::{self, Forked, SignalFd};
use crate::wire::{InitReport, SetupFailure, StepContext, tell};

/// The isolation of a container whose commands run.
pub trait Rung {
    /// Takes what a process has sent before it became its command. Returns a descriptor for [`Rung::serve`].
    fn take_over(&mut self, message: &[u8], files: Vec<OwnedFd>) -> Option<OwnedFd>;

    /// Forks a process for a further command.
    fn fork(&mut self) -> rustix::io::Result<Forked>;

    /// In such a process: follows the orders that come down its line. `birth` is for [`Rung::take_over`], and closed when
    /// the command begins.
    fn join(&mut self, line: &mut UnixStream, birth: &UnixStream) -> Result<Never, SetupFailure>;

    /// Takes note that a forked process is its command by now, or has ended.
    fn begun(&mut self, pid: i32);

    /// Answers a command's system call.
    ///
    /// # Errors
    /// If there will be no more.
    fn serve(&mut self, listener: &OwnedFd) -> rustix::io::Result<()>;
}

/// A process that is or will be a command.
pub struct CommandProcess {
    pid: i32,
    /// kiln's line to it.
    line: UnixStream,
    /// Its line to this process, until it is the command. None if it may send nothing and its start is not told.
    birth: Option<UnixStream>,
    /// True if its line is not to be read before it is the command: it reads its orders from there.
    reads_orders: bool,
}

/// The two ends of the line of a process that is to become a command.
pub fn birth_line() -> Result<(UnixStream, UnixStream), SetupFailure> {
    UnixStream::pair()
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
        .step(|| "make a socket".into())
}

/// Ends a forked process that would return or unwind to where its parent is.
pub struct NoReturn;

impl Drop for NoReturn {
    fn drop(&mut self) {
        std::process::exit(127);
    }
}

/// Something to be waited for, by the index of its owner.
#[derive(Clone, Copy)]
enum Awaited {
    Birth(usize),
    Line(usize),
    Listener(usize),
    Child,
}

/// All commands of a container.
pub struct CommandWatch<'a, R> {
    signals: &'a SignalFd,
    rung: R,
    /// The container's own comes first.
    commands: Vec<CommandProcess>,
    /// Those whose line has ended, by process.
    hung_up: Vec<i32>,
    listeners: Vec<OwnedFd>,
}

impl<'a, R: Rung> CommandWatch<'a, R> {
    pub fn new(signals: &'a SignalFd, rung: R, first: CommandProcess) -> CommandWatch<'a, R> {
        CommandWatch {
            signals,
            rung,
            commands: vec![first],
            hung_up: Vec::new(),
            listeners: Vec::new(),
        }
    }

    /// Watches until the container's own command has ended: its wait status.
    pub fn run(&mut self) -> Result<i32, SetupFailure> {
        loop {
            let mut over = Vec::new();
            for (source, found) in self.wait()? {
                match source {
                    Awaited::Birth(index) => self.hear_birth(index),
                    Awaited::Line(index) => self.hear_line(index),
                    Awaited::Listener(index) => {
                        let is_asked = found.contains(PollFlags::IN);
                        let is_gone = is_asked && self.rung.serve(&self.listeners[index]).is_err();
                        if is_gone || found.intersects(PollFlags::HUP | PollFlags::ERR) {
                            over.push(index);
                        }
                    }
                    Awaited::Child => {
                        self.signals.next().step(|| "wait for the container's end".into())?;
                        if let Some(status) = self.reap()? {
                            self.end_others();
                            return Ok(status);
                        }
                    }
                }
            }
            for index in over.into_iter().rev() {
                self.listeners.remove(index);
            }
        }
    }

    /// The isolation, when nothing runs in it any more.
    pub fn into_rung(self) -> R {
        self.rung
    }

    /// Waits until something is ready. Ends come last: what was sent before has been heard then.
    fn wait(&self) -> Result<Vec<(Awaited, PollFlags)>, SetupFailure> {
        let mut asked = Vec::with_capacity(4);
        for (index, command) in self.commands.iter().enumerate() {
            if let Some(birth) = &command.birth {
                asked.push((Awaited::Birth(index), PollFd::new(birth, PollFlags::IN)));
            }
            if !self.hung_up.contains(&command.pid) {
                let flags = if command.is_readable() { PollFlags::IN } else { PollFlags::empty() };
                let polled = PollFd::new(&command.line, flags | PollFlags::RDHUP);
                asked.push((Awaited::Line(index), polled));
            }
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            asked.push((Awaited::Listener(index), PollFd::new(listener, PollFlags::IN)));
        }
        asked.push((Awaited::Child, PollFd::new(self.signals, PollFlags::IN)));
        let (sources, mut polled): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        loop {
            match poll(&mut polled, None) {
                Err(Errno::INTR) => {}
                result => {
                    result.step(|| "wait for the container".into())?;
                    break;
                }
            }
        }
        let found = sources.into_iter().zip(polled.iter().map(PollFd::revents));
        Ok(found.filter(|(_, found)| !found.is_empty()).collect())
    }

    /// Hears a process that is not yet its command. The end of its line says that it is.
    fn hear_birth(&mut self, index: usize) {
        let command = &mut self.commands[index];
        let Some(birth) = &command.birth else { return };
        let mut message = [0; 64];
        match passing::receive(birth, &mut message) {
            Ok((length, files)) if length > 0 => {
                self.listeners.extend(self.rung.take_over(&message[..length], files));
            }
            _ => {
                command.tell_start();
                self.rung.begun(command.pid);
            }
        }
    }

    /// Does what kiln asks for.
    fn hear_line(&mut self, index: usize) {
        let command = &self.commands[index];
        match command.is_readable().then(|| line::receive(&command.line)).flatten() {
            Some((LineMessage::Signal(signal), _)) => sys::kill(command.pid, signal),
            Some((LineMessage::Join, files)) if index == 0 => {
                files.into_iter().for_each(|line| self.start(UnixStream::from(line)));
            }
            _ => {
                self.hung_up.push(command.pid);
                sys::kill(command.pid, libc::SIGKILL);
            }
        }
    }

    /// Starts a further command.
    fn start(&mut self, mut line: UnixStream) {
        let forked = birth_line().and_then(|(ours, its)| {
            let forked = self.rung.fork().step(|| "fork a process for the command".into())?;
            Ok((forked, ours, its))
        });
        match forked {
            Ok((Forked::Parent(pid), birth, _)) => {
                let birth = Some(birth);
                self.commands.push(CommandProcess { pid, line, birth, reads_orders: true });
            }
            Ok((Forked::Child, ours, its)) => {
                let _no_return = NoReturn;
                // Others' lines end with their commands, and their calls with who answers them.
                drop(ours);
                self.commands.clear();
                self.listeners.clear();
                self.signals.restore();
                let Err(failure) = self.rung.join(&mut line, &its);
                tell(&mut line, &InitReport::Failed(failure));
            }
            Err(failure) => tell(&mut line, &InitReport::Failed(failure)),
        }
    }

    /// Reaps all that have ended. Returns the wait status of the container's own command, if it was among them.
    fn reap(&mut self) -> Result<Option<i32>, SetupFailure> {
        loop {
            let (pid, status) = match sys::wait_for_any(false) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(Errno::CHILD) => return Ok(None),
                Err(errno) => {
                    return Err(errno).step(|| "wait for the container's end".into());
                }
            };
            match self.commands.iter().position(|command| command.pid == pid) {
                Some(0) => {
                    self.commands[0].tell_start();
                    return Ok(Some(status));
                }
                Some(index) => {
                    self.rung.begun(pid);
                    self.commands.remove(index).tell_end(status);
                }
                // An orphan that this process has adopted.
                None => {}
            }
            self.hung_up.retain(|hung_up| *hung_up != pid);
        }
    }

    /// Ends the further commands that outlive the container's own, where no process namespace did.
    fn end_others(&mut self) {
        for command in self.commands.drain(1..) {
            sys::kill(command.pid, libc::SIGKILL);
            if let Ok(status) = sys::wait_for(command.pid) {
                command.tell_end(status);
            }
        }
    }
}

impl CommandProcess {
    /// The container's own, whose line this process has read its orders from.
    pub fn first(
        pid: i32,
        line: &UnixStream,
        birth: Option<UnixStream>,
    ) -> Result<CommandProcess, SetupFailure> {
        let line = line
            .try_clone()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
            .step(|| "keep the line to kiln".into())?;
        Ok(CommandProcess { pid, line, birth, reads_orders: false })
    }

    /// True if what comes down its line is for this process.
    fn is_readable(&self) -> bool {
        self.birth.is_none() || !self.reads_orders
    }

    /// Tells kiln once that the command runs.
    fn tell_start(&mut self) {
        if self.birth.take().is_some() {
            tell(&mut self.line, &InitReport::Started(self.pid));
        }
    }

    fn tell_end(mut self, status: i32) {
        self.tell_start();
        tell(&mut self.line, &InitReport::Exited(status));
    }
}
