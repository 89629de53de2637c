//! A solve as the request of a build.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use build::{
    ClientCredentials, ClientFolder, ClientPolicy, Context, DockerfileSource, NamedContext,
    OciLayout, Policy, Request, Session,
};
use graph::{Events, TaskEvent};
use service::{
    ClientSession, FrontendRequest, RawSource, Solve, SolveError, TypedAttributes, UploadReader,
};
use store::ScratchFolder;

use super::blobs::{self, BlobFolder};
use super::client::{SessionCredentials, SessionFolder, SessionPolicy};
use super::outputs::Outputs;
use super::{LocalBuilder, failed};
use crate::args::compound::{Fields, cache};
use crate::args::{
    BuildFlags, ClientLocals, ContextFlag, FlagContext, FlagError, FrontendOptions, Locals,
};
use crate::serve::client_flags::{client_context, client_plan};
use crate::settings::Environment;

/// Frontends that are built in.
const DOCKERFILE: &str = "dockerfile.v0";
const GATEWAY: &str = "gateway.v0";
/// The address of an upload.
const UPLOAD: &str = "http://buildkit-session/";

/// Folders and images that stay as long as a request is built.
#[derive(Default)]
pub(super) struct HeldFolders {
    scratch: Vec<ScratchFolder>,
}

impl LocalBuilder {
    /// The request of a solve, and what it needs to stay.
    pub(super) async fn request(
        &self,
        solve: &Arc<Solve>,
        session: &Session,
        outputs: &Outputs,
        events: &Events,
    ) -> Result<(Request, HeldFolders), SolveError> {
        let mut held = HeldFolders::default();
        let locals = self.locals(solve, session, events, &mut held).await?;
        let mut flags = BuildFlags { policy: Policy::Disabled, ..BuildFlags::default() };
        let environment = Environment::default();
        let context = client_context(&environment);
        // The first bytes of an upload are read.
        let read = tokio::task::block_in_place(|| {
            read_frontend(&solve.frontend, &locals, context, &mut flags)
        });
        read.map_err(refused)?;
        grant(&mut flags, &solve.entitlements, self.resources.allows_insecure).map_err(refused)?;
        outputs.add_to(&mut flags, context).map_err(refused)?;
        let imports = cache_imports(solve, session, &mut held).await?;
        add_cache_imports(imports, &mut flags, context).map_err(refused)?;
        add_cache_exports(solve, outputs, &mut flags, context).map_err(refused)?;
        let planned = client_plan(flags, &self.resources.settings).map_err(refused)?;
        let warnings = planned.presentation.warnings;
        let notes: Vec<String> = self.notes.iter().cloned().chain(warnings).collect();
        say_notes(&notes, events);
        let mut request = planned.request;
        if let Some(session) = &solve.session {
            let source = SessionCredentials(session.clone());
            request.client = Some(ClientCredentials(Arc::new(source)));
        }
        if let Some(session) = &solve.policy {
            request.client_policy = Some(ClientPolicy(Arc::new(SessionPolicy(session.clone()))));
        }
        Ok((request, held))
    }

    /// The folders that the options of a solve name.
    async fn locals(
        &self,
        solve: &Arc<Solve>,
        session: &Session,
        events: &Events,
        held: &mut HeldFolders,
    ) -> Result<SolveLocals, SolveError> {
        let mut locals = SolveLocals::default();
        let attributes = &solve.frontend.attributes;
        let mut names: BTreeSet<&str> = BTreeSet::from(["context", "dockerfile"]);
        for (key, value) in attributes {
            match (key.as_str(), value.split_once(':')) {
                ("contextkey" | "dockerfilekey", _) => _ = names.insert(value),
                (key, Some(("local", name))) if key.starts_with("context:") => {
                    names.insert(name);
                }
                (key, Some(("oci-layout", _))) if key.starts_with("context:") => {
                    let found = bring_layout(solve, session, value, held).await?;
                    locals.layouts.insert(value.clone(), found);
                }
                ("context", _) if value.starts_with(UPLOAD) => {
                    locals.upload = Some((value.clone(), upload(solve, value).await?));
                }
                _ => {}
            }
        }
        for name in names {
            let other = attributes.get(&format!("local-sessionid:{name}"));
            let of = match (other.filter(|id| !id.is_empty()), &solve.session) {
                (Some(id), _) => Some(solve.sessions.get(id).await.map_err(failed)?),
                (None, session) => session.clone(),
            };
            if let Some(of) = of {
                locals.folders.insert(name.to_owned(), self.folder(of, name));
            }
        }
        for (name, input) in &solve.frontend.inputs {
            let made = Box::pin(self.made(input, events)).await?;
            locals.inputs.insert(name.clone(), NamedContext::Kept(made.name().clone()));
            // Each solve of the client's build has it, and the other build may have ended by then.
            solve.kept.keep(made);
        }
        Ok(locals)
    }

