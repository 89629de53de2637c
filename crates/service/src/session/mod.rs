//! Sessions: what a client offers to the builds that it asks for.
//!
//! The client dials, and then the direction turns: over its connection it is the gRPC server, and
//! kiln calls it for files, secrets, agents and logins. A session's id is a secret of its client:
//! it gives the right to use the session.

mod services;
mod table;
mod tunnel;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status};

use crate::grpc::Channel;
use crate::proto::session::{HealthCheckRequest, HealthCheckResponse};

pub use services::{AgentStream, ByteReader, ByteStream, SessionLogin};
pub use table::{SessionError, Sessions};
pub(crate) use tunnel::tunnel;

/// The headers that announce a session, in lower case.
const ID: &str = "x-docker-expose-session-uuid";
const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const METHODS: &str = "x-docker-expose-session-grpc-method";

/// Larger windows than HTTP/2's own: contexts come over one connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Times between two questions whether a client is still there, and for its answer (BuildKit's
/// `session/grpc.go`).
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(15);
/// Failed questions in a row after which a client is gone.
const MOST_FAILURES: u32 = 2;

/// A session's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionHeaders {
    /// The id.
    pub id: String,
    /// A name under which the client's contexts are kept for the next build; it is the client's
    /// secret.
    pub shared_key: String,
    /// The methods that the client serves, in lower case.
    methods: HashSet<String>,
}

impl SessionHeaders {
    /// Headers that were read already.
    ///
    /// # Errors
    /// If the id is empty.
    pub fn new<'m>(
        id: &str,
        shared_key: &str,
        methods: impl IntoIterator<Item = &'m str>,
    ) -> Result<Self, SessionError> {
        if id.is_empty() {
            return Err(SessionError::NoId);
        }
        Ok(Self {
            id: id.to_owned(),
            shared_key: shared_key.to_owned(),
            methods: methods.into_iter().map(str::to_lowercase).collect(),
        })
    }

    /// Reads the headers of a session's request.
    ///
    /// # Errors
    /// If there is no id.
    pub fn of(headers: &http::HeaderMap) -> Result<Self, SessionError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let methods = headers.get_all(METHODS).iter().filter_map(|value| value.to_str().ok());
        Self::new(text(ID).unwrap_or_default(), text(SHARED_KEY).unwrap_or_default(), methods)
    }

    /// True if the client serves a method. One that names none is asked as BuildKit asks: dockerode has logins so.
    fn offer(&self, method: &str) -> bool {
        let is_asked = || self.methods.is_empty() && services::ASKED_ANYWAY.contains(&method);
        self.methods.contains(&method.to_lowercase()) || is_asked()
    }
}

/// An open session.
pub struct ClientSession {
    headers: SessionHeaders,
    channel: Channel,
    closed: watch::Receiver<bool>,
}

impl std::fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientSession(…)")
    }
}

/// The connection of a session: ends when the client has gone.
pub type SessionEnd = futures_util::future::BoxFuture<'static, ()>;

impl ClientSession {
    /// Begins a session over a connection whose other end is a gRPC server. The future drives the
    /// connection, and ends with it.
    ///
    /// # Errors
    /// If the other end does not speak HTTP/2.
    pub async fn over(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        headers: SessionHeaders,
    ) -> Result<(Arc<Self>, SessionEnd), SessionError> {
        let (send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(io))
            .await
            .map_err(SessionError::Handshake)?;
        let channel = Channel::new(send);
        let (end, closed) = watch::channel(false);
        let session = Arc::new(Self { headers, channel: channel.clone(), closed });
        let is_healthy = session.supports("/grpc.health.v1.Health/Check");
        let driven = async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "session ended");
                    }
                }
                () = watch_health(channel), if is_healthy => {
                    tracing::debug!("session ended: the client does not answer");
                }
            }
            // It fails where no build uses the session.
            let _ = end.send(true);
        };
        Ok((session, Box::pin(driven)))
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.headers.id
    }

    /// The name under which the client's contexts are kept; none where it gave none.
    pub fn shared_key(&self) -> Option<&str> {
        Some(self.headers.shared_key.as_str()).filter(|key| !key.is_empty())
    }

    /// True if the client serves a method, as far as its headers say.
    pub fn supports(&self, method: &str) -> bool {
        self.headers.offer(method)
    }

    /// True if the client has gone.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow() || self.channel.is_closed()
    }

    /// Completes when the client has gone.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // The sender goes with the connection.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// The channel, if the client serves a method.
    pub(crate) fn channel_for(&self, method: &'static str) -> Result<&Channel, Status> {
        if self.supports(method) {
            Ok(&self.channel)
        } else {
            let method = method.trim_start_matches('/');
            Err(Status::unimplemented(format!("the client does not offer `{method}`")))
        }
    }
}

/// Asks a client whether it is there until it does not answer any more.
async fn watch_health(channel: Channel) {
    let mut failures = 0;
    while failures < MOST_FAILURES {
        tokio::time::sleep(HEALTH_INTERVAL).await;
        let request = Request::new(HealthCheckRequest::default());
        let answer =
            channel.unary::<_, HealthCheckResponse>("/grpc.health.v1.Health/Check", request);
        let answer = tokio::time::timeout(HEALTH_TIMEOUT, answer).await;
        failures = if matches!(answer, Ok(Ok(_))) { 0 } else { failures + 1 };
    }
}

/// Values of a header as BuildKit's client reads them: where one is not ASCII, all are escaped, and
/// another header says so (`encodeOpts`).
pub(crate) fn put_values(
    metadata: &mut MetadataMap,
    name: &'static str,
    encoded: &'static str,
    values: &[String],
) {
    let is_plain = |text: &String| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let are_plain = values.iter().all(is_plain);
    for value in values {
        let text = if are_plain { value.clone() } else { oci::percent::query_escape(value) };
        // Printable ASCII always is a header.
        if let Ok(value) = MetadataValue::try_from(text) {
            metadata.append(name, value);
        }
    }
    if !are_plain {
        metadata.insert(encoded, MetadataValue::from_static("1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_no_ascii_are_escaped_together() {
        let mut metadata = MetadataMap::new();
        put_values(&mut metadata, "a", "a-encoded", &["x y".into(), "*.go".into()]);
        let values: Vec<_> = metadata.get_all("a").iter().collect();
        assert_eq!(values, ["x y", "*.go"]);
        assert!(metadata.get("a-encoded").is_none());
        put_values(&mut metadata, "b", "b-encoded", &["ä b".into(), "*".into()]);
        let values: Vec<_> = metadata.get_all("b").iter().collect();
        assert_eq!(values, ["%C3%A4+b", "%2A"]);
        assert_eq!(metadata.get("b-encoded").unwrap(), "1");
    }

    #[test]
    fn methods_are_compared_without_case() {
        let mut headers = http::HeaderMap::new();
        assert!(matches!(SessionHeaders::of(&headers), Err(SessionError::NoId)));
        headers.insert(ID, "a".parse().unwrap());
        headers.append(METHODS, "/moby.filesync.v1.FileSync/DiffCopy".parse().unwrap());
        let headers = SessionHeaders::of(&headers).unwrap();
        assert!(headers.methods.contains("/moby.filesync.v1.filesync/diffcopy"));
        assert!(!headers.offer("/moby.filesync.v1.Auth/Credentials"));
        let silent = SessionHeaders::new("a", "", []).unwrap();
        assert!(silent.offer("/moby.filesync.v1.Auth/Credentials"));
        assert!(!silent.offer("/moby.filesync.v1.FileSync/DiffCopy"));
    }
}
