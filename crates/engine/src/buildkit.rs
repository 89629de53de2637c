//! The seam to BuildKit's gRPC API.

use async_trait::async_trait;
use hyper::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection on which bytes go both ways.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// BuildKit's gRPC API, which clients of an engine reach by upgrading a connection.
#[async_trait]
pub trait BuildKit: Send + Sync {
    /// Serves the API on a connection of HTTP/2 without a preceding upgrade, until it ends (`/grpc`, and
    /// connections that begin with HTTP/2).
    async fn serve(&self, connection: Box<dyn Connection>);

    /// Keeps a session, whose services the client serves on a connection of HTTP/2, until it ends
    /// (`/session`).
    async fn session(&self, connection: Box<dyn Connection>, headers: SessionHeaders);
}

/// The properties of a session, as the headers of `/session` have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionHeaders {
    /// `X-Docker-Expose-Session-Uuid`: by which builds refer to it.
    pub uuid: String,
    /// `X-Docker-Expose-Session-Name`.
    pub name: String,
    /// `X-Docker-Expose-Session-Sharedkey`.
    pub shared_key: String,
    /// `X-Docker-Expose-Session-Grpc-Method`: the methods that the client serves.
    pub methods: Vec<String>,
}

impl SessionHeaders {
    /// Reads the headers of a request, or the metadata of a call.
    pub fn read(headers: &HeaderMap) -> Self {
        let all = |name: &str| -> Vec<String> {
            let name = format!("x-docker-expose-session-{name}");
            let values = headers.get_all(name).into_iter();
            values.filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect()
        };
        let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
        Self {
            uuid: first("uuid"),
            name: first("name"),
            shared_key: first("sharedkey"),
            methods: all("grpc-method"),
        }
    }
}
