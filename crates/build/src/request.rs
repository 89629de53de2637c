//! What the caller asks of a build, typed: strings became these in the command line's parser.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use attest::Provenance;
use cache::BackendSettings;
use dockerfile::GitAddress;
pub use execute::{SshAgent, SshKeys};
use export::{Annotation, EpochChoice};
use graph::{GitSource, Network, Ulimit};
use oci::{Platform, Reference};
use store::Compression;

/// One build.
#[derive(Clone, Debug)]
pub struct Request {
    /// The files that COPY and ADD read.
    pub context: Context,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// The stage to build; the last one where none is named.
    pub target: Option<String>,
    /// `--build-arg`, in order; values are already taken from the environment where asked.
    pub build_args: Vec<(String, String)>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// What to build for; the host's platform where empty.
    pub platforms: Vec<Platform>,
    /// `--build-context`, by name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Names of the image.
    pub tags: Vec<Reference>,
    /// What to make of the result.
    pub outputs: Vec<Output>,
    /// Where to look for records.
    pub cache_from: Vec<CacheFrom>,
    /// Where to leave records.
    pub cache_to: Vec<CacheTo>,
    /// What to build without looking for records.
    pub no_cache: NoCache,
    /// Whether names of bases are asked for again even if they are here.
    pub pull: bool,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`, by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// Host keys that the caller knows (`known_hosts`), for git over ssh.
    pub known_hosts: Option<PathBuf>,
    /// Network of RUN steps that do not choose one.
    pub network: Network,
    /// `--add-host`: names and addresses.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size` in bytes; 0 is the default.
    pub shm_size: i64,
    /// `--cgroup-parent`; empty is none.
    pub cgroup_parent: String,
    /// `--allow network.host`.
    pub allow_network_host: bool,
    /// `--allow security.insecure`.
    pub allow_security_insecure: bool,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
    /// Whether the outcome is to say why steps ran.
    pub explain: bool,
    /// Steps that must be found in a cache.
    pub require_cached: Vec<Required>,
    /// Whether files of the context have the modes that every umask leaves.
    pub normalize_modes: bool,
    /// Whether nothing that caches say of layers is believed: layers are read whole.
    pub verify_indexes: bool,
    /// What is said of the images.
    pub attestations: Attestations,
    /// Whether it is asked before the first command runs if what it makes may be pushed.
    pub push_check: bool,
    /// What version control says of the context's folder, for a provenance, under BuildKit's names:
    /// `source`, `revision`, `localdir:NAME`. Nothing of it is proved.
    pub vcs: BTreeMap<String, String>,
    /// How many layers the images get.
    pub layers: Layers,
    /// What a policy beside the Dockerfile means.
    pub policy: Policy,
}

/// What becomes of a policy beside the Dockerfile (`Dockerfile.rego`). buildx evaluates it for each
/// source of the build; kiln cannot, so it never builds as if there were none unless told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The build is refused where there is one.
    #[default]
    Enforced,
    /// It is not looked for.
    Disabled,
}

/// The layers that an image gets. Whatever they are, each step is cached on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// One for each step, as with BuildKit.
    #[default]
    Each,
    /// One for all steps that stand on the base.
    One,
    /// One for the steps up to each that ends with `#!COMMIT`, and one for those after the last.
    Marked,
    /// One for each step, in a Dockerfile in which `#!COMMIT` is a comment.
    Unmarked,
}

/// Steps that must be found in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required {
    /// All.
    All,
    /// Those of a stage (`build`), one of them by its number (`build:2`, or `2` where stages have
    /// no names), or those that begin so (`RUN make`).
    Named(String),
}

/// What is said of images; nothing, unless it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attestations {
    /// What they were made of.
    pub provenance: Option<ProvenanceRequest>,
    /// Whether their packages are listed.
    pub sbom: bool,
}

/// What is wanted of a provenance, and of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenanceRequest {
    /// What it says.
    pub wanted: Provenance,
    /// Name of its file in outputs that are files.
    pub file_name: String,
    /// Whether it is for images alone.
    pub inline_only: bool,
    /// Whether the build fails where it is made of something that nobody else can look at.
    pub complete_materials: bool,
}

