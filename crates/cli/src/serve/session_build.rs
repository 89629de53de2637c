//! `POST /build` in BuildKit's way (`version=2`): the client's session has its files, secrets and logins. Files may also
//! come as an archive, or be named by an address.
//!
//! Docker's clients before 23.0 build so without buildx. The parameters become the request that other clients
//! of BuildKit send, and the progress is BuildKit's own, in base64.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::engine::{ApiError, BuildRequest, BuildSource, Message, ProgressSender};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use service::{Daemon, FrontendRequest, Solve, SolveError, TypedAttributes, UploadedContexts};

use super::buildkit::say_notes;
use crate::args::compound::boolean;

/// The names of the messages, as dockerd has them.
const TRACE: &str = "moby.buildkit.trace";
const IMAGE: &str = "moby.image.id";
/// The address of an archive that came with the request, as BuildKit has it for those of a session.
const ARCHIVE: &str = "http://buildkit-session/archive";

/// Builds, and sends BuildKit's progress. Returns the image's names.
pub(super) async fn run(
    daemon: Arc<Daemon>,
    mut request: BuildRequest,
    progress: ProgressSender,
) -> Result<Vec<String>, ApiError> {
    let session = match &request.session {
        Some(id) => {
            let session = daemon.sessions().get(id).await;
            Some(session.map_err(|error| ApiError::BadRequest(error.to_string()))?)
        }
        None => None,
    };
    let reference = request.id.clone().or_else(|| request.session.clone()).unwrap_or_default();
    let (names, is_quiet) = (request.tags.clone(), request.quiet);
    let mut attributes = attributes(&request);
    let uploads =
        files(std::mem::replace(&mut request.source, BuildSource::Session), &mut attributes);
    let solve = Arc::new(Solve {
        reference: reference.clone(),
        session,
        sessions: daemon.sessions().clone(),
        exporters: exporters(&request)?,
        cache_imports: request.cache_from.iter().map(|image| cache_of(image)).collect(),
        cache_exports: cache_exports(&request),
        entitlements: entitlements(&request),
        kept: service::Kept::default(),
        policy: None,
        uploads,
        frontend: FrontendRequest {
            frontend: "dockerfile.v0".to_owned(),
            attributes,
            ..FrontendRequest::default()
        },
    });
    let trace = service::BuildProgress::new(&reference);
    let notes = request.notes;
    let build = async {
        say_notes(&notes, &trace.events());
        let built = daemon.builder().build(solve, trace.events()).await;
        trace.end();
        built
    };
    let send = async {
        let mut seen = 0;
        while let Some(bytes) = trace.next_encoded(&mut seen).await {
            progress.send(&Message::named_aux(TRACE, STANDARD.encode(bytes).into()));
        }
    };
    let (built, ()) = tokio::join!(build, send);
    let built = built.map_err(failed)?;
    let id = built.response.get("containerimage.config.digest");
    if let Some(id) = id.or_else(|| built.response.get("containerimage.digest")) {
        progress.send(&Message::named_aux(IMAGE, json!({ "ID": id })));
        if is_quiet {
            progress.send(&Message::stream(format!("{id}\n")));
        }
    }
    Ok(names)
}

fn failed(error: SolveError) -> ApiError {
    if error.is_request {
        ApiError::BadRequest(error.message)
    } else {
        ApiError::Server(error.message)
    }
}

/// Names the files in the options of the frontend, unless they are the session's; returns those that are here.
fn files(source: BuildSource, attributes: &mut BTreeMap<String, String>) -> UploadedContexts {
    let context = "context".to_owned();
    match source {
        BuildSource::Session => UploadedContexts::default(),
        BuildSource::Remote(address) => {
            attributes.insert(context, address);
            UploadedContexts::default()
        }
        BuildSource::Archive(archive) => {
            attributes.insert(context, ARCHIVE.to_owned());
            UploadedContexts::of(ARCHIVE, Box::new(archive))
        }
    }
}

/// The options of the frontend, as dockerd translates the parameters.
fn attributes(request: &BuildRequest) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            attributes.insert(name.to_owned(), value);
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    set("filename", text(&request.dockerfile));
    set("target", text(&request.target));
    set("platform", text(&request.platform));
    set("cgroup-parent", text(&request.cgroup_parent));
    set("image-resolve-mode", if request.pull { "pull" } else { "local" }.to_owned());
    let network = request.network.as_deref().filter(|network| !is_default(network));
    set("force-network-mode", network.unwrap_or_default().to_owned());
    let host = |text: &String| text.replacen(':', "=", 1);
    set("add-hosts", request.extra_hosts.iter().map(host).collect::<Vec<_>>().join(","));
    let size = request.shm_size.filter(|size| *size > 0);
    set("shm-size", size.map_or_else(String::new, |size| size.to_string()));
    set("ulimit", request.ulimits.join(","));
    if request.no_cache {
        attributes.insert("no-cache".to_owned(), String::new());
    }
    for (name, value) in &request.build_args {
        if let Some(value) = value {
            attributes.insert(format!("build-arg:{name}"), value.clone());
        }
    }
    for (name, value) in &request.labels {
        attributes.insert(format!("label:{name}"), value.clone());
    }
    attributes
}

