//! Other HTTP services by way of the registry client, with its certificates, proxies and counters.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use registry::{Client, Stats};

/// Time until a response begins, sending the body (at most a part of a layer) included.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);
/// Cloud machines' metadata services, from which the library gets credentials. On other machines these
/// addresses do not answer, hence a short timeout.
const METADATA_HOSTS: [&str; 3] = ["169.254.169.254", "169.254.170.2", "metadata"];
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// Time until the next bytes of a response.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The HTTP client of the library of object stores.
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
        let timeout = if is_metadata { METADATA_TIMEOUT } else { RESPONSE_TIMEOUT };
        match tokio::time::timeout(timeout, client.call(request)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        }
    }
}

/// A stream that fails when it stalls, and counts its bytes.
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
            let item = match tokio::time::timeout(IDLE_TIMEOUT, stream.next()).await {
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
