//! Containers of images, and images of containers.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::found::{Found, check_name};
use crate::body::Body;
use crate::handlers::EndpointCall;
use crate::{
    ApiError, CommitRequest, ContainerIdentity, CreateContainer, EngineEvent, EngineServer,
    answers, bodies, upload,
};

pub(in crate::handlers) async fn create(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let containers = engine.containers();
    let text = |name: &str| call.query.get(name).map(str::to_owned);
    let name = text("name").map(|name| name.trim_start_matches('/').to_owned());
    let platform = text("platform");
    let mut body = upload::fields(call.request.into_body()).await?;
    let containers = containers?;
    name.as_deref().map_or(Ok(()), check_name)?;
    let image = body.get("Image").and_then(Value::as_str).unwrap_or_default();
    if containers.is_builder(name.as_deref(), image) {
        bodies::without_state(&mut body);
    }
    let (spec, notes) = bodies::read_create(body)?;
    let (image, labels) = (spec.image.clone(), spec.labels.clone());
    let created = containers.create(CreateContainer { name: name.clone(), platform, spec }).await?;
    let id = created.id.to_string();
    let identity = match containers.find(&id).await {
        Ok(identity) => identity,
        // Another client has removed it already.
        Err(_) => {
            let name = name.unwrap_or_default();
            ContainerIdentity { id: created.id, name, image, labels }
        }
    };
    engine.events.send(EngineEvent::container("create", &identity, []));
    let warnings: Vec<String> = notes.into_iter().chain(created.warnings).collect();
    made(&json!({ "Id": id, "Warnings": warnings }))
}

fn made(value: &Value) -> Result<Response<Body>, ApiError> {
    let mut response = answers::json(value)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

pub(super) fn made_exec(id: &str) -> Result<Response<Body>, ApiError> {
    made(&json!({ "Id": id }))
}

pub(in crate::handlers) async fn commit(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let container = call.needed("container")?;
    let name = call.query.get("repo").map(|repository| match call.query.get("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    let changes = call.query.all("changes");
    let request = CommitRequest {
        name: name.clone(),
        comment: text("comment"),
        author: text("author"),
        // dockerd takes several in one value, in lines.
        changes: changes
            .iter()
            .flat_map(|change| change.lines())
            .map(str::trim)
            .filter(|change| !change.is_empty())
            .map(str::to_owned)
            .collect(),
    };
    let body = upload::fields(call.request.into_body()).await?;
    let has_config = body.as_object().into_iter().flatten().any(|(_, value)| asks(value));
    if has_config {
        let message = "`POST /commit`: a config in the body is not read: `changes` changes it";
        return Err(ApiError::NotImplemented(message.into()));
    }
    let found = Found::named(engine, &container).await?;
    let image = found.containers.commit(&found.identity.id, request).await?;
    found.tell("commit", [("comment", text_of(&name)), ("imageID", image.clone())]);
    if let Some(name) = name {
        engine.events.send(EngineEvent::image("tag", name));
    }
    made(&json!({ "Id": image }))
}

fn text_of(name: &Option<String>) -> String {
    name.clone().unwrap_or_default()
}

/// True for a value of a config that would change something. Clients send configs with all fields empty.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.values().any(asks),
        Value::Bool(true) | Value::Number(_) => true,
    }
}
