//! Version control facts of a build's context, which git is asked for as by buildx: for the
//! provenance and, with `BUILDX_GIT_LABELS`, for labels. They are hints and prove nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use build::{Context, DockerfileSource, NamedContext, Request};

use crate::args::compound::boolean;
use crate::args::compound::pairs::shown_remote;
use crate::settings::Environment;

/// The facts that buildx's variables ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GitInfoOptions {
    /// `BUILDX_GIT_INFO`: facts for the provenance; on by default.
    info: bool,
    /// `BUILDX_GIT_LABELS`.
    labels: bool,
    /// `BUILDX_GIT_CHECK_DIRTY`: the revision is marked if files were changed.
    dirty: bool,
}

impl GitInfoOptions {
    fn of(environment: &Environment, has_provenance: bool) -> Self {
        let is_on =
            |name: &str, usual: bool| environment.get(name).and_then(boolean).unwrap_or(usual);
        // `full` is an older word for `true`.
        let labels = environment.get("BUILDX_GIT_LABELS") == Some("full")
            || is_on("BUILDX_GIT_LABELS", false);
        Self {
            info: has_provenance && is_on("BUILDX_GIT_INFO", true),
            labels,
            dirty: is_on("BUILDX_GIT_CHECK_DIRTY", false),
        }
    }
}