/// The files that COPY and ADD read. `.dockerignore` counts in folders only, as in BuildKit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// A folder.
    Folder(PathBuf),
    /// No files: the Dockerfile came alone (`kiln build - < Dockerfile`).
    Empty,
    /// A checkout of a repository. `BUILDKIT_CONTEXT_KEEP_GIT_DIR` among the build arguments keeps
    /// its `.git`, and `SOURCE_DATE_EPOCH` gives the files the commit's time.
    Git(GitContext),
    /// What a server has at an address: an archive, or a Dockerfile alone; its content tells.
    Http(String),
    /// An archive (tar, plain or under gzip, bzip2, xz or zstd), read once: standard input, or a
    /// file of this machine.
    Archive(Upload),
}

/// A repository as a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitContext {
    /// Which, and what of it. `.git` stays if this or the build argument says so.
    pub source: GitSource,
    /// Whether the address itself says which time the files get, whatever `SOURCE_DATE_EPOCH` is.
    pub has_mtime: bool,
}

impl GitContext {
    /// Reads an address as `docker buildx build` takes it: `https://host/name.git#ref:folder`,
    /// `?branch=…&subdir=…`, `git@host:name`, `ssh://`, `git://`, `github.com/owner/name`. None
    /// where a text is something else.
    ///
    /// # Errors
    /// In words, if it is a repository's address and something in it makes no sense.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let address = GitAddress::of_context(text).map_err(|error| match error.hint {
            Some(hint) => format!("{}; {hint}", error.message),
            None => error.message,
        })?;
        Ok(address.map(|address| {
            let has_mtime = address.mtime.is_some();
            Self { source: address.into_context(), has_mtime }
        }))
    }

    /// Whether an ssh agent is needed for it.
    pub fn is_over_ssh(&self) -> bool {
        let remote = &self.source.remote;
        remote.split_once("://").is_none_or(|(scheme, _)| scheme.eq_ignore_ascii_case("ssh"))
    }
}

/// Bytes that come once, as from standard input.
#[derive(Clone)]
pub struct Upload(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl Upload {
    /// What `reader` gives until its end.
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(reader)))))
    }

    /// The reader; none if it was taken before.
    pub(crate) fn take(&self) -> Option<Box<dyn Read + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upload(…)")
    }
}

/// Only what is the same stream is equal.
impl PartialEq for Upload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Upload {}

/// The Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file; a relative path was already joined to the working directory. Without one, the
    /// context's `Dockerfile`, or `dockerfile`.
    Path(Option<PathBuf>),
    /// A file in a context that is no folder.
    InContext(String),
    /// What a server has at an address.
    Http(String),
    /// The text itself, from standard input.
    Text(Arc<str>),
}

/// What a name of `--build-context` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder.
    Folder(PathBuf),
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
    /// What a server has at an address: one file, `context`, as in BuildKit.
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

/// What to build without looking for records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// Nothing: records count.
    #[default]
    Nothing,
    /// All steps.
    Everything,
    /// The steps of these stages.
    Stages(Vec<String>),
}

/// A secret's value; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// A secret of at most 500 KiB (BuildKit's limit, checked where it is read).
    pub fn new(value: impl Into<Arc<[u8]>>) -> Self {
        Self(value.into())
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What to make of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An image in the store, pushed where asked (`type=image`, `type=registry`).
    Image(ImageOutput),
    /// An archive or folder in the OCI layout (`type=oci`).
    Oci(ArchiveOutput),
    /// An archive as `docker save` writes it, to a file or into a Docker engine (`type=docker`).
    Docker(ArchiveOutput),
    /// The files, in a folder (`type=local`).
    Local(FolderOutput),
    /// The files, as an archive (`type=tar`).
    Tar(TarOutput),
    /// Nothing but records (`type=cacheonly`).
    CacheOnly,
}

