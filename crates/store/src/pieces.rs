//! A stream that one thread reads and another one takes, piece by piece.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender};

/// Reads the pieces that [`feed`] sends from another thread.
pub(crate) struct Pieces {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    /// Emptied pieces, sent back to be filled again.
    empty: SyncSender<Vec<u8>>,
}

impl Pieces {
    pub(crate) fn new(pieces: Receiver<io::Result<Vec<u8>>>, empty: SyncSender<Vec<u8>>) -> Self {
        Self { pieces, piece: io::Cursor::default(), empty }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.piece, io::Cursor::new(next?));
            let _ = self.empty.try_send(used.into_inner());
        }
    }
}

/// Reads a stream to its end and sends it in pieces, until the receiver is gone. A failed read is
/// sent too: a stream that merely ended would look complete.
pub(crate) fn feed(
    reader: &mut dyn Read,
    pieces: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) {
    const PIECE: usize = 256 << 10;
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        let result = loop {
            match reader.read(&mut piece[filled..]) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if filled == PIECE {
                break Ok(());
            }
        };
        piece.truncate(filled);
        let ended = filled < PIECE;
        if filled > 0 && pieces.send(Ok(piece)).is_err() {
            return;
        }
        if let Err(error) = result {
            let _ = pieces.send(Err(error));
            return;
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_is_not_an_end() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let (send, receive) = std::sync::mpsc::sync_channel(2);
        let (give, take) = std::sync::mpsc::sync_channel(2);
        feed(&mut (&b"abc"[..]).chain(Broken), &send, &take);
        drop(send);
        let mut plain = Vec::new();
        assert!(Pieces::new(receive, give).read_to_end(&mut plain).is_err());
        assert_eq!(plain, b"abc");
    }
}
