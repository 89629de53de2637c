//! The progress of a build, kept for all who ask for it: each reads from the beginning.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use graph::{Event, Events, Stream, TaskEvent, Vertex, Vertexes};
use prost::Message as _;
use tokio::sync::watch;

use crate::grpc::Messages;
use crate::proto::control::{
    StatusResponse, Vertex as VertexMessage, VertexLog, VertexStatus, VertexWarning,
};
use crate::proto::gateway::WarnRequest;

/// The most that a build's progress may have, in bytes: it stays in memory while the build runs.
/// More output of commands is left out, as BuildKit leaves out more than 2 MiB of one step.
const MOST_BYTES: usize = 64 << 20;
/// A message is sent when it has about so many bytes.
const MESSAGE: usize = 1 << 20;

/// The progress of a build. Clones share it.
#[derive(Clone, Debug)]
pub struct BuildProgress(Arc<SharedProgress>);

#[derive(Debug)]
struct SharedProgress {
    state: Mutex<ProgressState>,
    /// Counts the messages, for those who wait.
    changes: watch::Sender<usize>,
}

#[derive(Debug)]
struct ProgressState {
    vertexes: Vertexes,
    messages: Vec<StatusResponse>,
    bytes: usize,
    is_full: bool,
    is_ended: bool,
    warnings: usize,
}

/// Numbers of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// All.
    pub total: usize,
    /// Those that were found.
    pub cached: usize,
    /// Those that ended.
    pub completed: usize,
    /// Warnings.
    pub warnings: usize,
}

impl BuildProgress {
    /// The progress of a build, whose name makes its vertexes its own.
    pub fn new(build: &str) -> Self {
        let state = ProgressState {
            vertexes: Vertexes::of_build(build),
            messages: Vec::new(),
            bytes: 0,
            is_full: false,
            is_ended: false,
            warnings: 0,
        };
        Self(Arc::new(SharedProgress { state: Mutex::new(state), changes: watch::Sender::new(0) }))
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink for a build's events.
    pub fn events(&self) -> Events {
        let progress = self.clone();
        Events::new(move |event| progress.take(&event))
    }

    fn take(&self, event: &Event) {
        let mut state = self.state();
        if state.is_ended {
            return;
        }
        let digest = state.vertexes.digest(event.task).to_string();
        let mut message = StatusResponse::default();
        match &event.what {
            TaskEvent::Log(stream, data) => {
                message.logs.push(log(digest, *stream, event.at, data));
            }
            TaskEvent::Transfer(transfer) => message.statuses.push(VertexStatus {
                id: transfer.name.to_string(),
                vertex: digest,
                name: String::new(),
                current: transfer.current.cast_signed(),
                total: transfer.total.cast_signed(),
                timestamp: Some(event.at.into()),
                started: Some(transfer.started.into()),
                completed: transfer.completed.map(Into::into),
            }),
            TaskEvent::Warning(text) => {
                state.warnings += 1;
                message.warnings.push(VertexWarning {
                    vertex: digest,
                    level: 1,
                    short: text.as_bytes().to_vec(),
                    ..VertexWarning::default()
                });
            }
            TaskEvent::Known(_)
            | TaskEvent::Started
            | TaskEvent::Cached(_)
            | TaskEvent::Done
            | TaskEvent::Failed(_) => {
                let vertex = state.vertexes.take(event).map(vertex);
                message.vertexes.extend(vertex);
            }
        }
        self.push(state, message);
    }

    fn push(&self, mut state: MutexGuard<'_, ProgressState>, message: StatusResponse) {
        let is_output = message.vertexes.is_empty() && message.warnings.is_empty();
        if is_output && state.bytes > MOST_BYTES {
            if state.is_full || message.logs.is_empty() {
                return;
            }
            state.is_full = true;
            let text = "[output clipped, there is too much of it]\n";
            let first =
                message.logs.into_iter().next().map(|log| VertexLog { msg: text.into(), ..log });
            state.messages.push(StatusResponse {
                logs: first.into_iter().collect(),
                ..StatusResponse::default()
            });
        } else {
            state.bytes += message.encoded_len();
            state.messages.push(message);
        }
        let count = state.messages.len();
        drop(state);
        self.0.changes.send_replace(count);
    }

    /// Passes a client's own warning on.
    pub(crate) fn warn(&self, warning: WarnRequest) {
        let mut state = self.state();
        if state.is_ended {
            return;
        }
        state.warnings += 1;
        let warning = VertexWarning {
            vertex: warning.digest,
            level: warning.level,
            short: warning.short,
            detail: warning.detail,
            url: warning.url,
            info: warning.info,
            ranges: warning.ranges,
        };
        let message = StatusResponse { warnings: vec![warning], ..StatusResponse::default() };
        self.push(state, message);
    }

    /// Ends it: what goes on is canceled, and readers come to their end.
    pub fn end(&self) {
        let mut state = self.state();
        if state.is_ended {
            return;
        }
        let now = SystemTime::now();
        let open = |vertex: &&Vertex| vertex.started.is_some() && vertex.completed.is_none();
        let canceled = state.vertexes.iter().filter(open).map(|vertex| VertexMessage {
            completed: Some(now.into()),
            error: "context canceled".into(),
            ..self::vertex(vertex)
        });
        let vertexes: Vec<_> = canceled.collect();
        if !vertexes.is_empty() {
            state.messages.push(StatusResponse { vertexes, ..StatusResponse::default() });
        }
        state.is_ended = true;
        let count = state.messages.len();
        drop(state);
        self.0.changes.send_replace(count + 1);
    }

    /// The numbers of steps so far.
    pub(crate) fn counts(&self) -> StepCounts {
        let state = self.state();
        let mut counts = StepCounts { warnings: state.warnings, ..StepCounts::default() };
        for vertex in state.vertexes.iter() {
            counts.total += 1;
            counts.cached += usize::from(vertex.cached);
            counts.completed += usize::from(vertex.completed.is_some());
        }
        counts
    }

    /// All messages so far, for the record of the build.
    pub(crate) fn all(&self) -> Vec<StatusResponse> {
        self.state().messages.clone()
    }

    /// The messages after the first `seen`, in one; none at the end.
    async fn next(&self, seen: &mut usize) -> Option<StatusResponse> {
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.mark_unchanged();
            {
                let state = self.state();
                let new = state.messages.get(*seen..).unwrap_or_default();
                if !new.is_empty() {
                    let (message, count) = joined(new);
                    *seen += count;
                    return Some(message);
                }
                if state.is_ended {
                    return None;
                }
            }
            if changes.changed().await.is_err() {
                return None;
            }
        }
    }

