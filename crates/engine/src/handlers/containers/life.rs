//! The life of a container: start, stop, wait, end.

use std::time::Duration;

use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::found::{Found, check_name, console_size};
use crate::answers::{set, status};
use crate::body::Body;
use crate::handlers::EndpointCall;
use crate::query::Query;
use crate::{
    ApiError, ContainerExit, EngineServer, RemoveContainer, SignalNumber, StateChange, StopRequest,
    StopTimeout, WaitCondition, upload,
};

fn changed(change: StateChange) -> Response<Body> {
    status(match change {
        StateChange::Changed => StatusCode::NO_CONTENT,
        StateChange::Unchanged => StatusCode::NOT_MODIFIED,
    })
}

pub(in crate::handlers) async fn start(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, &call).await?;
    let body = upload::fields(call.request.into_body()).await?;
    let is_empty = body.is_null() || body.as_object().is_some_and(serde_json::Map::is_empty);
    if !is_empty {
        let message = "starting container with non-empty request body was deprecated since API v1.22 and removed \
            in v1.24";
        return Err(ApiError::BadRequest(message.into()));
    }
    Ok(changed(found.containers.start(&found.identity.id).await?))
}

/// `t` and `signal`.
fn stop_request(query: &Query) -> Result<StopRequest, ApiError> {
    let seconds: Option<i64> = query.number("t")?;
    let timeout = seconds.map(|seconds| match u32::try_from(seconds) {
        Ok(seconds) => StopTimeout::After(Duration::from_secs(seconds.into())),
        // dockerd waits without end for any number below zero.
        Err(_) => StopTimeout::Never,
    });
    Ok(StopRequest { signal: signal(query)?, timeout })
}

fn signal(query: &Query) -> Result<Option<SignalNumber>, ApiError> {
    query.get("signal").map(SignalNumber::parse).transpose()
}

pub(in crate::handlers) async fn stop(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let request = stop_request(&call.query)?;
    let change = found.containers.stop(&found.identity.id, request).await?;
    if change == StateChange::Changed {
        found.tell("stop", []);
    }
    Ok(changed(change))
}

pub(in crate::handlers) async fn restart(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let request = stop_request(&call.query)?;
    found.containers.restart(&found.identity.id, request).await?;
    found.tell("restart", []);
    Ok(status(StatusCode::NO_CONTENT))
}

pub(in crate::handlers) async fn kill(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let signal = signal(&call.query)?.unwrap_or(SignalNumber::KILL);
    found.containers.kill(&found.identity.id, signal).await?;
    found.tell("kill", [("signal", signal.number().to_string())]);
    Ok(status(StatusCode::NO_CONTENT))
}

pub(in crate::handlers) async fn rename(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let mut found = Found::of(engine, call).await?;
    let name = call.needed("name")?;
    let name = name.trim_start_matches('/');
    check_name(name)?;
    found.containers.rename(&found.identity.id, name).await?;
    let old = std::mem::replace(&mut found.identity.name, name.to_owned());
    found.tell("rename", [("oldName", format!("/{old}"))]);
    Ok(status(StatusCode::NO_CONTENT))
}

pub(in crate::handlers) async fn remove(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let request = RemoveContainer { force: call.query.is_on("force", false) };
    found.containers.remove(&found.identity.id, request).await?;
    Ok(status(StatusCode::NO_CONTENT))
}

pub(in crate::handlers) async fn resize(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let size = console_size(&call.query)?;
    found.containers.resize(&found.identity.id, size).await?;
    let (width, height) = (size.columns.to_string(), size.rows.to_string());
    found.tell("resize", [("height", height), ("width", width)]);
    Ok(status(StatusCode::OK))
}

fn condition(query: &Query) -> Result<WaitCondition, ApiError> {
    match query.get("condition").unwrap_or("not-running") {
        "not-running" => Ok(WaitCondition::NotRunning),
        "next-exit" => Ok(WaitCondition::NextExit),
        "removed" => Ok(WaitCondition::Removed),
        other => {
            let other: String = other.chars().take(100).collect();
            Err(ApiError::BadRequest(format!("invalid condition: \"{other}\"")))
        }
    }
}

/// The answer begins when the wait has: clients that see its head start the container.
pub(in crate::handlers) async fn wait(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let condition = condition(&call.query)?;
    let waiting = found.containers.wait(&found.identity.id, condition).await?;
    let (sender, pieces) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        let line = format!("{}\n", exit_object(waiting.await));
        // A client that is gone does not wait.
        let _ = sender.send(line.into()).await;
    });
    let mut response = Response::new(Body::pieces(pieces, task.abort_handle()));
    set(&mut response, CONTENT_TYPE, "application/json");
    Ok(response)
}

fn exit_object(exit: Result<ContainerExit, ApiError>) -> Value {
    // The status was sent before.
    let exit =
        exit.unwrap_or_else(|error| ContainerExit { code: 125, error: Some(error.to_string()) });
    let error = exit.error.map(|message| json!({ "Message": message }));
    json!({ "StatusCode": exit.code, "Error": error })
}
