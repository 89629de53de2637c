//! Builds.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::{HeaderMap, Response, StatusCode};
use serde::Deserialize;

use super::{EndpointCall, streams};
use crate::answers::{json, status};
use crate::auth::registry_config;
use crate::body::Body;
use crate::query::Query;
use crate::{
    ApiError, BuildCachePrune, BuildRequest, BuildSource, BuildWay, EngineEvent, EngineServer,
    Message, Upload,
};

/// The beginning of a `buildid`, for the archive of the build that the rest names.
const UPLOAD: &str = "upload-request:";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitParameter {
    name: String,
    #[serde(default)]
    soft: i64,
    #[serde(default)]
    hard: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OutputParameter {
    r#type: String,
    attrs: Option<BTreeMap<String, String>>,
}

/// The value of `remote` for an archive that comes in a request of its own, and for the files of a session.
const ARCHIVE_APART: &str = "upload-request";
const SESSION: &str = "client-session";

/// Reads the parameters of a build. The source is filled in by [`source`].
pub(crate) fn parameters(
    query: &Query,
    headers: &HeaderMap,
    notes: Vec<String>,
) -> Result<BuildRequest, ApiError> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    let given = |name: &str| -> Vec<String> {
        query.all(name).into_iter().filter(|value| !value.is_empty()).collect()
    };
    let ulimits: Option<Vec<UlimitParameter>> = query.json("ulimits")?;
    let ulimit = |limit: UlimitParameter| format!("{}={}:{}", limit.name, limit.soft, limit.hard);
    let outputs: Option<Vec<OutputParameter>> = query.json("outputs")?;
    let output = |output: OutputParameter| (output.r#type, output.attrs.unwrap_or_default());
    Ok(BuildRequest {
        way: if query.get("version") == Some("2") { BuildWay::BuildKit } else { BuildWay::Classic },
        source: BuildSource::Remote(String::new()),
        session: text("session"),
        id: text("buildid"),
        dockerfile: text("dockerfile"),
        tags: given("t"),
        build_args: query.json("buildargs")?.unwrap_or_default(),
        labels: query.json("labels")?.unwrap_or_default(),
        target: text("target"),
        platform: text("platform"),
        cache_from: query.json("cachefrom")?.unwrap_or_default(),
        no_cache: query.is_on("nocache", false),
        pull: query.is_on("pull", false),
        quiet: query.is_on("q", false),
        network: text("networkmode"),
        extra_hosts: given("extrahosts"),
        shm_size: query.number("shmsize")?,
        ulimits: ulimits.into_iter().flatten().map(ulimit).collect(),
        cgroup_parent: text("cgroupparent"),
        outputs: outputs.into_iter().flatten().map(output).collect(),
        logins: registry_config(headers)?,
        notes,
    })
}

/// Finds the source of the files.
async fn source(
    engine: &EngineServer,
    request: &BuildRequest,
    remote: Option<&str>,
    body: Upload,
) -> Result<BuildSource, ApiError> {
    let is_buildkit = request.way == BuildWay::BuildKit;
    match remote {
        Some(SESSION) if is_buildkit && request.session.is_some() => Ok(BuildSource::Session),
        Some(SESSION) => {
            let message = "`remote=client-session` needs `version=2` and a `session`";
            Err(ApiError::BadRequest(message.into()))
        }
        Some(ARCHIVE_APART) => match &request.id {
            Some(id) if is_buildkit => engine.uploads.take(id).await.map(BuildSource::Archive),
            _ => {
                let message = "`remote=upload-request` needs `version=2` and a `buildid`";
                Err(ApiError::BadRequest(message.into()))
            }
        },
        Some(remote) => Ok(BuildSource::Remote(remote.to_owned())),
        None => Ok(BuildSource::Archive(body)),
    }
}

pub(super) async fn build(
    engine: Arc<EngineServer>,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let EndpointCall { query, notes, request, .. } = call;
    let (head, body) = request.into_parts();
    // A client that still sends when it is refused has to be listened to.
    let body = Upload::of(body);
    let mut request = parameters(&query, &head.headers, notes)?;
    if let Some(id) = request.id.as_deref().and_then(|id| id.strip_prefix(UPLOAD)) {
        engine.uploads.give(id, body).await?;
        return Ok(status(StatusCode::OK));
    }
    request.source = source(&engine, &request, query.get("remote"), body).await?;
    let id = request.id.clone();
    let running = engine.clone();
    streams::progress(|progress| async move {
        let Some(id) = id else { return run(&running, request, progress).await };
        let registered = streams::Registered { engine: running.clone(), id: id.clone() };
        // A task of its own, which another request can end.
        let engine = running.clone();
        let sender = progress.clone();
        let task = tokio::spawn(async move { run(&engine, request, sender).await });
        let guard = crate::body::AbortOnDrop(task.abort_handle());
        running.builds().insert(id, task.abort_handle());
        let result = task.await;
        drop(guard);
        drop(registered);
        match result {
            Ok(result) => result,
            Err(_) => {
                progress.send(&Message::stream("canceled\n"));
                Err(ApiError::Server("canceled".into()))
            }
        }
    })
    .await
}

async fn run(
    engine: &EngineServer,
    request: BuildRequest,
    progress: crate::ProgressSender,
) -> Result<(), ApiError> {
    for name in engine.docker.build(request, progress).await? {
        engine.events.send(EngineEvent::image("tag", name));
    }
    Ok(())
}

pub(super) fn cancel(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let id = call.needed("id")?;
    // dockerd answers the same for an ID that it does not know.
    if let Some(build) = engine.builds().remove(&id) {
        build.abort();
    }
    Ok(status(StatusCode::NO_CONTENT))
}

pub(super) async fn prune(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let query = &call.query;
    let given = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0);
    let reserved = query.number("reserved-space")?.or(query.number("keep-storage")?);
    let request = BuildCachePrune {
        all: query.is_on("all", false),
        reserved: given(reserved),
        max_used: given(query.number("max-used-space")?),
        min_free: given(query.number("min-free-space")?),
        filters: query.filters()?,
    };
    let pruned = engine.docker.prune_build_cache(request).await?;
    let attributes = [("reclaimed".to_owned(), pruned.space_reclaimed.to_string())].into();
    let (kind, action, id) = ("builder", "prune", String::new());
    engine.events.send(EngineEvent { kind, action, id, attributes });
    json(&pruned)
}
