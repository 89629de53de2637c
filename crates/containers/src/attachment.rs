//! The clients that are attached to a container's streams.

use std::time::Duration;

use bytes::Bytes;
use runtime::Stream;
use tokio::sync::mpsc;

/// Pieces of output that wait for their client, and of input that wait for the process.
const PIECES: usize = 32;
/// The time that a client has to take a piece. The process waits for it, so one that does not read is let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPiece {
    /// Its stream; with a terminal all is of the output.
    pub stream: Stream,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The streams of a process, as a client has them.
#[derive(Debug)]
pub struct Attachment {
    /// Takes input. Dropping it is the end of the input if that is for one client only.
    pub input: Option<mpsc::Sender<Bytes>>,
    /// Gives output until the process ends.
    pub output: mpsc::Receiver<StreamPiece>,
}

/// The streams that a client attaches to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachSelection {
    /// The input.
    pub stdin: bool,
    /// The output.
    pub stdout: bool,
    /// The errors.
    pub stderr: bool,
    /// Lines from before.
    pub logs: bool,
    /// Input and output from now on.
    pub stream: bool,
}

/// A client that gets output.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    selection: AttachSelection,
    sender: mpsc::Sender<StreamPiece>,
}

impl Listener {
    pub(crate) fn new(selection: AttachSelection) -> (Self, mpsc::Receiver<StreamPiece>) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (Self { selection, sender }, receiver)
    }

    /// The sender, to put lines from before in front.
    pub(crate) fn sender(&self) -> &mpsc::Sender<StreamPiece> {
        &self.sender
    }

    fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.selection.stdout,
            Stream::Stderr => self.selection.stderr,
        }
    }

    /// Sends a piece; false if the client has gone, or does not read.
    pub(crate) async fn send(&self, piece: &StreamPiece) -> bool {
        if !self.wants(piece.stream) {
            return !self.sender.is_closed();
        }
        let sent = tokio::time::timeout(PATIENCE, self.sender.send(piece.clone())).await;
        matches!(sent, Ok(Ok(())))
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }
}

/// The clients of one run of a container, before and while it runs.
#[derive(Debug, Default)]
pub(crate) struct StreamHub {
    listeners: Vec<Listener>,
    input: InputChannel,
    /// True once the process has its input.
    is_started: bool,
}

#[derive(Debug, Default)]
struct InputChannel {
    /// None if a client has it alone.
    sender: Option<mpsc::Sender<Bytes>>,
    /// None once the process has it.
    receiver: Option<mpsc::Receiver<Bytes>>,
}

impl StreamHub {
    /// Adds a client that gets output.
    pub(crate) fn listen(&mut self, listener: Listener) {
        self.listeners.retain(|known| !known.sender.is_closed());
        self.listeners.push(listener);
    }

    /// The clients that get output now.
    pub(crate) fn listeners(&self) -> Vec<Listener> {
        self.listeners.clone()
    }

    /// Lets a client go.
    pub(crate) fn forget(&mut self, listener: &Listener) {
        self.listeners.retain(|known| !known.is_same(listener));
    }

    /// The input for a client; none if another has it alone.
    pub(crate) fn input(&mut self, is_for_one: bool) -> Option<mpsc::Sender<Bytes>> {
        let is_left = || {
            let receiver = self.input.receiver.as_ref();
            receiver.is_none_or(|receiver| self.input.sender.is_none() && receiver.is_closed())
        };
        if !self.is_started && is_left() {
            self.open_input();
        }
        if is_for_one { self.input.sender.take() } else { self.input.sender.clone() }
    }

    /// The input for the process, at its start.
    pub(crate) fn take_input(&mut self) -> mpsc::Receiver<Bytes> {
        if self.input.receiver.is_none() {
            self.open_input();
        }
        self.is_started = true;
        self.input.receiver.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Ends all streams, after a run.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    fn open_input(&mut self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        self.input = InputChannel { sender: Some(sender), receiver: Some(receiver) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: AttachSelection =
        AttachSelection { stdin: true, stdout: true, stderr: true, logs: false, stream: true };

    fn piece(stream: Stream, text: &'static str) -> StreamPiece {
        StreamPiece { stream, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[tokio::test]
    async fn clients_get_the_streams_that_they_want() {
        let mut hub = StreamHub::default();
        let (all, mut of_all) = Listener::new(BOTH);
        let (errors, mut of_errors) = Listener::new(AttachSelection { stdout: false, ..BOTH });
        hub.listen(all);
        hub.listen(errors);
        for (stream, text) in [(Stream::Stdout, "out"), (Stream::Stderr, "err")] {
            for listener in hub.listeners() {
                assert!(listener.send(&piece(stream, text)).await);
            }
        }
        assert_eq!(of_all.recv().await.unwrap().bytes, "out");
        assert_eq!(of_all.recv().await.unwrap().bytes, "err");
        assert_eq!(of_errors.recv().await.unwrap().bytes, "err");
        drop(of_errors);
        let gone = hub.listeners().remove(1);
        assert!(!gone.send(&piece(Stream::Stdout, "x")).await);
        hub.forget(&gone);
        assert_eq!(hub.listeners().len(), 1);
        hub.end();
        assert_eq!(of_all.recv().await, None);
    }

    #[tokio::test]
    async fn input_for_one_client_ends_with_it() {
        let mut hub = StreamHub::default();
        let first = hub.input(true).unwrap();
        assert!(hub.input(true).is_none(), "another has it");
        first.send(Bytes::from_static(b"lost")).await.unwrap();
        drop(first);
        // The container was not started: the next client begins anew.
        let second = hub.input(true).unwrap();
        second.send(Bytes::from_static(b"in")).await.unwrap();
        let mut input = hub.take_input();
        assert_eq!(input.recv().await.unwrap(), "in");
        drop(second);
        assert_eq!(input.recv().await, None);
        assert!(hub.input(true).is_none(), "it has ended for this run");
    }

    #[tokio::test]
    async fn shared_input_outlives_its_clients() {
        let mut hub = StreamHub::default();
        drop(hub.input(false).unwrap());
        let mut input = hub.take_input();
        hub.input(false).unwrap().send(Bytes::from_static(b"in")).await.unwrap();
        assert_eq!(input.recv().await.unwrap(), "in");
        hub.end();
        assert_eq!(input.recv().await, None);
    }
}
