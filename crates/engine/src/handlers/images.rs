//! Images.

use std::sync::Arc;

use hyper::{Response, StatusCode};

use super::{EndpointCall, streams};
use crate::answers::{json, status};
use crate::auth::registry_auth;
use crate::body::Body;
use crate::route::Version;
use crate::{
    ApiError, EngineEvent, EngineServer, ImageSummary, PullRequest, PushRequest, RemovedImage,
    Upload,
};

pub(super) async fn list(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let mut filters = call.query.filters()?;
    let reference = call.query.get("filter").map(|name| ("reference".to_owned(), name.to_owned()));
    filters.0.extend(reference);
    let mut images = engine.docker.list_images(filters).await?;
    if call.version < Version(1, 43) {
        images.iter_mut().for_each(say_none);
    }
    json(&images)
}

/// Older clients expect words where an image has no name.
fn say_none(image: &mut ImageSummary) {
    if image.repo_tags.is_empty() && image.repo_digests.is_empty() {
        image.repo_tags.push("<none>:<none>".into());
        image.repo_digests.push("<none>@<none>".into());
    }
}

pub(super) async fn inspect(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    json(&engine.docker.inspect_image(call.name).await?)
}

pub(super) async fn history(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    json(&engine.docker.image_history(call.name).await?)
}

pub(super) async fn tag(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let repository = call.needed("repo")?;
    let target = match call.query.get("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository,
    };
    engine.docker.tag_image(call.name.clone(), target.clone()).await?;
    engine.events.send(EngineEvent::image("tag", target));
    Ok(status(StatusCode::CREATED))
}

pub(super) async fn remove(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let force = call.query.is_on("force", false);
    let removed = engine.docker.remove_image(call.name, force).await?;
    tell_removed(engine, &removed);
    json(&removed)
}

pub(super) async fn prune(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let pruned = engine.docker.prune_images(call.query.filters()?).await?;
    tell_removed(engine, &pruned.images_deleted);
    engine.events.send(EngineEvent::image("prune", ""));
    json(&pruned)
}

fn tell_removed(engine: &EngineServer, removed: &[RemovedImage]) {
    for removed in removed {
        engine.events.send(match removed {
            RemovedImage::Untagged(name) => EngineEvent::image("untag", name.as_str()),
            RemovedImage::Deleted(id) => EngineEvent::image("delete", id.as_str()),
        });
    }
}

pub(super) async fn distribution(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let login = registry_auth(call.headers())?;
    json(&engine.docker.inspect_distribution(call.name, login).await?)
}

pub(super) async fn pull(
    engine: Arc<EngineServer>,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let image = call.needed("fromImage")?;
    let name = match call.query.get("tag") {
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) => format!("{image}:{tag}"),
        None => image,
    };
    let request = PullRequest {
        name: name.clone(),
        platform: call.query.get("platform").map(str::to_owned),
        login: registry_auth(call.headers())?,
    };
    streams::progress(|progress| async move {
        engine.docker.pull(request, progress).await?;
        engine.events.send(EngineEvent::image("pull", name));
        Ok(())
    })
    .await
}

pub(super) async fn push(
    engine: Arc<EngineServer>,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let request = PushRequest {
        name: call.name.clone(),
        tag: call.query.get("tag").map(str::to_owned),
        login: registry_auth(call.headers())?,
    };
    streams::progress(|progress| async move {
        let name = request.name.clone();
        engine.docker.push(request, progress).await?;
        engine.events.send(EngineEvent::image("push", name));
        Ok(())
    })
    .await
}

pub(super) async fn save(
    engine: Arc<EngineServer>,
    names: Vec<String>,
) -> Result<Response<Body>, ApiError> {
    if names.is_empty() {
        return Err(ApiError::BadRequest("`names` is missing".into()));
    }
    streams::archive(|out| async move { engine.docker.save(names, out).await }).await
}

pub(super) async fn load(
    engine: Arc<EngineServer>,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let archive = Upload::of(call.request.into_body());
    streams::progress(|progress| async move {
        for name in engine.docker.load(archive, progress).await? {
            engine.events.send(EngineEvent::image("load", name));
        }
        Ok(())
    })
    .await
}
