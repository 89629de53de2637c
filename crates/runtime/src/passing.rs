//! Messages over a socket, with descriptors beside them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors beside a message.
const MOST_FILES: usize = 8;

/// Sends a message, and descriptors with it.
pub fn send(socket: impl AsFd, message: &[u8], files: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(Errno::INVAL);
    }
    let message = [IoSlice::new(message)];
    loop {
        match sendmsg(&socket, &message, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

/// Receives a message: its length, which is 0 when the other side is gone, and what came with it.
pub fn receive(socket: impl AsFd, message: &mut [u8]) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(message)];
        match recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    Ok((received.bytes, files))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_carry_descriptors() {
        let (left, right) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        send(&left, b"hello", &[null.as_fd(), null.as_fd()]).unwrap();
        send(&left, b"again", &[]).unwrap();
        let mut bytes = [0; 5];
        let (length, files) = receive(&right, &mut bytes).unwrap();
        assert_eq!((&bytes[..length], files.len()), (&b"hello"[..], 2));
        let (length, files) = receive(&right, &mut bytes).unwrap();
        assert_eq!((&bytes[..length], files.len()), (&b"again"[..], 0));
        drop(left);
        assert_eq!(receive(&right, &mut bytes).unwrap().0, 0);
    }
}
