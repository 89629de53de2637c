//! The distribution protocol, as far as image builders need it.

use bytes::Bytes;
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE,
};
use hyper::{Response, StatusCode};
use oci::Digest;

use super::auth;
use super::server::{Body, broken, whole};
use super::state::State;

pub(super) type Reply = Response<Body>;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A request, as read from the connection.
pub(super) struct Incoming {
    pub method: String,
    pub path: String,
    pub query: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub content_range: Option<String>,
    pub content_type: Option<String>,
    pub content_length: Option<u64>,
    pub body: Bytes,
    /// True if the connection is to break now.
    pub broken: bool,
}

impl Incoming {
    /// The repository, kind and name of the path: `a/b`, `blobs`, `sha256:…`.
    fn target(&self) -> Option<(&str, &str, &str)> {
        let path = self.path.strip_prefix("/v2/")?;
        ["/manifests/", "/blobs/"].iter().find_map(|kind| {
            let (repository, name) = path.split_once(kind)?;
            Some((repository, kind.trim_matches('/'), name))
        })
    }

    /// The scope that a token must have.
    pub(super) fn scope(&self) -> Option<String> {
        let (repository, ..) = self.target()?;
        let reads = matches!(self.method.as_str(), "GET" | "HEAD");
        let actions = if reads && !self.path.contains("/uploads/") { "pull" } else { "pull,push" };
        Some(format!("repository:{repository}:{actions}"))
    }

    pub(super) fn is_upload_of_bytes(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "PATCH")
            && self.path.contains("/blobs/uploads/")
            && self.content_length != Some(0)
    }
}

/// The response to a request; none if the connection is to end without one.
pub(super) fn answer(state: &mut State, request: &Incoming, base: &str) -> Option<Reply> {
    if let Some(reply) = redirect(state, request) {
        return Some(reply);
    }
    if request.path == "/token" {
        return Some(auth::token(state, request));
    }
    if let Some((status, headers)) = state.faults.fail.pop_front() {
        return Some(failure(status, &headers));
    }
    if let Some(digest) = request.path.strip_prefix("/blobs/") {
        let found = digest.parse().ok().and_then(|digest| state.blobs.get(&digest).cloned());
        return Some(match found {
            Some(bytes) => send_blob(state, request, bytes),
            None => empty(StatusCode::NOT_FOUND),
        });
    }
    if let Some(refusal) = auth::check(state, request, base) {
        return Some(refusal);
    }
    if request.path == "/v2/" {
        return Some(json(StatusCode::OK, "{}".into()));
    }
    let Some((repository, kind, name)) = request.target() else {
        return Some(empty(StatusCode::NOT_FOUND));
    };
    match (kind, name.strip_prefix("uploads/")) {
        ("manifests", _) => Some(manifest(state, request, repository, name)),
        (_, None) => Some(blob(state, request, repository, name)),
        (_, Some(id)) => upload(state, request, base, &UploadPath { repository, id }),
    }
}

/// The redirect of a write or token request that was not redirected before.
fn redirect(state: &State, request: &Incoming) -> Option<Reply> {
    let (status, base) = state.faults.redirect_all.as_ref()?;
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    if request.query.contains("moved=1") || (is_read && request.path != "/token") {
        return None;
    }
    let and = if request.query.is_empty() { "" } else { "&" };
    let to = format!("{base}{}?{}{and}moved=1", request.path, request.query);
    Some(with(empty(StatusCode::from_u16(*status).ok()?), LOCATION, &to))
}

pub(super) fn failure(status: u16, headers: &[(String, String)]) -> Reply {
    let body = r#"{"errors":[{"code":"FAKE","message":"told to fail"}]}"#;
    let mut reply = json(StatusCode::from_u16(status).expect("a status"), body.into());
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        reply.headers_mut().append(name, value.parse().expect("a header's value"));
    }
    reply
}

fn manifest(state: &mut State, request: &Incoming, repository: &str, name: &str) -> Reply {
    let key = (repository.to_owned(), name.to_owned());
    if request.method == "PUT" {
        if let Some(left) = state.faults.overlook_blobs.checked_sub(1) {
            state.faults.overlook_blobs = left;
            let body = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
            return json(StatusCode::BAD_REQUEST, body.into());
        }
        let digest = Digest::of(&request.body);
        let kind = request.content_type.clone().unwrap_or_default();
        let by_digest = (repository.to_owned(), digest.to_string());
        for key in [key, by_digest] {
            state.manifests.insert(key, (kind.clone(), request.body.clone()));
        }
        return with(empty(StatusCode::CREATED), DIGEST, &digest.to_string());
    }
    if request.method == "HEAD" && state.faults.no_head {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some((kind, bytes)) = state.manifests.get(&key) else {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return json(StatusCode::NOT_FOUND, body.into());
    };
    let kind = if state.faults.untyped_manifests { "application/json" } else { kind };
    let digest = Digest::of(bytes).to_string();
    let sent = if state.faults.lie { lie(bytes) } else { bytes.clone() };
    let mut reply = with(sized(request, sent), CONTENT_TYPE, kind);
    if !state.faults.hide_digests {
        reply = with(reply, DIGEST, &digest);
    }
    reply
}

fn blob(state: &mut State, request: &Incoming, repository: &str, name: &str) -> Reply {
    let Some((digest, bytes)) = state.linked(repository, name) else {
        let body = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#;
        return json(StatusCode::NOT_FOUND, body.into());
    };
    if let Some(base) = state.faults.redirect_blobs.as_ref().filter(|_| request.method == "GET") {
        let to = format!("{base}/blobs/{digest}");
        return with(empty(StatusCode::TEMPORARY_REDIRECT), LOCATION, &to);
    }
    send_blob(state, request, bytes)
}

fn send_blob(state: &mut State, request: &Incoming, bytes: Bytes) -> Reply {
    let bytes = if state.faults.lie { lie(&bytes) } else { bytes };
    let size = bytes.len();
    let from = request.range.as_deref().filter(|_| !state.faults.ignore_ranges);
    let range: Option<(usize, usize)> = from.and_then(|range| {
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        let end = if to.is_empty() { size } else { to.parse::<usize>().ok()? + 1 };
        Some((from.parse().ok()?, end.min(size)))
    });
    let (from, end) = range.unwrap_or((0, size));
    let part = bytes.slice(from.min(end)..end);
    let cut = match request.method.as_str() {
        "GET" => state.faults.cut_downloads.pop_front(),
        _ => None,
    };
    let mut reply = match cut {
        Some(cut) => Response::new(broken(part, cut)),
        None => sized(request, part),
    };
    if range.is_some() {
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
        reply = with(reply, CONTENT_RANGE, &format!("bytes {from}-{}/{size}", end - 1));
    }
    reply
}

/// The address of an upload.
struct UploadPath<'a> {
    repository: &'a str,
    id: &'a str,
}