/// A repository that git cannot read.
#[derive(Debug, thiserror::Error)]
#[error("the commit of the context is not known: {0}")]
pub struct CheckoutError(#[from] GitError);

/// A failed call of git.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("git is not installed")]
    NotInstalled,
    /// git cannot be started.
    #[error("{0}")]
    Start(#[source] io::Error),
    /// git failed; the first line of its error output.
    #[error("{0}")]
    Said(String),
}

/// A work tree.
#[derive(Debug, Default, PartialEq, Eq)]
struct Checkout {
    root: PathBuf,
    /// The commit; none before the first one.
    revision: Option<String>,
    /// The address of its remote, without credentials.
    remote: Option<String>,
}

/// Adds the version control facts of a request's context, if they are asked for.
///
/// # Errors
/// If there is a repository that git cannot read. The build goes on without the facts.
pub fn describe(request: &mut Request, environment: &Environment) -> Result<(), CheckoutError> {
    let wanted = GitInfoOptions::of(environment, request.attestations.provenance.is_some());
    let Context::Folder(folder) = &request.context else { return Ok(()) };
    if !wanted.info && !wanted.labels {
        return Ok(());
    }
    let Some(checkout) = Git { folder }.checkout(wanted.dirty)? else { return Ok(()) };
    if wanted.labels {
        for (name, value) in labels(&checkout, request) {
            request.labels.retain(|(known, _)| known != name);
            request.labels.push((name.to_owned(), value));
        }
    }
    if wanted.info {
        request.vcs.extend(facts(&checkout, request));
    }
    Ok(())
}

/// The labels that buildx sets.
fn labels(checkout: &Checkout, request: &Request) -> Vec<(&'static str, String)> {
    let file = match (&request.dockerfile, &request.context) {
        (DockerfileSource::Path(Some(file)), _) => Some(file.clone()),
        (DockerfileSource::Path(None), Context::Folder(folder)) => Some(folder.join("Dockerfile")),
        _ => None,
    };
    let folder = file.as_deref().and_then(Path::parent).and_then(|it| it.canonicalize().ok());
    let file = folder.zip(file.as_deref().and_then(Path::file_name));
    let file = file.map(|(folder, name)| folder.join(name));
    let entry = file.and_then(|file| below(&checkout.root, &file));
    [
        ("org.opencontainers.image.revision", checkout.revision.clone()),
        ("org.opencontainers.image.source", checkout.remote.clone()),
        ("com.docker.image.source.entrypoint", entry),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The facts for the provenance, under BuildKit's names.
fn facts(checkout: &Checkout, request: &Request) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    facts.extend(checkout.remote.clone().map(|remote| ("source".to_owned(), remote)));
    facts.extend(checkout.revision.clone().map(|revision| ("revision".to_owned(), revision)));
    for (name, folder) in local_folders(request) {
        let folder = folder.canonicalize().ok();
        let place = folder.and_then(|folder| below(&checkout.root, &folder));
        facts.extend(place.map(|place| (format!("localdir:{name}"), place)));
    }
    facts
}

/// The folders that a build reads, by the names that BuildKit has for them.
fn local_folders(request: &Request) -> Vec<(&str, &Path)> {
    let mut folders = Vec::new();
    if let Context::Folder(folder) = &request.context {
        folders.push(("context", folder.as_path()));
        if request.dockerfile == DockerfileSource::Path(None) {
            folders.push(("dockerfile", folder.as_path()));
        }
    }
    if let DockerfileSource::Path(Some(file)) = &request.dockerfile {
        folders.extend(file.parent().map(|folder| ("dockerfile", folder)));
    }
    for (name, context) in &request.named_contexts {
        if let NamedContext::Folder(folder) = context {
            folders.push((name, folder));
        }
    }
    folders
}

/// A path relative to a folder above it; `.` is the folder itself.
fn below(root: &Path, path: &Path) -> Option<String> {
    match path.strip_prefix(root).ok()?.to_str()? {
        "" => Some(".".into()),
        path => Some(path.into()),
    }
}

/// The system's git in a folder. It runs no program that a repository's own settings name.
struct Git<'a> {
    folder: &'a Path,
}

/// Settings that would run a program, or change the output.
const SETTINGS: [&str; 3] =
    ["core.fsmonitor=false", "core.hooksPath=/dev/null", "log.showSignature=false"];

impl Git<'_> {
    /// The work tree that contains the folder, if any.
    fn checkout(&self, dirty: bool) -> Result<Option<Checkout>, GitError> {
        let is_root = self.folder.join(".git").exists();
        let found = match self.says(&["rev-parse", "--is-inside-work-tree", "--show-toplevel"]) {
            Err(error) if is_root => return Err(error),
            Err(_) => return Ok(None),
            Ok(text) => text,
        };
        let Some(("true", root)) = found.split_once('\n') else { return Ok(None) };
        let mut revision = self.line(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]);
        if let Some(revision) = revision.as_mut().filter(|_| dirty) {
            let status = self.says(&["status", "--porcelain", "--ignored"]);
            if status.map_or(true, |status| !status.is_empty()) {
                revision.push_str("-dirty");
            }
        }
        Ok(Some(Checkout { root: root.into(), revision, remote: self.remote() }))
    }

    /// The address of the remote that the branch follows, else of `origin`, else of `upstream`.
    fn remote(&self) -> Option<String> {
        let branch = self.line(&["symbolic-ref", "-q", "HEAD"]);
        let followed = branch.and_then(|branch| {
            self.line(&["for-each-ref", "--format=%(upstream:remotename)", &branch])
        });
        let names = followed.into_iter().chain(["origin".to_owned(), "upstream".to_owned()]);
        let mut remotes = names.filter_map(|name| self.line(&["remote", "get-url", "--", &name]));
        remotes.next().map(|remote| shown_remote(&remote))
    }

    /// The first line of git's output; none if it is empty, or git fails.
    fn line(&self, words: &[&str]) -> Option<String> {
        let text = self.says(words).ok()?;
        text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
    }

    fn says(&self, words: &[&str]) -> Result<String, GitError> {
        let settings = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
        let output = Command::new("git")
            .args(settings)
            .args(words)
            .current_dir(self.folder)
            .env("LC_ALL", "C")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .output();
        let output = output.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::NotInstalled,
            _ => GitError::Start(error),
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(GitError::Said(text(&output.stderr).lines().next().unwrap_or("it failed").to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buildx_variables_choose() {
        let of = |pairs: &[(&str, &str)], provenance| {
            GitInfoOptions::of(&Environment::of(pairs), provenance)
        };
        let usual = GitInfoOptions { info: true, labels: false, dirty: false };
        assert_eq!(of(&[], true), usual);
        assert!(!of(&[], false).info);
        assert!(!of(&[("BUILDX_GIT_INFO", "false")], true).info);
        for on in ["1", "true", "full"] {
            assert!(of(&[("BUILDX_GIT_LABELS", on)], false).labels, "{on}");
        }
        assert!(of(&[("BUILDX_GIT_CHECK_DIRTY", "1")], true).dirty);
        // A value that is not a truth value changes nothing, as with buildx.
        assert_eq!(of(&[("BUILDX_GIT_INFO", "maybe"), ("BUILDX_GIT_LABELS", "x")], true), usual);
    }

    #[test]
    fn paths_are_below_the_root_or_not_said() {
        let root = Path::new("/a/b");
        assert_eq!(below(root, root).as_deref(), Some("."));
        assert_eq!(below(root, Path::new("/a/b/c/d")).as_deref(), Some("c/d"));
        assert_eq!(below(root, Path::new("/a/bc")), None);
    }
}
