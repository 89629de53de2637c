//! Bodies of requests.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::ApiError;

/// The pieces of a body that wait for their reader.
const PIECES: usize = 8;
/// The largest body that is JSON.
const LARGEST_JSON: usize = 4 << 20;
/// The largest body that is an object of many fields.
const LARGEST_OBJECT: usize = 1 << 20;
/// The time that a body of JSON may take.
const JSON_TIME: Duration = Duration::from_secs(60);
/// The time without a byte after which an upload is given up.
const SILENCE: Duration = Duration::from_secs(600);
/// Bytes that are read after the end of an archive, so that the connection stays usable.
const REST: usize = 64 << 20;

/// A body as a stream. Blocks; not for asynchronous code.
#[derive(Debug)]
pub struct Upload {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    /// Dropped with the stream, for whoever waits for its end.
    ended: Option<oneshot::Sender<()>>,
}

impl Upload {
    /// The stream of a request's body.
    pub(crate) fn of(body: Incoming) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(pump(body, sender));
        Self::received(pieces)
    }

    fn received(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces, piece: Bytes::new(), ended: None }
    }

    /// Resolves when the stream has been read to its end or was dropped.
    pub(crate) fn watch(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.ended = Some(sender);
        receiver
    }

    /// A stream of bytes that are here.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: &'static [u8]) -> Self {
        let (sender, pieces) = mpsc::channel(1);
        drop(sender.try_send(Ok(Bytes::from_static(bytes))));
        Self::received(pieces)
    }
}

/// Reads a body that is of no use, since a client that still sends would not read its answer otherwise.
pub(crate) fn drain(body: Incoming) {
    drop(Upload::of(body));
}

/// Reads a body to its end even if its reader has gone: hyper sees that a client has vanished only when
/// nothing is left to read.
async fn pump(mut body: Incoming, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut unwanted = 0;
    loop {
        let piece = match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => frame.into_data().map(Ok),
            Ok(Some(Err(error))) => Ok(Err(io::Error::other(error))),
            Err(_) => Ok(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client sent nothing for ten minutes",
            ))),
        };
        // Trailers are no data.
        let Ok(piece) = piece else { continue };
        let (is_over, length) = (piece.is_err(), piece.as_ref().map_or(0, Bytes::len));
        if sender.send(piece).await.is_err() {
            unwanted += length;
        }
        if is_over || unwanted > REST {
            return;
        }
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv().transpose()? {
                Some(piece) => self.piece = piece,
                None => {
                    self.ended = None;
                    return Ok(0);
                }
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A body that is JSON.
pub(crate) async fn json<T: DeserializeOwned>(body: Incoming) -> Result<T, ApiError> {
    from_json(&whole(body, LARGEST_JSON).await?)
}

/// A body that is a JSON object of many fields; null if there is none. Values take many times their text's memory, so
/// that the text is shorter than others may be.
pub(crate) async fn fields(body: Incoming) -> Result<Value, ApiError> {
    let bytes = whole(body, LARGEST_OBJECT).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) { Ok(Value::Null) } else { from_json(&bytes) }
}

async fn whole(mut body: Incoming, most: usize) -> Result<Vec<u8>, ApiError> {
    let read = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::BadRequest("the body broke off".into()))?;
            // Trailers are no data.
            let Ok(piece) = frame.into_data() else { continue };
            if bytes.len() + piece.len() > most {
                let message = format!("the body is larger than {most} bytes");
                return Err(ApiError::TooLarge(message));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    let read = tokio::time::timeout(JSON_TIME, read).await;
    let read = read.unwrap_or_else(|_| Err(ApiError::BadRequest("the body did not come".into())));
    if read.is_err() {
        drain(body);
    }
    read
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // The text of the error could show a password.
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ApiError::BadRequest(format!("wrong JSON in line {line}, column {column} of the body"))
    })
}
