//! Other protocols over the wires of the registry client: its certificates, its proxies, its
//! counts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use registry::{Client, Stats};

/// Until an answer begins, what was sent included: a part of a layer, at most.
const ANSWER: Duration = Duration::from_secs(300);
/// Where clouds give away credentials of a machine. Elsewhere nobody answers there.
const METADATA_HOSTS: [&str; 3] = ["169.254.169.254", "169.254.170.2", "metadata"];
const METADATA_ANSWER: Duration = Duration::from_secs(2);
/// Until the next bytes of an answer.
const IDLE: Duration = Duration::from_secs(60);

/// Talks HTTP for the library of object stores.
#[derive(Clone)]
pub(super) struct Wire(pub Client);

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = reqwest::Url::parse(&request.uri().to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let client = self.0.wire(&url).await;
        let client = client.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let sent = request.body().content_length() as u64;
        self.0.count(Stats { requests: 1, bytes_up: sent, bytes_down: 0 });
        let is_metadata = url.host_str().is_some_and(|host| METADATA_HOSTS.contains(&host));
        let patience = if is_metadata { METADATA_ANSWER } else { ANSWER };
        match tokio::time::timeout(patience, client.call(request)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        }
    }
}

/// A stream that gives up when it stands still, and counts what comes.
pub(super) fn watched<E>(
    client: Client,
    stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    futures_util::stream::unfold(Box::pin(stream), move |mut stream| {
        let client = client.clone();
        async move {
            let item = match tokio::time::timeout(IDLE, stream.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(bytes))) => {
                    client.count(Stats { bytes_down: bytes.len() as u64, ..Stats::default() });
                    Ok(bytes)
                }
                Ok(Some(Err(error))) => Err(std::io::Error::other(error)),
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            };
            Some((item, stream))
        }
    })
}
