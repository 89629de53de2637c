//! Connections and requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::answers::{HandOver, json_text, set};
use crate::body::Body;
use crate::buildkit::{BuildKit, Connection};
use crate::endpoints::Does;
use crate::events::Events;
use crate::half_close::{HalfClose, HalfCloseGuard, HalfCloseIo};
use crate::handlers::{self, EndpointCall};
use crate::query::Query;
use crate::upload_table::UploadTable;
use crate::{API, ApiError, ContainerDetails, ContainerEngine, DockerEngine, Sizes, route, upload};

const NO_CONTAINERS: &str = "kiln starts no containers here: put what the container does into the Dockerfile as a \
    RUN, or into a job whose image is the one that was built";

/// The parts of a connection that a request may take.
struct ConnectionParts {
    hand_over: HandOver,
    half_close: Option<HalfCloseGuard>,
}

/// True if the answer may outlive what the client sends: `attach`, and `start` of a further command. A body in chunks is
/// the input itself, and its end is seen in it.
fn becomes_streams(request: &Request<Incoming>) -> bool {
    let path = request.uri().path();
    let is_path = path.ends_with("/attach") || path.ends_with("/start");
    is_path && !request.headers().contains_key(TRANSFER_ENCODING)
}

/// Bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The time that the head of a request may take, the wait for the next request included.
    pub head_time: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Lines of a request's head.
    pub headers: usize,
}

impl Default for ConnectionLimits {
    /// A head as large as Go's servers take (1 MiB is theirs; queries of builds have arguments and labels).
    fn default() -> Self {
        Self { head_time: Duration::from_secs(120), head_bytes: 1 << 20, headers: 200 }
    }
}

/// The engine: what all connections share.
pub struct EngineServer {
    pub(crate) docker: Arc<dyn DockerEngine>,
    containers: Option<Arc<dyn ContainerEngine>>,
    pub(crate) buildkit: Option<Arc<dyn BuildKit>>,
    pub(crate) events: Events,
    /// Running builds that can be cancelled, by their IDs.
    pub(crate) builds: Mutex<HashMap<String, AbortHandle>>,
    /// Archives that come in requests of their own.
    pub(crate) uploads: UploadTable,
    limits: ConnectionLimits,
    /// True if clients that can build in both ways are told to take the classic one.
    prefers_classic: bool,
}

impl EngineServer {
    /// An engine; without `containers` it starts none, and without `buildkit` it has the classic way to build only.
    pub fn new(
        docker: Arc<dyn DockerEngine>,
        containers: Option<Arc<dyn ContainerEngine>>,
        buildkit: Option<Arc<dyn BuildKit>>,
    ) -> Self {
        Self {
            docker,
            containers,
            buildkit,
            events: Events::default(),
            builds: Mutex::default(),
            uploads: UploadTable::default(),
            limits: ConnectionLimits::default(),
            prefers_classic: false,
        }
    }

