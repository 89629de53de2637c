//! Texts of folders: the Dockerfile and `.dockerignore`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use graph::Events;

use super::show;
use crate::Error;

/// Larger texts are no Dockerfiles.
pub(super) const TEXT_LIMIT: u64 = 16 << 20;

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

/// A text file.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    // A descriptor, as in `-f <(make-dockerfile)`, is a pipe on purpose.
    let is_descriptor =
        ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|named| path.starts_with(named));
    let file = if is_descriptor { File::open(path)? } else { store::open_regular(path)? };
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
    text_of(bytes)
}

/// Bytes as a text; what is not UTF-8 is kept out by replacement, as Go prints it.
pub(super) fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", TEXT_LIMIT >> 20)));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
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
