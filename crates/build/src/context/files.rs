//! Files of a context by their names: the usual Dockerfile, ignore files, a policy.

use std::io;
use std::path::{Path, PathBuf};

use graph::Events;

use super::{read_text, show};
use crate::Error;

/// `Dockerfile`, or `dockerfile` where only that is there.
pub(super) fn default_dockerfile(folder: &Path) -> PathBuf {
    let path = folder.join("Dockerfile");
    let lower = folder.join("dockerfile");
    if !path.exists() && lower.exists() { lower } else { path }
}

/// `NAME.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
pub(super) fn excludes(
    dockerfile: Option<&Path>,
    folder: &Path,
    events: &Events,
) -> Result<Vec<String>, Error> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    first_excludes(beside.into_iter().chain([folder.join(".dockerignore")]), events)
}

/// The patterns of the first ignore file that there is.
pub(super) fn first_excludes(
    paths: impl IntoIterator<Item = PathBuf>,
    events: &Events,
) -> Result<Vec<String>, Error> {
    for path in paths {
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

/// The name of the policy of a Dockerfile, as buildx has it.
pub(super) fn policy_of(dockerfile: &str) -> String {
    format!("{dockerfile}.rego")
}

/// Refuses a build that has a policy beside its Dockerfile.
pub(super) fn no_policy_beside(dockerfile: &Path) -> Result<(), Error> {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".rego");
    let path = PathBuf::from(name);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // One that cannot be looked at is one, too.
        _ => Err(Error::Policy { file: path.display().to_string() }),
    }
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
