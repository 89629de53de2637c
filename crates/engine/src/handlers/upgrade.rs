//! Connections that are handed over to BuildKit's API.

use std::sync::Arc;

use hyper::header::{CONNECTION, UPGRADE};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::EndpointCall;
use crate::answers::{set, status};
use crate::body::Body;
use crate::buildkit::{BuildKit, SessionHeaders};
use crate::{ApiError, EngineServer};

const NO_BUILDKIT: &str =
    "BuildKit's API is not served here: DOCKER_BUILDKIT=0 builds the classic way";

/// Answers with 101, and gives the connection to `serve`.
fn upgrade<F>(
    engine: &EngineServer,
    mut call: EndpointCall,
    serve: impl FnOnce(Arc<dyn BuildKit>, Box<dyn crate::Connection>) -> F + Send + 'static,
) -> Result<Response<Body>, ApiError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let buildkit =
        engine.buildkit().ok_or_else(|| ApiError::NotImplemented(NO_BUILDKIT.into()))?.clone();
    let asked = call.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    if !asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case("h2c")) {
        let message =
            "the request has to upgrade the connection: `Connection: Upgrade`, `Upgrade: h2c`";
        return Err(ApiError::BadRequest(message.into()));
    }
    let upgraded = hyper::upgrade::on(&mut call.request);
    let rest = async move {
        match upgraded.await {
            Ok(connection) => serve(buildkit, Box::new(TokioIo::new(connection))).await,
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    };
    // The connection waits for it.
    let _ = call.hand_over.send(Box::pin(rest));
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    set(&mut response, CONNECTION, "Upgrade");
    set(&mut response, UPGRADE, "h2c");
    Ok(response)
}

pub(super) fn grpc(engine: &EngineServer, call: EndpointCall) -> Result<Response<Body>, ApiError> {
    upgrade(engine, call, |buildkit, connection| async move { buildkit.serve(connection).await })
}

pub(super) fn session(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let headers = SessionHeaders::read(call.headers());
    if headers.uuid.is_empty() {
        let message = "`X-Docker-Expose-Session-Uuid` is missing";
        return Err(ApiError::BadRequest(message.into()));
    }
    upgrade(engine, call, |buildkit, connection| async move {
        buildkit.session(connection, headers).await;
    })
}
