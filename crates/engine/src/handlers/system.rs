//! The engine itself: versions, facts, events, logins, disk.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use serde_json::json;
use tokio::sync::mpsc;

use super::EndpointCall;
use crate::answers::{json, set};
use crate::body::Body;
use crate::container_filters::unknown;
use crate::container_json::summary_object;
use crate::moments::parse_seconds;
use crate::{
    API, ApiError, ContainerDetails, ContainerStatus, EngineServer, Filters, Login, MIN_API, Sizes,
    upload,
};

/// Events that wait for a client.
const WAITING: usize = 64;

pub(super) fn ping() -> Result<Response<Body>, ApiError> {
    let mut response = Response::new(Body::from("OK".to_owned()));
    set(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
    set(&mut response, CACHE_CONTROL, "no-cache, no-store, must-revalidate");
    set(&mut response, PRAGMA, "no-cache");
    Ok(response)
}

pub(super) fn version(engine: &EngineServer) -> Result<Response<Body>, ApiError> {
    let mut version = engine.docker.version();
    version["ApiVersion"] = API.into();
    version["MinAPIVersion"] = MIN_API.into();
    let component = json!({
        "Name": "Engine", "Version": version["Version"],
        "Details": {
            "ApiVersion": API, "MinAPIVersion": MIN_API, "Arch": version["Arch"],
            "Os": version["Os"], "GitCommit": version["GitCommit"],
            "KernelVersion": version["KernelVersion"], "Experimental": "false",
            "BuildTime": "", "GoVersion": "",
        },
    });
    version["Components"] = json!([component]);
    json(&version)
}

pub(super) async fn info(engine: &EngineServer) -> Result<Response<Body>, ApiError> {
    let mut info = engine.docker.info().await?;
    let containers = engine.all_containers(Sizes::Left).await?;
    let is_running =
        |container: &&ContainerDetails| container.state.status == ContainerStatus::Running;
    let running = containers.iter().filter(is_running).count();
    info["Containers"] = containers.len().into();
    info["ContainersRunning"] = running.into();
    info["ContainersStopped"] = (containers.len() - running).into();
    json(&info)
}

pub(super) async fn auth(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let login: Login = upload::json(call.request.into_body()).await?;
    json(&engine.docker.login(login).await?)
}

pub(super) async fn disk_usage(engine: &EngineServer) -> Result<Response<Body>, ApiError> {
    let usage = engine.docker.disk_usage().await?;
    let mut usage = serde_json::to_value(usage)
        .map_err(|error| ApiError::Server(format!("writing the answer: {error}")))?;
    let now = SystemTime::now();
    let containers = engine.all_containers(Sizes::Counted).await?;
    usage["Containers"] =
        containers.iter().map(|container| summary_object(container, now)).collect();
    json(&usage)
}

/// Refuses filters that no event has.
fn check_event_filters(filters: &Filters) -> Result<(), ApiError> {
    const KNOWN: [&str; 5] = ["type", "event", "image", "container", "label"];
    let other = filters.0.iter().find(|(name, _)| !KNOWN.contains(&name.as_str()));
    other.map_or(Ok(()), |(name, _)| Err(unknown(name)))
}

pub(super) fn events(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let filters = call.query.filters()?;
    check_event_filters(&filters)?;
    let moment = |name: &str| call.query.get(name).map(|text| parse_seconds(name, text));
    let until = moment("until").transpose()?.map(|until| until.unwrap_or(UNIX_EPOCH));
    let mut events = engine.events.listen(moment("since").transpose()?.flatten());
    let (sender, receiver) = mpsc::channel(WAITING);
    let task = tokio::spawn(async move {
        while let Some((at, event)) = before(until, events.next(&filters)).await {
            if until.is_some_and(|until| at > until) || sender.send(event.into()).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Body::pieces(receiver, task.abort_handle()));
    set(&mut response, CONTENT_TYPE, "application/json");
    Ok(response)
}

/// The next event, unless a moment comes first. What has happened comes first even if the moment is past.
async fn before<T>(until: Option<SystemTime>, next: impl Future<Output = Option<T>>) -> Option<T> {
    let Some(until) = until else { return next.await };
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::timeout(left, next).await.ok().flatten()
}
