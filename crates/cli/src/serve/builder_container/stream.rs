//! The streams of a command as a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::engine::{ContainerStreams, OutputPiece, OutputStream};
use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Pieces that wait for the other end.
const PIECES: usize = 16;
/// Bytes of one piece.
const PIECE: usize = 256 << 10;

/// A connection whose bytes are a command's input and output.
pub(super) struct StdioConnection {
    input: mpsc::Receiver<Bytes>,
    piece: Bytes,
    output: PollSender<OutputPiece>,
}

impl StdioConnection {
    /// A connection, and the streams of its other end.
    pub(super) fn pair() -> (Self, ContainerStreams) {
        let (input, received) = mpsc::channel(PIECES);
        let (sender, output) = mpsc::channel(PIECES);
        let connection =
            Self { input: received, piece: Bytes::new(), output: PollSender::new(sender) };
        (connection, ContainerStreams { input: Some(input), output, terminal: false })
    }
}

impl AsyncRead for StdioConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.input.poll_recv(context)) {
                Some(piece) => self.piece = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece[..count]);
        self.piece.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StdioConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.output.poll_reserve(context)).map_err(gone)?;
        let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(PIECE)]);
        let count = bytes.len();
        self.output.send_item(OutputPiece { stream: OutputStream::Stdout, bytes }).map_err(gone)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_way_ends() {
        let (mut connection, mut streams) = StdioConnection::pair();
        let input = streams.input.take().unwrap();
        input.send(Bytes::from_static(b"to ")).await.unwrap();
        input.send(Bytes::from_static(b"it")).await.unwrap();
        drop(input);
        let mut received = String::new();
        connection.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "to it");
        connection.write_all(b"back").await.unwrap();
        connection.shutdown().await.unwrap();
        let piece = streams.output.recv().await.unwrap();
        assert_eq!((piece.stream, &piece.bytes[..]), (OutputStream::Stdout, &b"back"[..]));
        assert!(streams.output.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_an_error() {
        let (mut connection, streams) = StdioConnection::pair();
        drop(streams);
        let error = connection.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
