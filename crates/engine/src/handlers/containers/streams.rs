//! Clients at the streams of containers and of further commands in them.

use hyper::{Response, StatusCode};

use super::create::made_exec;
use super::found::{Found, console_size};
use crate::body::Body;
use crate::container_json::exec_object;
use crate::handlers::EndpointCall;
use crate::query::Query;
use crate::streams::{Carried, DetachKeys, Hijack};
use crate::{
    ApiError, AttachQuery, ContainerEngine, EngineServer, ExecDetails, ExecId, answers, bodies,
    upload,
};

fn attach_query(query: &Query) -> AttachQuery {
    let on = |name: &str| query.is_on(name, false);
    AttachQuery {
        stdin: on("stdin"),
        stdout: on("stdout"),
        stderr: on("stderr"),
        logs: on("logs"),
        stream: on("stream"),
    }
}

fn detach_keys(text: Option<&str>) -> Result<DetachKeys, ApiError> {
    text.map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse)
}

pub(in crate::handlers) async fn attach(
    engine: &EngineServer,
    mut call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, &call).await?;
    let keys = detach_keys(call.query.get("detachKeys"))?;
    let streams = found.containers.attach(&found.identity.id, attach_query(&call.query)).await?;
    found.tell("attach", []);
    let hijack = Hijack::of(&mut call.request, call.hand_over, call.half_close, call.version);
    Ok(hijack.answer(Carried { streams, keys, body: Some(call.request.into_body()) }))
}

pub(in crate::handlers) async fn create_exec(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, &call).await?;
    let spec = bodies::read_exec(upload::fields(call.request.into_body()).await?)?;
    detach_keys(spec.detach_keys.as_deref())?;
    let command = spec.args.join(" ");
    let id = found.containers.create_exec(&found.identity.id, spec).await?.to_string();
    found.tell("exec_create", [("execID", id.clone()), ("execCommand", command)]);
    made_exec(&id)
}

/// The engine that has a further command.
async fn found_exec<'e>(
    engine: &'e EngineServer,
    call: &EndpointCall,
) -> Result<(&'e dyn ContainerEngine, ExecDetails), ApiError> {
    let missing = |_| ApiError::NotFound(format!("No such exec instance: {}", call.name));
    let containers = engine.containers().map_err(missing)?;
    let details = containers.inspect_exec(&ExecId(call.name.clone())).await?;
    Ok((&**containers, details))
}

pub(in crate::handlers) async fn start_exec(
    engine: &EngineServer,
    mut call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let (containers, exec) = found_exec(engine, &call).await?;
    let keys = detach_keys(exec.spec.detach_keys.as_deref())?;
    let hijack =
        Hijack::of(&mut call.request, call.hand_over.clone(), call.half_close.take(), call.version);
    let start = bodies::read_exec_start(upload::fields(call.request.into_body()).await?)?;
    let size = start.console_size.or(exec.spec.console_size);
    let streams = containers.start_exec(&exec.id, size).await?;
    if let Ok(found) = Found::named(engine, &exec.container.0).await {
        found.tell("exec_start", [("execID", exec.id.to_string())]);
    }
    if start.detach {
        // Its output is thrown away, and its input ends.
        return Ok(answers::status(StatusCode::OK));
    }
    Ok(hijack.answer(Carried { streams, keys, body: None }))
}

pub(in crate::handlers) async fn resize_exec(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let (containers, exec) = found_exec(engine, call).await?;
    containers.resize_exec(&exec.id, console_size(&call.query)?).await?;
    Ok(answers::status(StatusCode::OK))
}

pub(in crate::handlers) async fn inspect_exec(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let (_, exec) = found_exec(engine, call).await?;
    answers::json(&exec_object(&exec))
}
