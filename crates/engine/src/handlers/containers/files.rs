//! The files of a container.

use std::sync::Arc;

use base64::Engine as _;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::found::Found;
use crate::body::Body;
use crate::handlers::EndpointCall;
use crate::handlers::streams;
use crate::moments::rfc3339;
use crate::{
    ApiError, CopyIn, EngineServer, PathChange, PathChangeKind, PathStat, Upload, answers, upload,
};

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

pub(in crate::handlers) async fn changes(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let changes = found.containers.changes(&found.identity.id).await?;
    let changes = Some(changes).filter(|changes| !changes.is_empty());
    answers::json(&changes.map(|changes| changes.iter().map(change).collect::<Vec<_>>()))
}

fn change(change: &PathChange) -> Value {
    let kind = match change.kind {
        PathChangeKind::Modified => 0,
        PathChangeKind::Added => 1,
        PathChangeKind::Deleted => 2,
    };
    json!({ "Path": change.path, "Kind": kind })
}

pub(in crate::handlers) async fn export(
    engine: Arc<EngineServer>,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(&engine, call).await?;
    let (containers, id) = (found.containers.clone(), found.identity.id.clone());
    let response = streams::archive(|out| async move { containers.export(&id, out).await }).await?;
    found.tell("export", []);
    Ok(response)
}

pub(in crate::handlers) async fn stat_path(
    engine: &EngineServer,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(engine, call).await?;
    let stat = found.containers.stat_path(&found.identity.id, &path(call)?).await?;
    let mut response = answers::status(StatusCode::OK);
    response.headers_mut().insert(STAT, stat_header(&stat)?);
    Ok(response)
}

pub(in crate::handlers) async fn copy_out(
    engine: Arc<EngineServer>,
    call: &EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = Found::of(&engine, call).await?;
    let (containers, id) = (found.containers.clone(), found.identity.id.clone());
    let path = path(call)?;
    let stat = containers.stat_path(&id, &path).await?;
    let mut response =
        streams::archive(|out| async move { containers.copy_out(&id, &path, out).await }).await?;
    response.headers_mut().insert(STAT, stat_header(&stat)?);
    found.tell("archive-path", []);
    Ok(response)
}

pub(in crate::handlers) async fn copy_in(
    engine: &EngineServer,
    call: EndpointCall,
) -> Result<Response<Body>, ApiError> {
    let found = match Found::of(engine, &call).await {
        Ok(found) => found,
        Err(error) => {
            upload::drain(call.request.into_body());
            return Err(error);
        }
    };
    let on = |name: &str| call.query.is_on(name, false);
    let (no_overwrite, owner_is_user) = (on("noOverwriteDirNonDir"), on("copyUIDGID"));
    let path = path(&call);
    // A client that still sends when it is refused has to be listened to.
    let archive = Upload::of(call.request.into_body());
    let request = CopyIn { path: path?, no_overwrite, owner_is_user };
    found.containers.copy_in(&found.identity.id, request, archive).await?;
    found.tell("extract-to-dir", []);
    Ok(answers::status(StatusCode::OK))
}

/// `path`; a relative one begins at the root.
fn path(call: &EndpointCall) -> Result<String, ApiError> {
    let path = call.needed("path")?;
    if path.contains('\0') {
        return Err(ApiError::BadRequest("`path` has a NUL byte".into()));
    }
    Ok(if path.starts_with('/') { path } else { format!("/{path}") })
}

/// Facts about a path as JSON in base64.
fn stat_header(stat: &PathStat) -> Result<HeaderValue, ApiError> {
    let object = json!({
        "name": stat.name, "size": stat.size, "mode": go_mode(stat.mode),
        "mtime": rfc3339(stat.modified), "linkTarget": stat.link_target,
    });
    let text = base64::engine::general_purpose::STANDARD.encode(object.to_string());
    HeaderValue::try_from(text).map_err(|error| ApiError::Server(error.to_string()))
}

/// The mode as Go has it (`fs.FileMode`): permissions as in stat(2), everything else in other bits.
fn go_mode(mode: u32) -> u32 {
    const DIRECTORY: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const NAMED_PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHARACTER_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let kind = match mode & 0o170_000 {
        0o040_000 => DIRECTORY,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHARACTER_DEVICE,
        0o010_000 => NAMED_PIPE,
        0o140_000 => SOCKET,
        _ => 0,
    };
    let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0);
    special.fold(kind | (mode & 0o777), |all, (_, bit)| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o041_777), 0x8010_01ff);
        assert_eq!(go_mode(0o120_777), 0x0800_01ff);
        assert_eq!(go_mode(0o104_755), 0x0080_01ed);
        assert_eq!(go_mode(0o020_600), 0x0420_0180);
    }
}
