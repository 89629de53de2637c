//! The streams of containers: waits, attachments, logs.

use std::future::Future;

use tokio::sync::{mpsc, watch};

use crate::attachment::{AttachSelection, Attachment, Listener, StreamPiece};
use crate::live::{Ended, WaitFor};
use crate::log::{LogEnds, LogSelection, OutputLine, send_lines};
use crate::{ContainerId, Containers, Error};

/// Lines of a log that wait for their reader.
const LINES: usize = 64;

impl Containers {
    /// Begins to wait: no change after this is missed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Elsewhere`].
    pub fn wait(
        &self,
        id: &ContainerId,
        until: WaitFor,
    ) -> Result<impl Future<Output = Ended> + Send + use<>, Error> {
        let (live, _) = self.here(id)?;
        let mut phase = live.phase.subscribe();
        let ends = phase.borrow().ends;
        Ok(async move {
            // Held, so that the container is not forgotten meanwhile.
            let _live = live;
            match phase.wait_for(|phase| phase.has_reached(until, ends)).await {
                Ok(phase) => phase.ended.clone(),
                Err(_) => Ended::default(),
            }
        })
    }

    /// Attaches to a container that runs, or that is started later.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Elsewhere`].
    pub fn attach(
        &self,
        id: &ContainerId,
        selection: AttachSelection,
    ) -> Result<Attachment, Error> {
        let (live, record) = self.here(id)?;
        let (listener, output) = Listener::new(selection);
        let sender = listener.sender().clone();
        let mut hub = live.hub();
        let input = match selection.stdin && selection.stream && record.process.open_stdin {
            true => hub.input(record.process.stdin_once),
            false => None,
        };
        if !selection.logs {
            if selection.stream {
                hub.listen(listener);
            }
            return Ok(Attachment { input, output });
        }
        // New output waits behind the lines from before.
        let (behind, rest) = Listener::new(selection);
        if selection.stream {
            hub.listen(behind);
        }
        let until_now = live.run().map(|run| fixed(&run.log));
        drop(hub);
        let folder = self.inner.folder.of(id);
        let _sent = tokio::spawn(async move {
            let lines = LogSelection {
                stdout: selection.stdout,
                stderr: selection.stderr,
                ..LogSelection::default()
            };
            let (line_sender, mut old) = mpsc::channel::<OutputLine>(LINES);
            let _read = tokio::task::spawn_blocking(move || {
                report(send_lines(&folder, until_now, &lines, &line_sender));
            });
            while let Some(OutputLine { stream, bytes, .. }) = old.recv().await {
                let piece = StreamPiece { stream, bytes: bytes.into() };
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
            forward(rest, sender).await;
        });
        Ok(Attachment { input, output })
    }

    /// The lines of a container's output.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Elsewhere`] if it is to be followed.
    pub fn logs(
        &self,
        id: &ContainerId,
        selection: LogSelection,
    ) -> Result<mpsc::Receiver<OutputLine>, Error> {
        let (live, _) = if selection.follow { self.here(id)? } else { self.live(id)? };
        let (sender, lines) = mpsc::channel(LINES);
        let ends = live.run().map(|run| run.log);
        let folder = self.inner.folder.of(id);
        let _read = tokio::task::spawn_blocking(move || {
            report(send_lines(&folder, ends, &selection, &sender));
        });
        Ok(lines)
    }
}

async fn forward(mut from: mpsc::Receiver<StreamPiece>, to: mpsc::Sender<StreamPiece>) {
    while let Some(piece) = from.recv().await {
        if to.send(piece).await.is_err() {
            return;
        }
    }
}

/// A log as it is now, for a reader that is to see no more.
fn fixed(ends: &LogEnds) -> LogEnds {
    watch::channel(*ends.borrow()).1
}

fn report(read: Result<(), Error>) {
    if let Err(error) = read {
        tracing::warn!(error = oci::chain_text(&error), "a log cannot be read");
    }
}
