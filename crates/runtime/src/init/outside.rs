//! The init process's ends towards the rest of the machine.

use std::os::unix::net::UnixStream;

use super::streams::CommandStreams;
use crate::sys::SignalFd;

/// The init process's handles besides the container.
pub struct Outside<'a> {
    /// kiln.
    pub control: &'a mut UnixStream,
    /// Its children's ends.
    pub signals: &'a SignalFd,
    /// The command's streams. Here they are closed once the command has them.
    pub streams: CommandStreams,
}