    fn folder(&self, session: Arc<ClientSession>, name: &str) -> ClientFolder {
        let contexts = self.contexts.clone();
        ClientFolder(Arc::new(SessionFolder { session, contexts, name: name.to_owned() }))
    }
}

/// The caches that a solve imports. A client's folder with one is brought here; one that cannot be read is left out.
async fn cache_imports(
    solve: &Solve,
    session: &Session,
    held: &mut HeldFolders,
) -> Result<Vec<TypedAttributes>, SolveError> {
    let mut known: Vec<&TypedAttributes> = Vec::new();
    let mut imports = Vec::new();
    for asked in &solve.cache_imports {
        if known.contains(&asked) {
            continue;
        }
        known.push(asked);
        let mut import = asked.clone();
        if matches!(asked.kind.as_str(), "local" | "kv-folder") {
            match bring_cache(solve, session, asked, held).await? {
                Some(folder) => _ = import.attributes.insert("src".into(), folder),
                None => continue,
            }
        }
        imports.push(import);
    }
    Ok(imports)
}

fn add_cache_imports(
    imports: Vec<TypedAttributes>,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    for TypedAttributes { kind, attributes } in imports {
        let fields = Fields::of_pairs(attributes);
        let read = cache::import_of_type(&kind, fields, context.around());
        flags.add_cache_from("cache import", read)?;
    }
    Ok(())
}

/// Adds the caches that a solve exports. A client's folder gets its cache after the build.
fn add_cache_exports(
    solve: &Solve,
    outputs: &Outputs,
    flags: &mut BuildFlags,
    context: FlagContext<'_>,
) -> Result<(), FlagError> {
    for (place, export) in solve.cache_exports.iter().enumerate() {
        let mut attributes = export.attributes.clone();
        if let Some(folder) = outputs.cache_folder(place) {
            attributes.insert("dest".into(), folder);
            // The client does that itself.
            attributes.remove("reset");
        }
        attributes.insert("type".into(), export.kind.clone());
        let read = cache::export_of(Fields::of_pairs(attributes), context.around());
        flags.add_cache_to("cache export", read)?;
    }
    Ok(())
}

fn refused(error: FlagError) -> SolveError {
    SolveError::refused(error.to_string())
}

fn read_frontend(
    frontend: &FrontendRequest,
    locals: &SolveLocals,
    context: FlagContext<'_>,
    flags: &mut BuildFlags,
) -> Result<(), FlagError> {
    if let Some(source) = &frontend.source {
        let text = dockerfile_of(source)?;
        flags.context =
            ContextFlag::Opened(Context::Empty, DockerfileSource::Text(text.as_str().into()));
        return Ok(());
    }
    if !matches!(frontend.frontend.as_str(), DOCKERFILE | GATEWAY) {
        return Err(FlagError::refused(
            format!("frontend {}", frontend.frontend),
            "Dockerfiles are built here, and nothing else: dockerfile.v0",
        ));
    }
    let options = FrontendOptions {
        options: frontend.attributes.clone(),
        locals: Locals::Client(locals),
        context,
        has_source: frontend.frontend == GATEWAY,
    };
    options.read(flags)
}

