//! The streams of a command, on kiln's side.
//!
//! The output is read when it is asked for: until then it stays in the pipe, and the command waits.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::container::{Stream, Streams, TerminalSize};
use crate::error::Error;
use crate::passing;

/// Bytes read from a command's output at once: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Most bytes that two pipes hold, which an ordinary user can enlarge (`/proc/sys/fs/pipe-max-size`).
const MOST_LEFT: usize = 2 << 20;

/// The input of a command. Dropping it is the end of the input; a terminal has no such end.
#[derive(Debug)]
pub struct ContainerInput(InputSink);

#[derive(Debug)]
enum InputSink {
    Pipe(pipe::Sender),
    Terminal(Arc<Terminal>),
}

impl AsyncWrite for ContainerInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            InputSink::Pipe(pipe) => Pin::new(pipe).poll_write(context, bytes),
            InputSink::Terminal(terminal) => loop {
                let mut ready = ready!(terminal.master.poll_write_ready(context))?;
                let written = |master: &AsyncFd<OwnedFd>| Ok(rustix::io::write(master, bytes)?);
                if let Ok(result) = ready.try_io(written) {
                    return Poll::Ready(result);
                }
            },
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Has tokio watch a pipe or terminal, which does not block from then on.
fn watched(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&file, true)?;
    // SAFETY: the descriptor is owned, stays open as long as the value lives, and is always the same one.
    Ok(unsafe { AsyncFd::register_with_interest(file, interest) }?)
}

/// kiln's end of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    /// Takes the master that a command's process has sent before it became the command.
    fn receive(from: &StdUnixStream) -> io::Result<Terminal> {
        let (_, files) = passing::receive(from, &mut [0])?;
        let master = files.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Terminal { master: watched(master, Interest::READABLE | Interest::WRITABLE)? })
    }

    pub(crate) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        Ok(tcsetwinsize(&self.master, window(size))?)
    }
}

/// A size as the kernel has it.
pub(crate) fn window(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The output of a command.
#[derive(Debug)]
pub struct ContainerOutput {
    /// Those that have not ended.
    sources: Vec<OutputSource>,
    buffer: Vec<u8>,
    /// The one to be asked first.
    turn: usize,
    /// True once the process has ended: what others still hold open is not waited for then.
    over: Option<watch::Receiver<bool>>,
    /// Most bytes that are read after that.
    left: usize,
}

#[derive(Debug)]
struct OutputSource {
    file: OutputFile,
    stream: Stream,
}

#[derive(Debug)]
enum OutputFile {
    Pipe(AsyncFd<OwnedFd>),
    Terminal(Arc<Terminal>),
}

impl OutputFile {
    fn readable(&self) -> &AsyncFd<OwnedFd> {
        match self {
            OutputFile::Pipe(pipe) => pipe,
            OutputFile::Terminal(terminal) => &terminal.master,
        }
    }
}

impl AsFd for OutputFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable().as_fd()
    }
}

impl OutputSource {
    fn pipe(reader: io::PipeReader, stream: Stream) -> io::Result<OutputSource> {
        let reader = watched(reader.into(), Interest::READABLE)?;
        Ok(OutputSource { file: OutputFile::Pipe(reader), stream })
    }

    /// Reads some bytes; none at the end.
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        loop {
            let Ok(mut ready) = ready!(self.file.readable().poll_read_ready(context)) else {
                return Poll::Ready(0);
            };
            let read = |file: &AsyncFd<OwnedFd>| Ok(rustix::io::read(file, &mut *buffer)?);
            if let Ok(result) = ready.try_io(read) {
                // A terminal whose last user has closed it gives an error.
                return Poll::Ready(result.unwrap_or(0));
            }
        }
    }
}

impl ContainerOutput {
    fn new(sources: Vec<OutputSource>) -> ContainerOutput {
        ContainerOutput { sources, buffer: vec![0; CHUNK], turn: 0, over: None, left: MOST_LEFT }
    }

    /// The next piece of what the command prints, at most 64 KiB; none at the end. With a terminal all of it is
    /// [`Stream::Stdout`].
    ///
    /// When the future is dropped, nothing is lost.
    pub async fn next(&mut self) -> Option<(Stream, Vec<u8>)> {
        let piece = match self.over.clone() {
            None => poll_fn(|context| self.poll_piece(context)).await,
            Some(mut over) => tokio::select! {
                biased;
                // An error is the end of who would tell.
                _ = over.wait_for(|over| *over) => self.rest(),
                piece = poll_fn(|context| self.poll_piece(context)) => piece,
            },
        };
        piece.map(|(stream, length)| (stream, self.buffer[..length].to_vec()))
    }

