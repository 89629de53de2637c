//! Containers in lists, and one with all that is known of it.

use std::time::SystemTime;

use hyper::Response;
use serde_json::{Value, json};

use super::found::Found;
use crate::body::Body;
use crate::container_filters::{ContainerFilters, PruneFilters};
use crate::container_json::{inspect_object, summary_object};
use crate::handlers::EndpointCall;
use crate::query::Query;
use crate::{
    ApiError, ContainerDetails, ContainerStatus, EngineEvent, EngineServer, ProcessRow,
    RemoveContainer, Sizes, answers,
};

fn sizes(query: &Query) -> Sizes {
    if query.is_on("size", false) { Sizes::Counted } else { Sizes::Left }
}

pub(in crate::handlers) async fn list(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let limit = call.query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let mut all = engine.all_containers(sizes(&call.query)).await?;
    let mut filters = ContainerFilters::read(&call.query.filters()?, &all)?;
    for image in filters.images() {
        // An image that is not there has no containers by its ID; by its name it may have.
        if let Ok(image) = engine.docker.inspect_image(image).await
            && let Some(id) = image["Id"].as_str()
        {
            filters.resolve(id.to_owned());
        }
    }
    let with_all = call.query.is_on("all", false) || limit.is_some() || filters.is_for_all();
    all.sort_by_key(|container| std::cmp::Reverse(container.created));
    let is_wanted = |container: &&ContainerDetails| {
        (with_all || container.state.status == ContainerStatus::Running) && filters.fit(container)
    };
    let now = SystemTime::now();
    let wanted = all.iter().filter(is_wanted).take(limit.unwrap_or(usize::MAX));
    let list: Vec<Value> = wanted.map(|container| summary_object(container, now)).collect();
    answers::json(&list)
}

pub(in crate::handlers) async fn prune(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let filters = PruneFilters::read(&call.query.filters()?, SystemTime::now())?;
    let mut removed = Vec::new();
    let mut reclaimed = 0;
    if let Ok(containers) = engine.containers() {
        let all = containers.list(Sizes::Counted).await?;
        for container in all.iter().filter(|container| filters.fit(container)) {
            // One that was started or removed meanwhile stays as it is.
            if containers.remove(&container.id, RemoveContainer::default()).await.is_ok() {
                reclaimed += container.size.unwrap_or_default().changed;
                removed.push(container.id.to_string());
            }
        }
    }
    let attributes = [("reclaimed".to_owned(), reclaimed.to_string())].into();
    let (kind, action, id) = ("container", "prune", String::new());
    engine.events.send(EngineEvent { kind, action, id, attributes });
    let removed = Some(removed).filter(|removed| !removed.is_empty());
    answers::json(&json!({ "ContainersDeleted": removed, "SpaceReclaimed": reclaimed }))
}

pub(in crate::handlers) async fn inspect(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let details = found.containers.inspect(&found.identity.id, sizes(&call.query)).await?;
    answers::json(&inspect_object(&details))
}

pub(in crate::handlers) async fn top(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    if let Some(other) = call.query.get("ps_args").filter(|arguments| *arguments != "-ef") {
        let other: String = other.chars().take(100).collect();
        let message = format!("`ps_args={other}`: kiln runs no ps: it lists what `-ef` shows");
        return Err(ApiError::NotImplemented(message));
    }
    let processes = found.containers.processes(&found.identity.id).await?;
    found.tell("top", []);
    answers::json(&json!({
        "Titles": ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"],
        "Processes": processes.iter().map(row).collect::<Vec<_>>(),
    }))
}

fn row(process: &ProcessRow) -> [String; 8] {
    [
        process.user.clone(),
        process.pid.to_string(),
        process.parent.to_string(),
        "0".to_owned(),
        process.started.clone(),
        process.terminal.clone(),
        process.cpu_time.clone(),
        process.command.clone(),
    ]
}