fn is_default(network: &str) -> bool {
    matches!(network, "" | "default" | "bridge")
}

/// The one output; an image in the store without one.
fn exporters(request: &BuildRequest) -> Result<Vec<TypedAttributes>, ApiError> {
    let (kind, mut attributes) = match request.outputs.as_slice() {
        [] => ("moby".to_owned(), BTreeMap::new()),
        [(kind, attributes)] => (kind.clone(), attributes.clone()),
        _ => return Err(ApiError::BadRequest("multiple outputs not supported".into())),
    };
    if kind == "cacheonly" {
        return Ok(Vec::new());
    }
    if kind == "moby" || kind == "image" {
        attributes.insert("name".to_owned(), request.tags.join(","));
    }
    Ok(vec![TypedAttributes { kind, attributes }])
}

fn cache_of(image: &str) -> TypedAttributes {
    let attributes = BTreeMap::from([("ref".to_owned(), image.to_owned())]);
    TypedAttributes { kind: "registry".to_owned(), attributes }
}

/// The cache in the image itself, which the build argument asks for.
fn cache_exports(request: &BuildRequest) -> Vec<TypedAttributes> {
    let asked = request.build_args.get("BUILDKIT_INLINE_CACHE").and_then(Option::as_deref);
    let is_asked = asked.is_some_and(|value| boolean(value) == Some(true));
    let inline = TypedAttributes { kind: "inline".to_owned(), attributes: BTreeMap::new() };
    is_asked.then_some(inline).into_iter().collect()
}

/// Asking for the host's network grants it, as with the classic way.
fn entitlements(request: &BuildRequest) -> Vec<String> {
    let wants_host = request.network.as_deref() == Some("host");
    wants_host.then(|| "network.host".to_owned()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> BuildRequest {
        BuildRequest {
            way: ::engine::BuildWay::BuildKit,
            source: BuildSource::Session,
            session: Some("s".into()),
            id: None,
            dockerfile: Some("d/Dockerfile".into()),
            tags: vec!["a:1".into(), "b".into()],
            build_args: BTreeMap::from([
                ("A".into(), Some("1".into())),
                ("B".into(), None),
                ("BUILDKIT_INLINE_CACHE".into(), Some("1".into())),
            ]),
            labels: BTreeMap::from([("l".into(), "v".into())]),
            target: None,
            platform: None,
            cache_from: vec!["r/x".into()],
            no_cache: true,
            pull: true,
            quiet: false,
            network: Some("host".into()),
            extra_hosts: vec!["h:::1".into(), "i:1.2.3.4".into()],
            shm_size: Some(5),
            ulimits: vec!["nofile=1:2".into()],
            cgroup_parent: None,
            outputs: Vec::new(),
            logins: Default::default(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn parameters_become_options_of_the_frontend() {
        let request = request();
        let attributes = attributes(&request);
        let expected = [
            ("add-hosts", "h=::1,i=1.2.3.4"),
            ("build-arg:A", "1"),
            ("build-arg:BUILDKIT_INLINE_CACHE", "1"),
            ("filename", "d/Dockerfile"),
            ("force-network-mode", "host"),
            ("image-resolve-mode", "pull"),
            ("label:l", "v"),
            ("no-cache", ""),
            ("shm-size", "5"),
            ("ulimit", "nofile=1:2"),
        ];
        let actual: Vec<(&str, &str)> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(actual, expected);
        assert_eq!(exporters(&request).unwrap()[0].attributes["name"], "a:1,b");
        assert_eq!(cache_exports(&request)[0].kind, "inline");
        assert_eq!(entitlements(&request), ["network.host"]);
    }

    #[test]
    fn files_that_no_session_has_are_named_by_an_address() {
        let mut attributes = BTreeMap::new();
        drop(files(BuildSource::Session, &mut attributes));
        assert!(attributes.is_empty());
        drop(files(BuildSource::Remote("https://h/r.git".into()), &mut attributes));
        assert_eq!(attributes["context"], "https://h/r.git");
    }

    #[test]
    fn one_output_is_taken() {
        let output = |kind: &str| (kind.to_owned(), BTreeMap::new());
        let of = |outputs| exporters(&BuildRequest { outputs, ..request() });
        assert_eq!(of(vec![output("local")]).unwrap()[0].kind, "local");
        assert!(of(vec![output("cacheonly")]).unwrap().is_empty());
        assert!(of(vec![output("local"), output("tar")]).is_err());
    }
}
