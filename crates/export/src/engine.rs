//! An image into a Docker engine: `POST /images/load` of its API.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use transfer::Transfer;

use crate::archive::{ArchiveRequest, write_archive};
use crate::{Error, Manifested};

/// Where a Docker engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A socket (`unix://`).
    Unix(PathBuf),
    /// A port without TLS (`tcp://`).
    Tcp(String),
}

impl Engine {
    /// Reads what `DOCKER_HOST` says; empty is the usual socket.
    ///
    /// # Errors
    /// For a kind of address that is not supported, with the address in the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once("://") {
            None if text.is_empty() => Ok(Self::Unix("/var/run/docker.sock".into())),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", address)) => Ok(Self::Tcp(address.trim_end_matches('/').into())),
            _ => Err(Error::Engine {
                address: text.into(),
                message: "only unix:// and tcp:// addresses are supported".into(),
            }),
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Loads an image, written while it is sent.
///
/// # Errors
/// If a layer is nowhere, or the engine cannot be reached or refuses.
pub async fn load(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
    engine: &Engine,
) -> Result<Manifested, Error> {
    let (pieces, mut body) = mpsc::channel(8);
    let writing = write_archive(transfer, request, ChannelWriter(pieces));
    let sending = async {
        let answer = match engine {
            Engine::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => post(stream, &mut body).await,
                Err(error) => Err(error),
            },
            Engine::Tcp(address) => match TcpStream::connect(address).await {
                Ok(stream) => post(stream, &mut body).await,
                Err(error) => Err(error),
            },
        };
        // The writer must not wait for a reader that is gone.
        body.close();
        let failed = |message: String| Error::Engine { address: engine.to_string(), message };
        match answer.map_err(|error| failed(error.to_string()))? {
            (200..300, text) => refused(&text).map_or(Ok(()), |message| Err(failed(message))),
            (status, text) => Err(failed(format!("status {status}: {}", text.trim()))),
        }
    };
    let (written, sent) = tokio::join!(writing, sending);
    sent?;
    written
}

/// An engine says in the body that it could not load.
fn refused(text: &str) -> Option<String> {
    let messages =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages.filter_map(|message| message["error"].as_str().map(Into::into)).next()
}

/// A chunked POST (RFC 9112, 7.1) and its answer: the status and the first 64 KiB of the body.
async fn post(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    body: &mut mpsc::Receiver<Bytes>,
) -> io::Result<(u16, String)> {
    let (reader, mut writer) = tokio::io::split(stream);
    let head = "POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
    writer.write_all(head.as_bytes()).await?;
    while let Some(piece) = body.recv().await {
        writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        writer.write_all(&piece).await?;
        writer.write_all(b"\r\n").await?;
    }
    writer.write_all(b"0\r\n\r\n").await?;
    writer.flush().await?;

    let mut reader = BufReader::new(reader).take(1 << 16);
    let mut status = String::new();
    reader.read_line(&mut status).await?;
    let code = status
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await?;
    let text = String::from_utf8_lossy(&rest);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((code, body.into()))
}

/// Gives what is written to an async reader.
struct ChannelWriter(mpsc::Sender<Bytes>);

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