/// A Dockerfile that has a source's files and nothing else.
fn dockerfile_of(source: &RawSource) -> Result<String, FlagError> {
    let attribute = |name: &str| source.attributes.get(name).filter(|text| !text.is_empty());
    let is_git = source.identifier.starts_with("git://");
    let (address, target) = if is_git {
        // The address itself, as the client wrote it, with the part of it after `#`.
        let full = attribute("git.fullurl").map_or(source.identifier.as_str(), String::as_str);
        let part = source.identifier.split_once('#').map(|(_, part)| format!("#{part}"));
        let is_whole = full.contains('#') || part.is_none();
        let address =
            if is_whole { full.to_owned() } else { format!("{full}{}", part.unwrap_or_default()) };
        (address, "/".to_owned())
    } else {
        let name = attribute("http.filename").map(String::as_str);
        let name = name.or_else(|| source.identifier.rsplit('/').next());
        (source.identifier.clone(), format!("/{}", name.unwrap_or("download")))
    };
    let checksum = attribute("http.checksum").map(|digest| format!("--checksum={digest} "));
    let words = [address, target].map(|word| word.replace('\\', "\\\\").replace('$', "\\$"));
    let words = serde_json::to_string(&words)
        .map_err(|error| FlagError::bad("source", error.to_string()))?;
    Ok(format!("FROM scratch\nADD {}{words}\n", checksum.unwrap_or_default()))
}

/// Says in the progress what an input has no effect on.
pub(in crate::serve) fn say_notes(notes: &[String], events: &Events) {
    if notes.is_empty() {
        return;
    }
    let task = events.task("[internal] options", Vec::new());
    events.send(task, TaskEvent::Started);
    for note in notes {
        events.send(task, TaskEvent::Warning(note.as_str().into()));
    }
    events.send(task, TaskEvent::Done);
}

/// The folders of a solve, by the names that its options have for them.
#[derive(Default)]
struct SolveLocals {
    folders: BTreeMap<String, ClientFolder>,
    inputs: BTreeMap<String, NamedContext>,
    /// By their addresses.
    layouts: BTreeMap<String, NamedContext>,
    upload: Option<(String, std::sync::Mutex<Option<UploadReader>>)>,
}

impl ClientLocals for SolveLocals {
    fn folder(&self, name: &str) -> Option<ClientFolder> {
        self.folders.get(name).cloned()
    }

    fn input(&self, name: &str) -> Option<NamedContext> {
        self.inputs.get(name).cloned()
    }

    fn layout(&self, address: &str) -> Option<NamedContext> {
        self.layouts.get(address).cloned()
    }