    /// The messages after the first `seen`, in one, as protobuf; none at the end.
    pub async fn next_encoded(&self, seen: &mut usize) -> Option<Vec<u8>> {
        Some(self.next(seen).await?.encode_to_vec())
    }

    /// The messages from the beginning, until the build ends.
    pub fn messages(&self) -> Messages<StatusResponse> {
        let progress = self.clone();
        Box::pin(futures_util::stream::unfold((progress, 0), async |(progress, mut seen)| {
            let message = progress.next(&mut seen).await?;
            Some((Ok(message), (progress, seen)))
        }))
    }
}

/// Some messages in one, and their number.
fn joined(messages: &[StatusResponse]) -> (StatusResponse, usize) {
    let (mut joined, mut bytes, mut count) = (StatusResponse::default(), 0, 0);
    for message in messages {
        bytes += message.encoded_len();
        if count > 0 && bytes > MESSAGE {
            break;
        }
        count += 1;
        joined.vertexes.extend(message.vertexes.iter().cloned());
        joined.statuses.extend(message.statuses.iter().cloned());
        joined.logs.extend(message.logs.iter().cloned());
        joined.warnings.extend(message.warnings.iter().cloned());
    }
    (joined, count)
}

fn vertex(vertex: &Vertex) -> VertexMessage {
    VertexMessage {
        digest: vertex.digest.to_string(),
        inputs: vertex.inputs.iter().map(ToString::to_string).collect(),
        name: vertex.name.to_string(),
        cached: vertex.cached,
        started: vertex.started.map(Into::into),
        completed: vertex.completed.map(Into::into),
        error: vertex.error.to_string(),
    }
}

fn log(vertex: String, stream: Stream, at: SystemTime, data: &[u8]) -> VertexLog {
    let stream = match stream {
        Stream::Out => 1,
        Stream::Err => 2,
    };
    let msg = bytes::Bytes::copy_from_slice(data);
    VertexLog { vertex, timestamp: Some(at.into()), stream, msg }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use graph::TaskEvent;

    use super::*;

    #[tokio::test]
    async fn each_reader_sees_all_of_it() {
        let progress = BuildProgress::new("b");
        let events = progress.events();
        let task = events.task("[1/2] RUN x", Vec::new());
        events.send(task, TaskEvent::Started);
        let mut early = progress.messages();
        let first = early.next().await.unwrap().unwrap();
        assert_eq!(first.vertexes.len(), 2);
        events.send(task, TaskEvent::Log(Stream::Err, b"hi\n".as_slice().into()));
        events.send(task, TaskEvent::Warning("careful".into()));
        progress.end();
        events.send(task, TaskEvent::Done);
        let rest = early.next().await.unwrap().unwrap();
        assert_eq!((rest.logs[0].stream, rest.warnings.len()), (2, 1));
        assert_eq!(rest.vertexes[0].error, "context canceled");
        assert!(early.next().await.is_none());
        let late: Vec<_> = progress.messages().collect().await;
        assert_eq!(late.len(), 1);
        assert_ne!(
            first.vertexes[0].digest,
            BuildProgress::new("c").state().vertexes.digest(task).to_string()
        );
        let counts = progress.counts();
        assert_eq!((counts.total, counts.completed, counts.warnings), (1, 0, 1));
    }
}