fn upload(
    state: &mut State,
    request: &Incoming,
    base: &str,
    &UploadPath { repository, id }: &UploadPath<'_>,
) -> Option<Reply> {
    let fields = query(&request.query);
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
    let base = if state.faults.relative_locations { "" } else { base };
    if request.method == "POST" {
        let mount = field("mount").zip(field("from")).filter(|_| !state.faults.refuse_mounts);
        if let Some((digest, from)) = mount
            && let Some((digest, bytes)) = state.linked(from, digest)
        {
            state.add_blob(repository, bytes);
            return Some(created(repository, digest));
        }
        let id = state.open_upload();
        return Some(opened(base, repository, id, 0, StatusCode::ACCEPTED));
    }
    let unknown = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"upload unknown"}]}"#;
    let number = id.parse().unwrap_or(0);
    let Some(held) = state.uploads.get_mut(&number).filter(|_| field("_state") == Some("x y"))
    else {
        return Some(json(StatusCode::NOT_FOUND, unknown.into()));
    };
    if request.method == "PUT" && !request.body.is_empty() && state.faults.refuse_whole_blobs {
        return Some(empty(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let starts_at = request.content_range.as_deref().and_then(|range| range.split_once('-'));
    if starts_at.is_some_and(|(from, _)| from != held.len().to_string()) {
        return Some(opened(
            base,
            repository,
            number,
            held.len(),
            StatusCode::RANGE_NOT_SATISFIABLE,
        ));
    }
    held.extend_from_slice(&request.body);
    if request.broken {
        return None;
    }
    let (length, whole) = (held.len(), Bytes::from(held.clone()));
    match request.method.as_str() {
        "GET" => Some(opened(base, repository, number, length, StatusCode::NO_CONTENT)),
        "PATCH" => Some(opened(base, repository, number, length, StatusCode::ACCEPTED)),
        _ if field("digest") == Some(&Digest::of(&whole).to_string()) => {
            state.uploads.remove(&number);
            Some(created(repository, state.add_blob(repository, whole)))
        }
        _ => {
            let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":"other digest"}]}"#;
            Some(json(StatusCode::BAD_REQUEST, body.into()))
        }
    }
}

/// The state in the query must be sent back unchanged, spaces included.
fn opened(base: &str, repository: &str, id: u64, length: usize, status: StatusCode) -> Reply {
    let location = format!("{base}/v2/{repository}/blobs/uploads/{id}?_state=x%20y");
    let range = format!("0-{}", length.saturating_sub(1));
    with(with(empty(status), LOCATION, &location), RANGE, &range)
}

fn created(repository: &str, digest: Digest) -> Reply {
    let reply = with(empty(StatusCode::CREATED), DIGEST, &digest.to_string());
    with(reply, LOCATION, &format!("/v2/{repository}/blobs/{digest}"))
}

/// Other bytes of the same length.
pub(super) fn lie(bytes: &Bytes) -> Bytes {
    bytes.iter().map(|byte| byte ^ 1).collect()
}

/// A response with a body, or with its length alone for HEAD.
fn sized(request: &Incoming, bytes: Bytes) -> Reply {
    let length = bytes.len().to_string();
    let body = if request.method == "HEAD" { Bytes::new() } else { bytes };
    with(Response::new(whole(body)), CONTENT_LENGTH, &length)
}

pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(whole(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

pub(super) fn json(status: StatusCode, body: String) -> Reply {
    let mut reply = Response::new(whole(body.into()));
    *reply.status_mut() = status;
    with(reply, CONTENT_TYPE, "application/json")
}

fn with(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    let value = HeaderValue::from_str(value).expect("a header's value");
    reply.headers_mut().insert(name, value);
    reply
}

/// The fields of a query or form.
pub(super) fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                // Two hex digits fit a byte.
                (high.unwrap_or(0) * 16 + low.unwrap_or(0)) as u8
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
