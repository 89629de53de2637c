//! Progress: messages in JSON, one on each line, sent as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::ApiError;

/// Bytes that may wait for a client that reads slowly. What comes after them is left out.
const MOST_QUEUED: usize = 16 << 20;

/// A message (`JSONMessage` in Docker's sources).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Message {
    /// Output of a build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The state of a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The part that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Bytes so far, and in all.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub detail: Option<ProgressDetail>,
    /// A result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
    /// The error that ended the work.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// Its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Bytes so far, and in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorDetail {
    message: String,
}

impl Message {
    /// Output of a build.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: Some(text.into()), ..Self::default() }
    }

    /// A line.
    pub fn status(text: impl Into<String>) -> Self {
        Self { status: Some(text.into()), ..Self::default() }
    }

    /// The state of a part, with its bytes where they are known.
    pub fn part(id: impl Into<String>, text: impl Into<String>, bytes: Option<(u64, u64)>) -> Self {
        let (current, total) = bytes.unzip();
        let detail = Some(ProgressDetail { current, total: total.filter(|total| *total > 0) });
        Self { id: Some(id.into()), detail, ..Self::status(text) }
    }

    /// A result, which clients read.
    pub fn aux(value: Value) -> Self {
        Self { aux: Some(value), ..Self::default() }
    }

    /// A result with a name, as BuildKit's progress has one.
    pub fn named_aux(id: &str, value: Value) -> Self {
        Self { id: Some(id.to_owned()), ..Self::aux(value) }
    }

    /// The error that ends the work.
    pub fn error(text: impl Into<String>) -> Self {
        let message: String = text.into();
        Self {
            error: Some(message.clone()),
            error_detail: Some(ErrorDetail { message }),
            ..Self::default()
        }
    }

    pub(crate) fn line(&self) -> Bytes {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend(b"\r\n");
        line.into()
    }
}

/// Something that a client is sent.
#[derive(Debug)]
pub(crate) enum Item {
    Line(Bytes),
    End(Result<(), ApiError>),
}

/// A sender of messages to the client of one request. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub struct ProgressSender {
    sender: mpsc::UnboundedSender<Item>,
    queued: Arc<AtomicUsize>,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Lines {
    receiver: mpsc::UnboundedReceiver<Item>,
    queued: Arc<AtomicUsize>,
}

impl ProgressSender {
    pub(crate) fn channel() -> (Self, Lines) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::<AtomicUsize>::default();
        (Self { sender, queued: queued.clone() }, Lines { receiver, queued })
    }

    /// Sends a message. A client that does not read gets no more than what its queue holds.
    pub fn send(&self, message: &Message) {
        // Results are short and must arrive.
        if message.aux.is_none() && self.queued.load(Ordering::Relaxed) > MOST_QUEUED {
            return;
        }
        let line = message.line();
        self.queued.fetch_add(line.len(), Ordering::Relaxed);
        // A client that is gone gets nothing.
        let _ = self.sender.send(Item::Line(line));
    }

    pub(crate) fn end(&self, result: Result<(), ApiError>) {
        let _ = self.sender.send(Item::End(result));
    }
}

impl Lines {
    pub(crate) fn poll(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Item>> {
        let item = std::task::ready!(self.receiver.poll_recv(context));
        if let Some(Item::Line(line)) = &item {
            self.queued.fetch_sub(line.len(), Ordering::Relaxed);
        }
        std::task::Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_dockers() {
        let text = |message: Message| String::from_utf8(message.line().to_vec()).unwrap();
        assert_eq!(text(Message::stream("a\n")), "{\"stream\":\"a\\n\"}\r\n");
        assert_eq!(
            text(Message::part("abc", "Downloading", Some((1, 2)))),
            "{\"status\":\"Downloading\",\"id\":\"abc\",\"progressDetail\":{\"current\":1,\"total\":2}}\r\n"
        );
        assert_eq!(
            text(Message::part("abc", "Pushed", None)),
            "{\"status\":\"Pushed\",\"id\":\"abc\",\"progressDetail\":{}}\r\n"
        );
        assert_eq!(
            text(Message::error("no")),
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }

    #[test]
    fn a_client_that_does_not_read_costs_little() {
        let (progress, lines) = ProgressSender::channel();
        let message = Message::stream("x".repeat(1 << 20));
        for _ in 0..100 {
            progress.send(&message);
        }
        progress.send(&Message::aux(serde_json::json!({ "ID": "x" })));
        assert!(lines.queued.load(Ordering::Relaxed) < MOST_QUEUED + (2 << 20));
        assert!(lines.receiver.len() < 40);
    }
}
