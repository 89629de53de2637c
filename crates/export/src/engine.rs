//! An image into a Docker engine: `POST /images/load` of its API.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use transfer::Transfer;

use crate::archive::{ArchiveRequest, write_archive};
use crate::{Documents, Error};

/// A Docker engine's socket.
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
/// If a layer cannot be found, or the engine cannot be reached or refuses.
pub async fn load(
    transfer: &Transfer,
    request: &ArchiveRequest<'_>,
    engine: &Engine,
) -> Result<Documents, Error> {
    let (pieces, body) = mpsc::channel(8);
    let writing = write_archive(transfer, request, ChannelWriter(pieces));
    let sending = async {
        match engine {
            Engine::Unix(path) => post(UnixStream::connect(path).await?, body).await,
            Engine::Tcp(address) => post(TcpStream::connect(address).await?, body).await,
        }
    };
    let (written, sent) = tokio::join!(writing, sending);
    let failed = |message: String| Error::Engine { address: engine.to_string(), message };
    match sent.map_err(|error| failed(error.to_string()))? {
        EngineAnswer::Given(200..300, text) => match refused(&text) {
            Some(message) => Err(failed(message)),
            None => written,
        },
        EngineAnswer::Given(status, text) => {
            Err(failed(format!("status {status}: {}", words(&text))))
        }
        EngineAnswer::NotAsked => {
            written.and_then(|_| Err(failed("the archive is not whole".into())))
        }
    }
}

/// An engine's answer to an image.
enum EngineAnswer {
    /// Status and body.
    Given(u16, String),
    /// The archive ended before it was whole, so the engine was left alone with what it had.
    NotAsked,
}

/// An engine says in the body that it could not load.
fn refused(text: &str) -> Option<String> {
    let messages =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages.filter_map(|message| message["error"].as_str().map(Into::into)).next()
}

/// The message of a refusal.
fn words(text: &str) -> String {
    let message = serde_json::from_str::<serde_json::Value>(text).ok();
    let message = message.as_ref().and_then(|value| value["message"].as_str());
    message.unwrap_or(text).trim().to_owned()
}

/// Most of an answer that is read: with `quiet` it is a line or two.
const ANSWER_LIMIT: u64 = 1 << 16;

/// A chunked POST (RFC 9112, 7.1) and its answer.
async fn post(
    stream: impl AsyncRead + AsyncWrite,
    body: mpsc::Receiver<Piece>,
) -> io::Result<EngineAnswer> {
    let (reader, writer) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let mut reader = reader.take(ANSWER_LIMIT);
    let mut reading = std::pin::pin!(reader.read_to_end(&mut answer));
    let read = tokio::select! {
        biased;
        sent = send(writer, body) => match sent {
            Ok(true) => reading.await,
            Ok(false) => return Ok(EngineAnswer::NotAsked),
            // An engine that refuses does not wait for the whole archive, and says why.
            Err(error) => reading.await.and_then(|read| if read == 0 { Err(error) } else { Ok(read) }),
        },
        read = &mut reading => read,
    };
    read?;
    parse_answer(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// Sends a request; whether its body was whole.
async fn send(writer: impl AsyncWrite, mut body: mpsc::Receiver<Piece>) -> io::Result<bool> {
    let mut writer = std::pin::pin!(writer);
    let head = "POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
    writer.write_all(head.as_bytes()).await?;
    while let Some(piece) = body.recv().await {
        let Piece::Bytes(bytes) = piece else {
            writer.write_all(b"0\r\n\r\n").await?;
            writer.flush().await?;
            return Ok(true);
        };
        writer.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
        writer.write_all(&bytes).await?;
        writer.write_all(b"\r\n").await?;
    }
    Ok(false)
}

fn parse_answer(answer: &[u8]) -> Option<EngineAnswer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.strip_prefix("http/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let body = match head.contains("\r\ntransfer-encoding: chunked") {
        true => joined(body),
        false => body.to_vec(),
    };
    Some(EngineAnswer::Given(status, String::from_utf8_lossy(&body).into_owned()))
}

/// A chunked body without its chunks' sizes, as far as it goes.
fn joined(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap_or_default();
        let size = size.split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size @ 1..) = size else { break };
        let rest = &body[end + 2..];
        whole.extend_from_slice(&rest[..size.min(rest.len())]);
        body = rest.get(size.saturating_add(2)..).unwrap_or_default();
    }
    whole
}

/// A part of an archive.
enum Piece {
    Bytes(Bytes),
    /// It is whole.
    End,
}

/// Gives what is written to an async reader. It is flushed when it is whole.
struct ChannelWriter(mpsc::Sender<Piece>);

impl ChannelWriter {
    fn send(&self, piece: Piece) -> io::Result<()> {
        self.0.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Piece::Bytes(Bytes::copy_from_slice(bytes)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send(Piece::End)
    }
}
