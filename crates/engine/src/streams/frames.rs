//! Frames: output and errors of a process in one stream of bytes.
//!
//! Each piece has a head of 8 bytes: the stream (1 or 2), three zeros, and the length in 4 bytes, the highest first. The
//! output of a terminal has no heads.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::route::Version;
use crate::{OutputPiece, OutputStream};

/// The media type of output without frames, and of all output before version 1.42.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";
/// The media type of output with frames.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// Bytes of a head.
const HEAD: usize = 8;

/// The media type that a client of a version expects.
pub(crate) fn media_type(terminal: bool, version: Version) -> &'static str {
    if terminal || version < Version(1, 42) { RAW } else { MULTIPLEXED }
}

/// A piece as it is sent.
pub(crate) fn frame(piece: OutputPiece, terminal: bool) -> Bytes {
    if terminal {
        return piece.bytes;
    }
    let stream = match piece.stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
    };
    let mut framed = BytesMut::with_capacity(HEAD + piece.bytes.len());
    // More than a head can say does not come in one piece; the rest of it would be lost.
    let length = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
    framed.put_u8(stream);
    framed.put_bytes(0, 3);
    framed.put_u32(length);
    framed.put_slice(&piece.bytes[..piece.bytes.len().min(length as usize)]);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_heads_without_a_terminal() {
        let piece = |stream| OutputPiece { stream, bytes: Bytes::from_static(b"hello") };
        let framed = frame(piece(OutputStream::Stderr), false);
        assert_eq!(&framed[..], b"\x02\0\0\0\0\0\0\x05hello");
        let framed = frame(piece(OutputStream::Stdout), false);
        assert_eq!(&framed[..], b"\x01\0\0\0\0\0\0\x05hello");
        assert_eq!(&frame(piece(OutputStream::Stdout), true)[..], b"hello");
    }

    #[test]
    fn the_media_type_is_the_versions() {
        assert_eq!(media_type(false, Version(1, 41)), RAW);
        assert_eq!(media_type(false, Version(1, 42)), MULTIPLEXED);
        assert_eq!(media_type(true, Version(1, 51)), RAW);
    }
}
