//! The init process's ends towards the rest of the machine.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::sys::SignalFd;
use crate::wire::{Failure, Step};

/// The init process's handles besides the container.
pub struct Outside<'a> {
    /// kiln.
    pub control: &'a mut UnixStream,
    /// Its children's ends.
    pub signals: &'a SignalFd,
    /// `/dev/null`.
    pub null: &'a OwnedFd,
}

/// Closes the command's output here: it ends with the command, not with us.
pub fn let_go_of_output(null: &OwnedFd) -> Result<(), Failure> {
    for close in [rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr] {
        close(null).step(|| "let go of the output".into())?;
    }
    Ok(())
}