/// An image in the store or a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// Names; the request's tags where empty.
    pub names: Vec<Reference>,
    /// Whether it is pushed.
    pub push: bool,
    /// Whether it is pushed by digest alone, without tags.
    pub push_by_digest: bool,
    /// Whether plain HTTP or an unknown certificate is accepted.
    pub insecure: bool,
    /// Whether it is kept under its names in the store.
    pub store: bool,
    /// How it is written.
    pub format: ImageFormat,
    /// What is written beside and around it.
    pub options: ImageOptions,
}

/// What is written beside and around an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Annotations.
    pub annotations: Vec<Annotation>,
    /// Whether attestation manifests are OCI artifacts; where nothing is said, they are where the
    /// media types are OCI's.
    pub oci_artifact: Option<bool>,
    /// Whether attestations count that are for images alone; where nothing is said, they do in
    /// images and not in archives.
    pub attestation_inline: Option<bool>,
    /// Whether files of new layers get no later time than the epoch.
    pub rewrite_timestamp: bool,
    /// The epoch of this output.
    pub epoch: EpochChoice,
}

/// Files in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderOutput {
    /// The folder.
    pub folder: PathBuf,
    /// Whether what is there and not in the result goes (`mode=delete`).
    pub delete: bool,
    /// Which files.
    pub files: FilesOptions,
}

/// Files as an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarOutput {
    /// Where.
    pub destination: Destination,
    /// Which files.
    pub files: FilesOptions,
}

/// Which files an output of files has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesOptions {
    /// Whether each platform has a folder of its own; where nothing is said, where there are
    /// several.
    pub platform_split: Option<bool>,
    /// What the names of attestations' files begin with.
    pub attestation_prefix: String,
    /// The epoch of this output: the time of all files.
    pub epoch: EpochChoice,
}

/// An image in an archive or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveOutput {
    /// Names; the request's tags where empty.
    pub names: Vec<Reference>,
    /// Where; with none, a `docker` archive goes into the Docker engine.
    pub destination: Option<Destination>,
    /// Whether it is one archive or a folder (`tar=false`).
    pub tar: bool,
    /// How it is written.
    pub format: ImageFormat,
    /// What is written beside and around it.
    pub options: ImageOptions,
}

/// Where an archive goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file or folder.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// How an image is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFormat {
    /// Compression of layers.
    pub compression: Compression,
    /// Whether layers with another compression are written again.
    pub force_compression: bool,
    /// OCI's media types, or Docker's.
    pub oci_mediatypes: bool,
}

impl Default for ImageFormat {
    fn default() -> Self {
        Self {
            compression: Compression::Gzip(None),
            force_compression: false,
            oci_mediatypes: true,
        }
    }
}

/// A value of `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheFrom {
    /// The cache, or an image with an inline cache.
    pub backend: BackendSettings,
    /// The most bytes of files of a cache mount that may come from the cache's sidecar; none if mounts
    /// may not come from there.
    pub mounts: Option<u64>,
}

impl CacheFrom {
    /// A cache without its mounts.
    pub fn new(backend: BackendSettings) -> Self {
        Self { backend, mounts: None }
    }
}

/// A value of `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTo {
    /// The place for the records.
    pub target: CacheTarget,
    /// The layers that are kept.
    pub mode: CacheMode,
    /// True if a failure is a warning.
    pub ignore_error: bool,
    /// True if the records of a failed build are written too.
    pub on_failure: bool,
    /// True if the manifest is an image manifest (else an index).
    pub image_manifest: bool,
    /// The format of layers.
    pub format: ImageFormat,
    /// The most bytes of files of a cache mount that is written to the sidecar; none if mounts are not
    /// written.
    pub mounts: Option<u64>,
    /// True if unreferenced blobs of a folder are removed after the export.
    pub reset: bool,
}

/// A place for records.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each `--cache-to`, and few of those"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheTarget {
    /// A cache of its own.
    Backend(BackendSettings),
    /// In the config of the image itself.
    Inline,
}

impl CacheTarget {
    /// The settings of the back end; none for an inline cache.
    pub fn backend(&self) -> Option<&BackendSettings> {
        match self {
            Self::Backend(settings) => Some(settings),
            Self::Inline => None,
        }
    }
}

/// How much a cache keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The layers of the result.
    #[default]
    Min,
    /// The layers of every step.
    Max,
}
