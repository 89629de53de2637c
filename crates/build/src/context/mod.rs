//! The start of a build: the context, and the Dockerfile and ignore file in it or beside it.
//!
//! A folder is read where it is. Anything else (a repository, a download, an archive) is made by
//! steps, which run here to find the Dockerfile and are part of the build's graph again; what they
//! fetch, they fetch once.

pub(crate) mod archive;
mod client;
mod files;
mod marks;
mod remote;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockerfile::Dockerfile;
use execute::{BroughtFolder, ContextFolder, Sources};
use graph::{HttpSource, Operation, SourceFile, TaskEvent, TaskId, TransferProgress};

use crate::Error;
use crate::request::{Context, DockerfileSource, Layers, Policy, Request};
use crate::session::Build;
pub(crate) use files::folder_excludes;
use files::{default_dockerfile, excludes, no_policy_beside};
use marks::take_marks;
use remote::{Loader, RemoteContext};

/// The largest text of a context, in bytes; larger files are no Dockerfiles.
const TEXT_LIMIT: u64 = 16 << 20;

/// A context that was opened, with its Dockerfile.
pub(crate) struct OpenContext {
    /// The Dockerfile.
    pub dockerfile: SourceFile,
    /// Its lines after which a layer of the image ends, where it says so.
    pub marked: Vec<u32>,
    /// The task that read it.
    pub definition: TaskId,
    /// Patterns of the ignore file, in order.
    pub excludes: Vec<String>,
    /// The context of COPY and ADD.
    pub context: dockerfile::Context,
    /// The context's folder, if it is one.
    pub folder: Option<ContextFolder>,
    /// Patterns of the ignore files of clients' folders that are named contexts, by name.
    pub named_excludes: BTreeMap<String, Vec<String>>,
    /// Downloads and checkouts so far.
    pub sources: Arc<Sources>,
    /// Operations that progress has shown already.
    pub shown: Vec<Operation>,
}

/// A context that is open, with its Dockerfile parsed.
pub(crate) struct ParsedContext {
    pub opened: OpenContext,
    /// The parsed Dockerfile, or the error in its text.
    pub parsed: Result<Dockerfile, dockerfile::Error>,
}

impl ParsedContext {
    /// The parsed Dockerfile.
    ///
    /// # Errors
    /// If its text is wrong.
    pub(crate) fn dockerfile(&self) -> Result<&Dockerfile, Error> {
        let wrong = |error: &dockerfile::Error| {
            Error::in_dockerfile(error.clone(), &self.opened.dockerfile)
        };
        self.parsed.as_ref().map_err(wrong)
    }
}

/// A Dockerfile that was read.
struct DockerfileText {
    /// The file beside which an ignore file can be; none for what came from elsewhere.
    path: Option<PathBuf>,
    file: SourceFile,
    task: TaskId,
    /// The folder of a client that has it, and its name there.
    brought: Option<(BroughtFolder, String)>,
}

/// Opens the context, and parses the Dockerfile: the start of builds, explanations and checks.
///
/// # Errors
/// If the context or the Dockerfile cannot be read.
pub(crate) async fn prepare(build: &Build<'_>) -> Result<ParsedContext, Error> {
    let opened = open(build).await?;
    let parsed = Dockerfile::parse(opened.dockerfile.clone());
    Ok(ParsedContext { opened, parsed })
}

/// Opens the context and reads the Dockerfile and the ignore file.
///
/// # Errors
/// If the context or the Dockerfile is not there, or is too large to be one.
async fn open(build: &Build<'_>) -> Result<OpenContext, Error> {
    let request = build.request;
    let mut loader = Loader::new(build);
    let folder = match &request.context {
        Context::Folder(folder) if !folder.is_dir() => {
            return Err(Error::NoContext { path: folder.clone() });
        }
        Context::Folder(folder) => Some(ContextFolder::Path(folder.clone())),
        Context::Client(client) => Some(ContextFolder::Client(client.clone())),
        _ => None,
    };
    let path = match &folder {
        Some(ContextFolder::Path(path)) => Some(path.as_path()),
        _ => None,
    };
    let loaded = loader.context(wants_context(request)).await?;
    let read = dockerfile(build, path, loaded.as_ref(), &mut loader).await?;
    let dockerfile = read.path.as_deref();
    let excludes = match &folder {
        Some(ContextFolder::Path(folder)) => excludes(dockerfile, folder, build.events)?,
        Some(ContextFolder::Client(client)) => client::excludes(build, client, &read).await?,
        None => Vec::new(),
    };
    let named_excludes = client::named_excludes(request).await?;
    let context = match loaded {
        Some(loaded) => loaded.context,
        None => dockerfile::Context::Local { name: "context".into(), excludes: Vec::new() },
    };
    let (dockerfile, marked) = match request.layers {
        Layers::Marked | Layers::Unmarked => take_marks(&read.file),
        Layers::Each | Layers::One => (read.file, Vec::new()),
    };
    Ok(OpenContext {
        dockerfile,
        marked,
        definition: read.task,
        excludes,
        context,
        folder,
        named_excludes,
        sources: loader.sources,
        shown: loader.shown,
    })
}

