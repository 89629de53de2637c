//! The start of a build: the context, and the Dockerfile and ignore file in it or beside it.
//!
//! A folder is read where it is. Anything else (a repository, a download, an archive) is made by
//! steps, which run here to find the Dockerfile and are part of the build's graph again; what they
//! fetch, they fetch once.

pub(crate) mod archive;
mod marks;
mod remote;
mod text;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockerfile::Dockerfile;
use execute::Sources;
use graph::{HttpSource, Operation, SourceFile, TaskEvent, TaskId};

use crate::Error;
use crate::request::{Context, DockerfileSource, Layers, Policy, Request};
use crate::session::Build;
use marks::take_marks;
use remote::{Loaded, Loader};
pub(crate) use text::folder_excludes;
use text::{default_dockerfile, excludes, no_policy_beside, read_text};

/// A context that was opened, with its Dockerfile.
pub(crate) struct Opened {
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
    pub folder: Option<PathBuf>,
    /// Downloads and checkouts so far.
    pub sources: Arc<Sources>,
    /// Operations that progress has shown already.
    pub shown: Vec<Operation>,
}

/// A context that is open, with its Dockerfile parsed.
pub(crate) struct Prepared {
    pub opened: Opened,
    /// The parsed Dockerfile, or the error in its text.
    pub parsed: Result<Dockerfile, dockerfile::Error>,
}

impl Prepared {
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
struct Read {
    /// The file beside which an ignore file can be; none for what came from elsewhere.
    path: Option<PathBuf>,
    file: SourceFile,
    task: TaskId,
}

/// Opens the context, and parses the Dockerfile: the start of builds, explanations and checks.
///
/// # Errors
/// If the context or the Dockerfile cannot be read.
pub(crate) async fn prepare(build: &Build<'_>) -> Result<Prepared, Error> {
    let opened = open(build).await?;
    let parsed = Dockerfile::parse(opened.dockerfile.clone());
    Ok(Prepared { opened, parsed })
}

/// Opens the context and reads the Dockerfile and the ignore file.
///
/// # Errors
/// If the context or the Dockerfile is not there, or is too large to be one.
async fn open(build: &Build<'_>) -> Result<Opened, Error> {
    let request = build.request;
    let mut loader = Loader::new(build);
    let folder = match &request.context {
        Context::Folder(folder) if !folder.is_dir() => {
            return Err(Error::NoContext { path: folder.clone() });
        }
        Context::Folder(folder) => Some(folder.clone()),
        _ => None,
    };
    let loaded = loader.context(wants_context(request)).await?;
    let read = dockerfile(build, folder.as_deref(), loaded.as_ref(), &mut loader).await?;
    let excludes = match &folder {
        Some(folder) => excludes(read.path.as_deref(), folder, build.events)?,
        None => Vec::new(),
    };
    let context = match loaded {
        Some(loaded) => loaded.context,
        None => dockerfile::Context::Local { name: "context".into(), excludes: Vec::new() },
    };
    let (dockerfile, marked) = match request.layers {
        Layers::Marked | Layers::Unmarked => take_marks(&read.file),
        Layers::Each | Layers::One => (read.file, Vec::new()),
    };
    Ok(Opened {
        dockerfile,
        marked,
        definition: read.task,
        excludes,
        context,
        folder,
        sources: loader.sources,
        shown: loader.shown,
    })
}

/// True if the Dockerfile is in the context: then a repository is checked out first. Otherwise
/// that is left to the steps that read it.
fn wants_context(request: &Request) -> bool {
    match request.dockerfile {
        DockerfileSource::Path(None) | DockerfileSource::InContext(_) => true,
        DockerfileSource::Path(Some(_)) | DockerfileSource::Text(_) | DockerfileSource::Http(_) => {
            false
        }
    }
}

async fn dockerfile(
    build: &Build<'_>,
    folder: Option<&Path>,
    loaded: Option<&Loaded>,
    loader: &mut Loader<'_>,
) -> Result<Read, Error> {
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
    let text =
        read_text(&path).map_err(|source| Error::NoDockerfile { path: path.clone(), source })?;
    if request.policy == Policy::Enforced {
        no_policy_beside(&path)?;
    }
    let name = path
        .file_name()
        .map_or_else(|| "Dockerfile".into(), |name| name.to_string_lossy().into_owned());
    Ok(Read { path: Some(path), ..elsewhere(build, &name, text.into()) })
}

/// A Dockerfile beside which there is no ignore file.
fn elsewhere(build: &Build<'_>, name: &str, text: Arc<str>) -> Read {
    let task = show(
        build.events,
        &format!("[internal] load build definition from {name}"),
        "transferring dockerfile:",
        text.len() as u64,
    );
    Read { path: None, file: SourceFile { name: name.into(), text }, task }
}

/// A download that becomes the file `context`, as BuildKit names it.
pub(crate) fn download_of(url: &str) -> HttpSource {
    HttpSource { url: url.into(), filename: "context".into(), checksum: None }
}

fn show(events: &graph::Events, task: &str, what: &str, bytes: u64) -> TaskId {
    let task = events.task(task, Vec::new());
    events.send(task, TaskEvent::Started);
    let now = std::time::SystemTime::now();
    events.send(
        task,
        TaskEvent::Transfer(graph::Transfer {
            name: what.into(),
            current: bytes,
            total: 0,
            started: now,
            completed: Some(now),
        }),
    );
    events.send(task, TaskEvent::Done);
    task
}