    fn upload(&self, address: &str) -> Option<Box<dyn Read + Send>> {
        let (known, stream) = self.upload.as_ref().filter(|(known, _)| known == address)?;
        let _ = known;
        stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// Grants the entitlements that a client asks for. `security.insecure` is for the clients of a service that was
/// started with a flag for it, as with buildkitd.
fn grant(
    flags: &mut BuildFlags,
    entitlements: &[String],
    allows_insecure: bool,
) -> Result<(), FlagError> {
    for entitlement in entitlements {
        flags.allow("entitlement", entitlement)?;
    }
    if flags.entitlements.security_insecure && !allows_insecure {
        return Err(FlagError::refused(
            "entitlement security.insecure",
            "this service does not grant it; start it with `--allow-insecure-entitlement security.insecure`",
        ));
    }
    Ok(())
}

async fn upload(
    solve: &Solve,
    address: &str,
) -> Result<std::sync::Mutex<Option<UploadReader>>, SolveError> {
    let held = |reader| std::sync::Mutex::new(Some(reader));
    if let Some(reader) = solve.uploads.take(address) {
        return Ok(held(reader));
    }
    let session = solve.session.as_ref().ok_or_else(no_session)?;
    let path = address.trim_start_matches(UPLOAD);
    let stream = session.upload("buildkit-session", &format!("/{path}")).await;
    let stream = stream.map_err(|status| SolveError::new(status.message()))?;
    Ok(held(Box::new(stream.into_reader())))
}

fn no_session() -> SolveError {
    SolveError::refused("the build has no session, and something of the client is needed")
}

/// An image of the client's OCI layout, brought here.
async fn bring_layout(
    solve: &Solve,
    session: &Session,
    address: &str,
    held: &mut HeldFolders,
) -> Result<NamedContext, SolveError> {
    let client = solve.session.as_ref().ok_or_else(no_session)?;
    let rest = address.trim_start_matches("oci-layout:").trim_start_matches("//");
    let wrong = || SolveError::refused(format!("`{address}`: write oci-layout://NAME@DIGEST"));
    let (name, digest) = rest.split_once('@').ok_or_else(wrong)?;
    let digest = digest.parse().map_err(|_| wrong())?;
    let id = name.split(':').next().unwrap_or(name);
    let scratch = session.store().scratch_folder().map_err(failed)?;
    let to = BlobFolder { path: scratch.path(), store: session.store() };
    blobs::bring(client, &format!("oci:{id}"), digest, to).await?;
    let folder = scratch.path().to_owned();
    held.scratch.push(scratch);
    let tag = "latest".to_owned();
    Ok(NamedContext::OciLayout(OciLayout { folder, tag, digest: Some(digest) }))
}

/// A cache in a folder of the client, brought here; none if there is none.
async fn bring_cache(
    solve: &Solve,
    session: &Session,
    cache: &TypedAttributes,
    held: &mut HeldFolders,
) -> Result<Option<String>, SolveError> {
    let client = solve.session.as_ref().ok_or_else(no_session)?;
    let attribute = |name: &str| cache.attributes.get(name);
    let Some(source) = attribute("src") else {
        return Err(SolveError::refused(format!("cache of type={}: `src` is needed", cache.kind)));
    };
    // buildctl names a folder that it has no cache in, and only warns of it.
    let Some(digest) = attribute("digest") else { return Ok(None) };
    let wrong = |_| SolveError::refused(format!("cache of type=local: `{digest}` is no digest"));
    let digest = digest.parse().map_err(wrong)?;
    let scratch = session.store().scratch_folder().map_err(failed)?;
    let to = BlobFolder { path: scratch.path(), store: session.store() };
    if let Err(error) = blobs::bring(client, &format!("local:{source}"), digest, to).await {
        // A cache that cannot be read is never a failed build.
        tracing::debug!(%error, "a client's cache was not brought");
        return Ok(None);
    }
    let folder = scratch.path().display().to_string();
    held.scratch.push(scratch);
    Ok(Some(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(identifier: &str, attributes: &[(&str, &str)]) -> RawSource {
        let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        RawSource { identifier: identifier.into(), attributes: attributes.collect() }
    }

    #[test]
    fn a_source_alone_is_a_dockerfile_of_one_step() {
        for (source, step) in [
            (source("https://h/a/b.txt", &[]), r#"ADD ["https://h/a/b.txt","/b.txt"]"#),
            (
                source("https://h/x?$a", &[("http.filename", "Dockerfile")]),
                r#"ADD ["https://h/x?\\$a","/Dockerfile"]"#,
            ),
            (
                source("git://h/r.git#main:sub", &[("git.fullurl", "https://h/r.git")]),
                r#"ADD ["https://h/r.git#main:sub","/"]"#,
            ),
            (source("git://h/r.git", &[]), r#"ADD ["git://h/r.git","/"]"#),
        ] {
            let text = dockerfile_of(&source).unwrap();
            assert_eq!(text, format!("FROM scratch\n{step}\n"));
        }
        let checked = source("https://h/b", &[("http.checksum", "sha256:1")]);
        assert!(dockerfile_of(&checked).unwrap().contains("ADD --checksum=sha256:1 ["));
    }

    #[test]
    fn privileged_commands_are_granted_only_where_the_service_allows_them() {
        let grant = |names: &[&str], allows| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            super::grant(&mut BuildFlags::default(), &names, allows)
        };
        let error = grant(&["network.host,security.insecure"], false).unwrap_err().to_string();
        assert!(error.contains("--allow-insecure-entitlement security.insecure"), "{error}");
        assert!(grant(&["security.insecure"], true).is_ok());
        assert!(grant(&["network.host"], false).is_ok());
        assert!(grant(&["device"], true).is_err());
    }

    #[test]
    fn frontends_that_are_not_built_in_are_refused_by_name() {
        for (frontend, attributes, word) in [
            ("llb.v1", &[][..], "frontend llb.v1"),
            ("gateway.v0", &[("source", "me/mine")], "source=me/mine"),
            ("dockerfile.v0", &[], "the client sends no such folder"),
        ] {
            let RawSource { attributes, .. } = source("", attributes);
            let request = service::FrontendRequest {
                frontend: frontend.into(),
                attributes,
                ..service::FrontendRequest::default()
            };
            let environment = Environment::default();
            let context = client_context(&environment);
            let mut flags = BuildFlags::default();
            let read = read_frontend(&request, &SolveLocals::default(), context, &mut flags);
            let error = read.unwrap_err().to_string();
            assert!(error.contains(word), "{frontend}: {error}");
        }
    }
}
