//! Short messages from kiln to a container's init process, with descriptors beside them.
//!
//! A command has a line, a socket. Down the line comes, perhaps after [`LineMessage::Keep`], [`LineMessage::Begin`] with the command's streams, then its orders
//! (`wire`), and from then on signals. The line of the container's own command also brings the lines of further
//! commands. The end of a line is a message too: its command is to be killed.
//!
//! A message has one length, so that it arrives whole and with its own descriptors, and sending it does not wait.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::passing;

/// Bytes of a message: its kind and a number, little endian.
const LENGTH: usize = 8;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineMessage {
    /// The init process is to keep a descriptor until it ends.
    Keep,
    /// Orders follow. The descriptors are the command's streams.
    Begin,
    /// A signal for the command's first process.
    Signal(i32),
    /// A further command is to run in the container. The descriptor is its line.
    Join,
}

impl LineMessage {
    /// The message as it is sent.
    pub fn bytes(self) -> [u8; LENGTH] {
        let (kind, number) = match self {
            LineMessage::Begin => (0_u32, 0),
            LineMessage::Signal(signal) => (1, signal),
            LineMessage::Join => (2, 0),
            LineMessage::Keep => (3, 0),
        };
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    fn parse(bytes: [u8; LENGTH]) -> Option<LineMessage> {
        let word = u64::from_le_bytes(bytes);
        match word as u32 {
            0 => Some(LineMessage::Begin),
            1 => Some(LineMessage::Signal((word >> 32) as i32)),
            2 => Some(LineMessage::Join),
            3 => Some(LineMessage::Keep),
            _ => None,
        }
    }
}

/// Waits for the next message; none when kiln is gone, or has sent something else.
pub fn receive(mut line: &UnixStream) -> Option<(LineMessage, Vec<OwnedFd>)> {
    let mut bytes = [0; LENGTH];
    let (length, files) = passing::receive(line, &mut bytes).ok()?;
    if length == 0 {
        return None;
    }
    line.read_exact(&mut bytes[length..]).ok()?;
    Some((LineMessage::parse(bytes)?, files))
}

/// Sends a message with descriptors.
pub fn send(
    line: impl AsFd,
    message: LineMessage,
    files: &[std::os::fd::BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    passing::send(line, &message.bytes(), files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent_and_nothing_else_does() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent =
            [LineMessage::Begin, LineMessage::Signal(-1), LineMessage::Join, LineMessage::Keep];
        for message in sent {
            send(&ours, message, &[]).unwrap();
        }
        for message in sent {
            assert_eq!(receive(&theirs).map(|(message, _)| message), Some(message));
        }
        passing::send(&ours, &[9; LENGTH], &[]).unwrap();
        assert!(receive(&theirs).is_none());
        passing::send(&ours, &[0; 3], &[]).unwrap();
        drop(ours);
        assert!(receive(&theirs).is_none());
    }
}