    /// The next piece, as from [`ContainerOutput::next`], for as long as any process holds the output open.
    pub(crate) async fn piece(&mut self) -> Option<(Stream, &[u8])> {
        let (stream, length) = poll_fn(|context| self.poll_piece(context)).await?;
        Some((stream, &self.buffer[..length]))
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<(Stream, usize)>> {
        self.turn = self.turn.wrapping_add(1);
        let mut asked = 0;
        while asked < self.sources.len() {
            let index = self.turn.wrapping_add(asked) % self.sources.len();
            let source = &self.sources[index];
            match source.poll_read(context, &mut self.buffer) {
                Poll::Ready(0) => {
                    self.sources.swap_remove(index);
                    asked = 0;
                }
                Poll::Ready(length) => return Poll::Ready(Some((source.stream, length))),
                Poll::Pending => asked += 1,
            }
        }
        if self.sources.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Reads on without waiting: all there is after the end of the process, and no more of what others write on.
    fn rest(&mut self) -> Option<(Stream, usize)> {
        while let Some(source) = self.sources.last() {
            // Readiness that tokio knows of may be old.
            match rustix::io::read(&source.file, &mut self.buffer[..]) {
                Err(Errno::INTR) => {}
                Ok(length) if length > 0 && self.left > 0 => {
                    self.left = self.left.saturating_sub(length);
                    return Some((source.stream, length));
                }
                _ => drop(self.sources.pop()),
            }
        }
        None
    }
}

/// The ends of a command's streams that stay here, until it runs.
pub(crate) enum KeptStreams {
    Piped {
        input: Option<pipe::Sender>,
        output: ContainerOutput,
    },
    /// The master comes over this socket.
    Terminal(StdUnixStream),
}

/// Streams of a command that runs.
pub(crate) struct OpenStreams {
    pub(crate) input: Option<ContainerInput>,
    pub(crate) output: ContainerOutput,
    pub(crate) terminal: Option<Arc<Terminal>>,
}

/// Makes streams: kiln's ends, and those that go with [`LineMessage::Begin`](crate::line::LineMessage::Begin).
pub(crate) fn make(streams: Streams) -> Result<(KeptStreams, Vec<OwnedFd>), Error> {
    try_make(streams).map_err(|source| Error::Streams { source })
}

fn try_make(streams: Streams) -> io::Result<(KeptStreams, Vec<OwnedFd>)> {
    let Streams::Piped { stdin } = streams else {
        let (kept, given) = StdUnixStream::pair()?;
        kept.set_nonblocking(true)?;
        return Ok((KeptStreams::Terminal(kept), vec![given.into()]));
    };
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let mut given = vec![OwnedFd::from(stdout_end), stderr_end.into()];
    let mut input = None;
    if stdin {
        let (stdin_end, stdin) = io::pipe()?;
        input = Some(pipe::Sender::from_owned_fd(stdin.into())?);
        given.push(stdin_end.into());
    }
    let sources = vec![
        OutputSource::pipe(stdout, Stream::Stdout)?,
        OutputSource::pipe(stderr, Stream::Stderr)?,
    ];
    Ok((KeptStreams::Piped { input, output: ContainerOutput::new(sources) }, given))
}

impl KeptStreams {
    /// The streams of a command that runs; its output ends at the latest when `over` is true.
    pub(crate) fn open(self, over: watch::Receiver<bool>) -> Result<OpenStreams, Error> {
        let (input, mut output, terminal) = match self {
            KeptStreams::Piped { input, output } => {
                (input.map(|pipe| ContainerInput(InputSink::Pipe(pipe))), output, None)
            }
            KeptStreams::Terminal(socket) => {
                let terminal = Terminal::receive(&socket);
                let terminal = Arc::new(terminal.map_err(|source| Error::Streams { source })?);
                let (file, stream) = (OutputFile::Terminal(terminal.clone()), Stream::Stdout);
                let output = ContainerOutput::new(vec![OutputSource { file, stream }]);
                let input = ContainerInput(InputSink::Terminal(terminal.clone()));
                (Some(input), output, Some(terminal))
            }
        };
        output.over = Some(over);
        Ok(OpenStreams { input, output, terminal })
    }
}
