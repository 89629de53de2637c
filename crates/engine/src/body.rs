//! Bodies of answers.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::half_close::HalfCloseGuard;
use crate::progress::{Item, Lines, Message};

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Bytes that are there.
    Whole(Option<Bytes>),
    /// Progress of work, which ends with its reader.
    Progress { first: Option<Bytes>, lines: Lines, _work: AbortOnDrop },
    /// An archive.
    Archive { first: Option<Bytes>, pieces: mpsc::Receiver<io::Result<Bytes>>, _work: AbortOnDrop },
    /// Pieces that come while work is done, which ends with its reader.
    Pieces {
        pieces: mpsc::Receiver<Bytes>,
        _work: AbortOnDrop,
        _half_close: Option<HalfCloseGuard>,
    },
}

impl Body {
    /// Pieces that a task sends.
    pub(crate) fn pieces(pieces: mpsc::Receiver<Bytes>, work: AbortHandle) -> Self {
        Self::Pieces { pieces, _work: AbortOnDrop(work), _half_close: None }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Whole((!text.is_empty()).then(|| text.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let bytes = match this {
            Self::Whole(bytes) => bytes.take(),
            Self::Progress { first, lines, .. } => match first.take() {
                Some(first) => Some(first),
                None => match ready!(lines.poll(context)) {
                    Some(Item::Line(line)) => Some(line),
                    ended => {
                        let error = match ended {
                            Some(Item::End(result)) => result.err().map(|error| error.to_string()),
                            _ => Some("canceled".to_owned()),
                        };
                        *this = Self::Whole(None);
                        error.map(|error| Message::error(error).line())
                    }
                },
            },
            Self::Archive { first, pieces, .. } => match first.take() {
                Some(first) => Some(first),
                None => ready!(pieces.poll_recv(context)).transpose()?,
            },
            Self::Pieces { pieces, .. } => ready!(pieces.poll_recv(context)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            _ => SizeHint::default(),
        }
    }
}

/// Work that ends when its answer is dropped: the client is gone.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The pieces of an archive in an answer that wait for the client.
const PIECES: usize = 8;
/// Bytes of one piece.
const PIECE: usize = 256 << 10;

/// Writes an archive to a client. Blocks while the client does not read; not for asynchronous code.
#[derive(Debug)]
pub struct ArchiveWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl ArchiveWriter {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<io::Result<Bytes>>) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (Self { sender, buffer: Vec::new() }, receiver)
    }

    pub(crate) fn sender(&self) -> mpsc::Sender<io::Result<Bytes>> {
        self.sender.clone()
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer).into();
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ArchiveWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
