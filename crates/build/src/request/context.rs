//! The files and texts that a build reads.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dockerfile::GitAddress;
use execute::ClientFolder;
use graph::GitSource;
use oci::Reference;

/// Handling of a policy beside the Dockerfile (`Dockerfile.rego`). buildx evaluates it for each
/// source of the build; kiln cannot, so it never builds as if there were none unless told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The build is refused where there is one.
    #[default]
    Enforced,
    /// It is not looked for.
    Disabled,
}

/// The files that COPY and ADD read. `.dockerignore` counts in folders only, as in BuildKit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// A folder.
    Folder(PathBuf),
    /// A folder of a client, which sends what is read of it.
    Client(ClientFolder),
    /// No files: the Dockerfile came alone (`kiln build - < Dockerfile`).
    Empty,
    /// A checkout of a repository. `BUILDKIT_CONTEXT_KEEP_GIT_DIR` among the build arguments keeps
    /// its `.git`, and `SOURCE_DATE_EPOCH` gives the files the commit's time.
    Git(GitContext),
    /// A download: an archive or a Dockerfile, detected from the content.
    Http(String),
    /// An archive (tar, plain or under gzip, bzip2, xz or zstd), read once: standard input, or a
    /// file of this machine.
    Archive(ContextStream),
}

/// A repository as a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitContext {
    /// The repository, and the part of it. `.git` stays if this or the build argument says so.
    pub source: GitSource,
    /// True if the address itself sets the files' times, whatever `SOURCE_DATE_EPOCH` is.
    pub has_mtime: bool,
}

impl GitContext {
    /// Reads an address as `docker buildx build` takes it: `https://host/name.git#ref:folder`,
    /// `?branch=…&subdir=…`, `git@host:name`, `ssh://`, `git://`, `github.com/owner/name`. None
    /// where a text is something else.
    ///
    /// # Errors
    /// If it is a repository's address and something in it makes no sense.
    pub fn parse(text: &str) -> Result<Option<Self>, GitContextError> {
        let address = GitAddress::of_context(text)
            .map_err(|dockerfile::Error { message, hint, .. }| GitContextError { message, hint })?;
        Ok(address.map(|address| {
            let has_mtime = address.mtime.is_some();
            Self { source: address.into_context(), has_mtime }
        }))
    }

    /// True if it needs an ssh agent.
    pub fn is_over_ssh(&self) -> bool {
        let remote = &self.source.remote;
        remote.split_once("://").is_none_or(|(scheme, _)| scheme.eq_ignore_ascii_case("ssh"))
    }
}

/// An address of a repository in which something makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct GitContextError {
    /// The fault.
    pub message: String,
    /// A hint, as for a mistyped parameter.
    pub hint: Option<String>,
}

/// Bytes that come once, as from standard input.
#[derive(Clone)]
pub struct ContextStream(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl ContextStream {
    /// The bytes of `reader`, up to its end.
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(reader)))))
    }

    /// The reader; none if it was taken before.
    pub(crate) fn take(&self) -> Option<Box<dyn Read + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for ContextStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContextStream(…)")
    }
}

/// Only what is the same stream is equal.
impl PartialEq for ContextStream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ContextStream {}

/// The Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file; a relative path was already joined to the working directory. Without one, the
    /// context's `Dockerfile`, or `dockerfile`.
    Path(Option<PathBuf>),
    /// A file in a context that is no folder.
    InContext(String),
    /// A file in a folder of a client.
    InClient(ClientFolder, String),
    /// A download.
    Http(String),
    /// The text itself, from standard input.
    Text(Arc<str>),
}

/// The value of a `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder.
    Folder(PathBuf),
    /// A folder of a client.
    Client(ClientFolder),
    /// An image (`docker-image://`).
    Image(Reference),
    /// An image of this machine, whether bases are asked for again or not.
    Kept(Reference),
    /// Nothing (`docker-image://scratch`).
    Scratch,
    /// An image in a folder of the OCI layout (`oci-layout://`).
    OciLayout(OciLayout),
    /// A checkout of a repository.
    Git(GitSource),
    /// A download: one file, `context`, as in BuildKit.
    Http(String),
}

/// An image in a folder of the OCI layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciLayout {
    /// The folder.
    pub folder: PathBuf,
    /// The name in `index.json`; `latest` where none is given, and then an only image will do
    /// whatever its name.
    pub tag: String,
    /// Its digest, whatever the tag says.
    pub digest: Option<oci::Digest>,
}