    /// The same engine, with a sender of events that others have too.
    #[must_use]
    pub fn with_events(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// The engine, whose clients build the classic way unless they are told otherwise.
    #[must_use]
    pub fn preferring_classic_builds(self) -> Self {
        Self { prefers_classic: true, ..self }
    }

    /// The sender of events, for work that comes in another way.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// BuildKit's API, if there is one.
    pub fn buildkit(&self) -> Option<&Arc<dyn BuildKit>> {
        self.buildkit.as_ref()
    }

    /// The engine of containers.
    ///
    /// # Errors
    /// If this service starts none.
    pub(crate) fn containers(&self) -> Result<&Arc<dyn ContainerEngine>, ApiError> {
        self.containers.as_ref().ok_or_else(|| ApiError::NotImplemented(NO_CONTAINERS.into()))
    }

    /// All containers; none if this service starts none.
    pub(crate) async fn all_containers(
        &self,
        sizes: Sizes,
    ) -> Result<Vec<ContainerDetails>, ApiError> {
        match &self.containers {
            Some(containers) => containers.list(sizes).await,
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn builds(&self) -> std::sync::MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection of HTTP/1.1 to its end. When `stop` becomes true, the request that runs is the
    /// last one.
    pub async fn serve(
        self: Arc<Self>,
        connection: impl Connection + 'static,
        mut stop: watch::Receiver<bool>,
    ) {
        let limits = self.limits;
        let (hand_over, mut handed_over) = mpsc::unbounded_channel();
        let half_close = HalfClose::default();
        let connection = HalfCloseIo::new(connection, half_close.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (engine, hand_over) = (self.clone(), hand_over.clone());
            // Before hyper reads on: the client may have ended its side already.
            let half_close = becomes_streams(&request).then(|| half_close.allow());
            let taken = ConnectionParts { hand_over, half_close };
            async move { Ok::<_, Infallible>(engine.answer(request, taken).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_headers(limits.headers)
            .max_buf_size(limits.head_bytes)
            .half_close(false);
        let served = server.serve_connection(TokioIo::new(connection), service).with_upgrades();
        let mut served = std::pin::pin!(served);
        // The value that is waited for must not be held while the last request is served.
        let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
        let result = tokio::select! {
            result = served.as_mut() => result,
            () = stopped => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        match result {
            Err(error) => tracing::debug!(%error, "connection ended"),
            // A connection that was upgraded goes on as another.
            Ok(()) => {
                if let Ok(upgraded) = handed_over.try_recv() {
                    upgraded.await;
                }
            }
        }
    }

    /// The answer to a request.
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: ConnectionParts,
    ) -> Response<Body> {
        let method = request.method().to_string();
        let path = request.uri().path().to_owned();
        let result = self.clone().dispatch(request, &method, &path, connection).await;
        let mut response = result.unwrap_or_else(|error| {
            tracing::debug!(method, path, status = error.status().as_u16(), "refused");
            let mut response = Response::new(Body::from(error.body()));
            *response.status_mut() = error.status();
            set(&mut response, CONTENT_TYPE, "application/json");
            response
        });
        self.identify(&mut response);
        if method == "HEAD" {
            *response.body_mut() = Body::Whole(None);
        }
        response
    }

    async fn dispatch(
        self: Arc<Self>,
        request: Request<Incoming>,
        method: &str,
        path: &str,
        connection: ConnectionParts,
    ) -> Result<Response<Body>, ApiError> {
        let route = route::route(method, path)?;
        let endpoint = route.endpoint;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        tracing::debug!(method, path = endpoint.path, name = route.name, "request");
        match endpoint.does {
            Does::Answer(json) => {
                endpoint.judge(&query)?;
                Ok(json_text(json.to_owned()))
            }
            Does::Missing(kind) => {
                Err(ApiError::NotFound(format!("No such {kind}: {}", route.name)))
            }
            Does::Refuse(why) => {
                Err(ApiError::NotImplemented(format!("`{method} {}`: {why}", endpoint.path)))
            }
            Does::Run(action) => {
                let notes = match endpoint.judge(&query) {
                    Ok(notes) => notes,
                    Err(error) => {
                        upload::drain(request.into_body());
                        return Err(error);
                    }
                };
                let call = EndpointCall {
                    name: route.name,
                    version: route.version,
                    query,
                    notes,
                    request,
                    hand_over: connection.hand_over,
                    half_close: connection.half_close,
                };
                handlers::run(self, action, call).await
            }
        }
    }

    /// Adds the headers by which clients know an engine.
    fn identify(&self, response: &mut Response<Body>) {
        let prefers_buildkit = self.buildkit.is_some() && !self.prefers_classic;
        let builder = if prefers_buildkit { "2" } else { "1" };
        for (name, value) in [
            ("api-version", API),
            ("ostype", "linux"),
            ("docker-experimental", "false"),
            ("builder-version", builder),
            ("server", concat!("Docker/28.2.2+kiln-", env!("CARGO_PKG_VERSION"), " (linux)")),
        ] {
            set(response, HeaderName::from_static(name), value);
        }
    }
}

impl std::fmt::Debug for EngineServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineServer")
    }
}
