//! Streams and lines of containers in the engine's types.

use ::containers::{AttachSelection, Attachment, LogSelection, StreamPiece};
use ::engine::{
    AttachQuery, ConsoleSize, ContainerStreams, LogLine, LogQuery, OutputPiece, OutputStream,
};
use runtime::{Stream, TerminalSize};
use tokio::sync::mpsc;

/// Values that wait for their reader, besides those that wait in front.
const BETWEEN: usize = 1;

pub(super) fn size(size: ConsoleSize) -> TerminalSize {
    TerminalSize { columns: size.columns, rows: size.rows }
}

pub(super) fn selection(query: AttachQuery) -> AttachSelection {
    let AttachQuery { stdin, stdout, stderr, logs, stream } = query;
    AttachSelection { stdin, stdout, stderr, logs, stream }
}

pub(super) fn all(stdin: bool, stdout: bool, stderr: bool) -> AttachSelection {
    AttachSelection { stdin, stdout, stderr, logs: false, stream: true }
}

pub(super) fn lines(query: LogQuery) -> LogSelection {
    let LogQuery { follow, stdout, stderr, since, until, tail } = query;
    LogSelection { follow, stdout, stderr, since, until, tail }
}

pub(super) fn of(attachment: Attachment, terminal: bool) -> ContainerStreams {
    let Attachment { input, output } = attachment;
    let piece =
        |StreamPiece { stream, bytes }| OutputPiece { stream: output_stream(stream), bytes };
    ContainerStreams { input, output: mapped(output, piece), terminal }
}

pub(super) fn log_line(line: ::containers::OutputLine) -> LogLine {
    let ::containers::OutputLine { time, stream, bytes } = line;
    LogLine { time, stream: output_stream(stream), bytes: bytes.into() }
}

fn output_stream(stream: Stream) -> OutputStream {
    match stream {
        Stream::Stdout => OutputStream::Stdout,
        Stream::Stderr => OutputStream::Stderr,
    }
}

/// Passes values on as others, until there are no more or the reader is gone.
pub(super) fn mapped<A: Send + 'static, B: Send + 'static>(
    mut from: mpsc::Receiver<A>,
    map: impl Fn(A) -> B + Send + 'static,
) -> mpsc::Receiver<B> {
    let (sender, receiver) = mpsc::channel(BETWEEN);
    tokio::spawn(async move {
        loop {
            let value = tokio::select! {
                value = from.recv() => value,
                // Before the next value: the sender has to learn of it.
                () = sender.closed() => None,
            };
            let Some(value) = value else { return };
            if sender.send(map(value)).await.is_err() {
                return;
            }
        }
    });
    receiver
}
