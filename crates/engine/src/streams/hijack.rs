//! A request that becomes the streams of a process.
//!
//! With `Upgrade: tcp` the connection itself becomes them. Without, the body of the request is the input and the body of
//! the answer is the output. In both ways the end of the input does not end the output.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode, Version as HttpVersion};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::detach::{DetachKeys, Searched};
use super::frames::{frame, media_type};
use crate::answers::{HandOver, set, status};
use crate::body::{AbortOnDrop, Body};
use crate::half_close::HalfCloseGuard;
use crate::route::Version;
use crate::{ContainerStreams, OutputPiece};

/// Bytes of input that are read at once.
const INPUT: usize = 32 << 10;
/// Pieces of output that wait for the client.
const WAITING: usize = 8;
/// The time after the end of the output in which input is thrown away. A connection that is closed before would be reset,
/// and the client might lose output.
const LINGER: Duration = Duration::from_secs(2);

/// The ways to a client, taken from its request.
pub(crate) struct Hijack {
    upgrade: Option<OnUpgrade>,
    hand_over: HandOver,
    half_close: Option<HalfCloseGuard>,
    version: Version,
}

/// The streams of a process and the manner in which they are carried.
pub(crate) struct Carried {
    pub(crate) streams: ContainerStreams,
    /// Looked for in the input of a terminal.
    pub(crate) keys: DetachKeys,
    /// The rest of the request's body: the input of a client that does not upgrade.
    pub(crate) body: Option<Incoming>,
}

impl Hijack {
    /// Takes the ways from a request.
    pub(crate) fn of(
        request: &mut Request<Incoming>,
        hand_over: HandOver,
        half_close: Option<HalfCloseGuard>,
        version: Version,
    ) -> Self {
        let asked = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
        let is_upgrade = request.version() == HttpVersion::HTTP_11
            && asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp"));
        let upgrade = is_upgrade.then(|| hyper::upgrade::on(request));
        Self { upgrade, hand_over, half_close, version }
    }

    /// Answers, and carries the streams until the process ends, its client leaves, or the keys come.
    pub(crate) fn answer(self, carried: Carried) -> Response<Body> {
        let content = media_type(carried.streams.terminal, self.version);
        let mut response = match self.upgrade {
            Some(upgrade) => {
                // The connection waits for it.
                let rest = on_connection(upgrade, self.half_close, carried);
                let _ = self.hand_over.send(Box::pin(rest));
                let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
                set(&mut response, CONNECTION, "Upgrade");
                set(&mut response, UPGRADE, "tcp");
                response
            }
            None => Response::new(in_bodies(self.half_close, carried)),
        };
        set(&mut response, CONTENT_TYPE, content);
        response
    }
}

async fn on_connection(upgrade: OnUpgrade, half_close: Option<HalfCloseGuard>, carried: Carried) {
    let connection = match upgrade.await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    drop(half_close);
    let (reader, writer) = tokio::io::split(TokioIo::new(connection));
    let (from, to) = (ClientInput::Connection(reader), ClientOutput::Connection(writer));
    carry(from, to, carried.streams, carried.keys).await;
}

fn in_bodies(half_close: Option<HalfCloseGuard>, carried: Carried) -> Body {
    let (sender, pieces) = mpsc::channel(WAITING);
    let from = carried.body.map_or(ClientInput::Nothing, ClientInput::Body);
    let work = tokio::spawn(carry(from, ClientOutput::Body(sender), carried.streams, carried.keys));
    let work = AbortOnDrop(work.abort_handle());
    Body::Pieces { pieces, _work: work, _half_close: half_close }
}

/// The client's side that is read.
enum ClientInput {
    Connection(ReadHalf<TokioIo<Upgraded>>),
    Body(Incoming),
    Nothing,
}

impl ClientInput {
    /// The next piece; none at the end.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self {
            Self::Connection(reader) => {
                let mut piece = Vec::with_capacity(INPUT);
                match reader.read_buf(&mut piece).await {
                    Ok(0) => None,
                    Ok(_) => Some(Ok(piece.into())),
                    Err(error) => Some(Err(error)),
                }
            }
            Self::Body(body) => loop {
                // A body that breaks off has ended: if the client is gone, hyper ends the answer.
                let frame = body.frame().await?.ok()?;
                // Trailers are no data.
                if let Ok(piece) = frame.into_data() {
                    return Some(Ok(piece));
                }
            },
            Self::Nothing => None,
        }
    }
}

/// The client's side that is written.
enum ClientOutput {
    Connection(WriteHalf<TokioIo<Upgraded>>),
    Body(mpsc::Sender<Bytes>),
}

impl ClientOutput {
    async fn send(&mut self, piece: Bytes) -> io::Result<()> {
        match self {
            Self::Connection(writer) => {
                writer.write_all(&piece).await?;
                writer.flush().await
            }
            Self::Body(sender) => {
                sender.send(piece).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    async fn finish(self) {
        if let Self::Connection(mut writer) = self {
            // A client that is gone needs no end.
            let _ = writer.shutdown().await;
        }
    }
}

/// The end of what a client sends.
#[derive(Debug, PartialEq, Eq)]
enum InputEnd {
    /// It has sent everything, and may still read.
    Sent,
    /// It left by its keys, or is gone.
    Left,
}

async fn carry(from: ClientInput, to: ClientOutput, streams: ContainerStreams, keys: DetachKeys) {
    let ContainerStreams { input, output, terminal } = streams;
    let keys = (terminal && input.is_some()).then_some(keys);
    let mut feeding = std::pin::pin!(feed(from, input, keys));
    let mut sending = std::pin::pin!(send(output, to, terminal));
    tokio::select! {
        () = &mut sending => {
            let _ = tokio::time::timeout(LINGER, feeding).await;
        }
        end = &mut feeding => {
            if end == InputEnd::Sent {
                sending.await;
            }
        }
    }
}

/// Sends output until it ends, or the client is gone.
async fn send(mut output: mpsc::Receiver<OutputPiece>, mut to: ClientOutput, terminal: bool) {
    while let Some(piece) = output.recv().await {
        if to.send(frame(piece, terminal)).await.is_err() {
            return;
        }
    }
    to.finish().await;
}

/// Hands input on. The end of the sender is the end of the input.
async fn feed(
    mut from: ClientInput,
    mut input: Option<mpsc::Sender<Bytes>>,
    mut keys: Option<DetachKeys>,
) -> InputEnd {
    while let Some(piece) = from.next().await {
        let Ok(piece) = piece else { return InputEnd::Left };
        let (piece, has_left) = match keys.as_mut().map(|keys| keys.search(&piece)) {
            None => (piece, false),
            Some(Searched::Input(passed)) => (passed.into(), false),
            Some(Searched::Detached(passed)) => (passed.into(), true),
        };
        // A process that takes no more input does not end the streams.
        if let Some(sender) = &input
            && !piece.is_empty()
            && sender.send(piece).await.is_err()
        {
            input = None;
        }
        if has_left {
            return InputEnd::Left;
        }
    }
    InputEnd::Sent
}
