//! One connection: TLS, the protocol that it speaks, and who serves that.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::engine::{Connection, EngineServer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// The time that a connection has for TLS and its first bytes.
const BEGIN_TIME: Duration = Duration::from_secs(30);
/// The first bytes of a client that speaks HTTP/2 (RFC 9113, section 3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose first bytes came.
pub(super) struct Begun {
    stream: Prefixed,
    is_http2: bool,
}

/// Does the handshake of TLS; none if it fails.
pub(super) async fn secure(
    stream: Box<dyn Connection>,
    tls: TlsAcceptor,
) -> Option<Box<dyn Connection>> {
    let handshake = tokio::time::timeout(BEGIN_TIME, tls.accept(stream)).await.ok()?;
    match handshake {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            tracing::debug!(%error, "TLS");
            None
        }
    }
}

/// Reads as many bytes as tell the protocol; none if they do not come.
pub(super) async fn begin(mut stream: Box<dyn Connection>) -> Option<Begun> {
    let mut prefix = Vec::with_capacity(HTTP2.len());
    let read = async {
        while prefix.len() < HTTP2.len() && HTTP2.starts_with(&prefix) {
            let mut rest = [0; HTTP2.len()];
            let wanted = HTTP2.len() - prefix.len();
            match stream.read(&mut rest[..wanted]).await? {
                0 => break,
                count => prefix.extend(&rest[..count]),
            }
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(BEGIN_TIME, read).await.ok()?.ok()?;
    if prefix.is_empty() {
        return None;
    }
    let is_http2 = prefix == HTTP2;
    Some(Begun { stream: Prefixed { prefix, read: 0, stream }, is_http2 })
}

/// Serves a connection to its end.
pub(super) async fn serve(
    begun: Begun,
    engine: Arc<EngineServer>,
    draining: watch::Receiver<bool>,
) {
    match (begun.is_http2, engine.buildkit()) {
        (true, Some(buildkit)) => buildkit.serve(Box::new(begun.stream)).await,
        (true, None) => tracing::debug!("HTTP/2 without BuildKit's API"),
        (false, _) => engine.serve(begun.stream, draining).await,
    }
}

/// A stream, some bytes of which were read before.
struct Prefixed {
    prefix: Vec<u8>,
    read: usize,
    stream: Box<dyn Connection>,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.prefix[self.read..];
        if left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_protocol_shows_in_the_first_bytes_and_nothing_is_lost() {
        for (sent, is_http2) in [
            (&b"GET /_ping HTTP/1.1\r\n\r\n"[..], false),
            (b"PUT / HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes", true),
            (b"PRI * HTTP/2.0\r\n\r\nXX", false),
            (b"P", false),
        ] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(sent).await.unwrap();
            drop(client);
            let mut begun = begin(Box::new(server)).await.unwrap();
            assert_eq!(begun.is_http2, is_http2);
            let mut received = Vec::new();
            begun.stream.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, sent);
        }
        let (client, server) = tokio::io::duplex(64);
        drop(client);
        assert!(begin(Box::new(server)).await.is_none());
    }
}