/// True if the Dockerfile is in the context: then a repository is checked out first. Otherwise
/// that is left to the steps that read it.
fn wants_context(request: &Request) -> bool {
    match request.dockerfile {
        DockerfileSource::Path(None) | DockerfileSource::InContext(_) => true,
        DockerfileSource::Path(Some(_))
        | DockerfileSource::Text(_)
        | DockerfileSource::Http(_)
        | DockerfileSource::InClient(..) => false,
    }
}

async fn dockerfile(
    build: &Build<'_>,
    folder: Option<&Path>,
    loaded: Option<&RemoteContext>,
    loader: &mut Loader<'_>,
) -> Result<DockerfileText, Error> {
    let missing = |path: &str| Error::NoDockerfile {
        path: path.into(),
        source: io::ErrorKind::NotFound.into(),
    };
    let request = build.request;
    let path = match (&request.dockerfile, folder, loaded) {
        (DockerfileSource::Text(text), ..) => {
            return Ok(elsewhere(build, "Dockerfile", text.clone()));
        }
        (DockerfileSource::Http(url), ..) => {
            let text = loader.download(url).await?;
            return Ok(elsewhere(build, "Dockerfile", text.into()));
        }
        (DockerfileSource::InClient(client, name), ..) => {
            return client::dockerfile(build, client, name).await;
        }
        (DockerfileSource::Path(Some(path)), ..) => path.clone(),
        (DockerfileSource::InContext(name), Some(folder), _) => folder.join(name),
        (DockerfileSource::Path(None), Some(folder), _) => default_dockerfile(folder),
        (DockerfileSource::InContext(name), None, Some(loaded)) => {
            let (name, text) = loader.text(loaded, Some(name)).await?;
            return Ok(elsewhere(build, &name, text.into()));
        }
        (DockerfileSource::Path(None), None, Some(loaded)) => {
            let (name, text) = loader.text(loaded, None).await?;
            return Ok(elsewhere(build, &name, text.into()));
        }
        (DockerfileSource::InContext(name), None, None) => return Err(missing(name)),
        (DockerfileSource::Path(None), None, None) => return Err(missing("Dockerfile")),
    };
    read(build, path)
}

/// Reads a Dockerfile from a folder.
fn read(build: &Build<'_>, path: PathBuf) -> Result<DockerfileText, Error> {
    let text =
        read_text(&path).map_err(|source| Error::NoDockerfile { path: path.clone(), source })?;
    if build.request.policy == Policy::Enforced {
        no_policy_beside(&path)?;
    }
    let name = path
        .file_name()
        .map_or_else(|| "Dockerfile".into(), |name| name.to_string_lossy().into_owned());
    Ok(DockerfileText { path: Some(path), ..elsewhere(build, &name, text.into()) })
}

/// Reads a text file: a Dockerfile, or an ignore file.
fn read_text(path: &Path) -> io::Result<String> {
    // A descriptor, as in `-f <(make-dockerfile)`, is a pipe on purpose.
    let is_descriptor =
        ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|named| path.starts_with(named));
    let file = if is_descriptor { File::open(path)? } else { store::open_regular(path)? };
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
    text_of(bytes)
}

/// Bytes as a text. Bytes that are not UTF-8 are replaced, as Go prints them.
fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", TEXT_LIMIT >> 20)));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A Dockerfile beside which there is no ignore file.
fn elsewhere(build: &Build<'_>, name: &str, text: Arc<str>) -> DockerfileText {
    let task = show(
        build.events,
        &format!("[internal] load build definition from {name}"),
        "transferring dockerfile:",
        text.len() as u64,
    );
    DockerfileText { path: None, file: SourceFile { name: name.into(), text }, task, brought: None }
}

/// A download that becomes the file `context`, as BuildKit names it.
pub(crate) fn download_of(url: &str) -> HttpSource {
    HttpSource { url: url.into(), filename: "context".into(), checksum: None }
}

fn show(events: &graph::Events, task: &str, what: &str, bytes: u64) -> TaskId {
    let task = events.task(task, Vec::new());
    events.send(task, TaskEvent::Started);
    events.send(task, TaskEvent::Transfer(TransferProgress::at_once(what, bytes)));
    events.send(task, TaskEvent::Done);
    task
}
