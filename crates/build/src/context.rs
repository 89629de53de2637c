//! The texts that a build starts from: the Dockerfile and `.dockerignore`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use graph::{Events, SourceFile, TaskEvent, TaskId, Transfer};

use crate::Error;
use crate::request::{Context, DockerfileSource, Request};

/// Larger texts are no Dockerfiles.
const TEXT_LIMIT: u64 = 16 << 20;

/// The texts, and where the context is.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The Dockerfile.
    pub dockerfile: SourceFile,
    /// The task that read it.
    pub definition: TaskId,
    /// Patterns of the ignore file, in order.
    pub excludes: Vec<String>,
    /// The context's folder, if there is one.
    pub folder: Option<PathBuf>,
}

/// Reads the Dockerfile and the ignore file.
///
/// # Errors
/// If the context or the Dockerfile is not there, or is too large to be one.
pub(crate) fn open(request: &Request, events: &Events) -> Result<Opened, Error> {
    let folder = match &request.context {
        Context::Folder(folder) if !folder.is_dir() => {
            return Err(Error::NoContext { path: folder.clone() });
        }
        Context::Folder(folder) => Some(folder.clone()),
        Context::Empty => None,
    };
    let (path, dockerfile, definition) = dockerfile(request, folder.as_deref(), events)?;
    let excludes = match &folder {
        Some(folder) => excludes(path.as_deref(), folder, events)?,
        None => Vec::new(),
    };
    Ok(Opened { dockerfile, definition, excludes, folder })
}

fn dockerfile(
    request: &Request,
    folder: Option<&Path>,
    events: &Events,
) -> Result<(Option<PathBuf>, SourceFile, TaskId), Error> {
    let path = match (&request.dockerfile, folder) {
        (DockerfileSource::Text(text), _) => {
            let task = show(
                events,
                "[internal] load build definition from Dockerfile",
                "transferring dockerfile:",
                text.len() as u64,
            );
            let file = SourceFile { name: "Dockerfile".into(), text: text.clone() };
            return Ok((None, file, task));
        }
        (DockerfileSource::Path(Some(path)), _) => path.clone(),
        (DockerfileSource::Path(None), Some(folder)) => default_dockerfile(folder),
        (DockerfileSource::Path(None), None) => {
            return Err(Error::NoDockerfile {
                path: "Dockerfile".into(),
                source: io::ErrorKind::NotFound.into(),
            });
        }
    };
    let text =
        read_text(&path).map_err(|source| Error::NoDockerfile { path: path.clone(), source })?;
    let name = path
        .file_name()
        .map_or_else(|| "Dockerfile".into(), |name| name.to_string_lossy().into_owned());
    let task = show(
        events,
        &format!("[internal] load build definition from {name}"),
        "transferring dockerfile:",
        text.len() as u64,
    );
    Ok((Some(path), SourceFile { name: name.into(), text: text.into() }, task))
}

/// `Dockerfile`, or `dockerfile` where only that is there.
fn default_dockerfile(folder: &Path) -> PathBuf {
    let path = folder.join("Dockerfile");
    let lower = folder.join("dockerfile");
    if !path.exists() && lower.exists() { lower } else { path }
}

/// `NAME.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
fn excludes(
    dockerfile: Option<&Path>,
    folder: &Path,
    events: &Events,
) -> Result<Vec<String>, Error> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([folder.join(".dockerignore")]) {
        match read_text(&path) {
            Ok(text) => {
                show(
                    events,
                    "[internal] load .dockerignore",
                    "transferring context:",
                    text.len() as u64,
                );
                return Ok(dockerfile::ignore_patterns(&text));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    show(events, "[internal] load .dockerignore", "transferring context:", 2);
    Ok(Vec::new())
}

/// A text file; bytes that are not UTF-8 are kept out by replacement, as Go prints them.
fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", TEXT_LIMIT >> 20)));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn show(events: &Events, task: &str, what: &str, bytes: u64) -> TaskId {
    let task = events.task(task, Vec::new());
    events.send(task, TaskEvent::Started);
    let now = std::time::SystemTime::now();
    events.send(
        task,
        TaskEvent::Transfer(Transfer {
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

/// Patterns of a named context's own ignore file.
pub(crate) fn folder_excludes(folder: &Path) -> Result<Vec<String>, Error> {
    let path = folder.join(".dockerignore");
    match read_text(&path) {
        Ok(text) => Ok(dockerfile::ignore_patterns(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::Read { path, source }),
    }
}
