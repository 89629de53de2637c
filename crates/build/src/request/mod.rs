//! The request for a build, typed: the command line's parser made it of strings.

mod cache;
mod context;
mod output;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use graph::{Network, Ulimit};
use oci::{Platform, Reference};
use transfer::Lazy;

pub use self::cache::{CacheFrom, CacheTarget, CacheTo, NoCache, Required};
pub use self::context::{
    Context, ContextStream, DockerfileSource, GitContext, GitContextError, NamedContext, OciLayout,
    Policy,
};
pub use self::output::{
    ArchiveOutput, Attestations, Destination, FilesOptions, FolderOutput, ImageFormat,
    ImageOptions, ImageOutput, Layers, Output, ProvenanceRequest, TarOutput,
};
pub use ::cache::CacheMode;
pub use execute::{
    AgentStream, BroughtFolder, ClientCredentials, ClientError, ClientFolder, ClientPolicy,
    CredentialSource, FolderQuery, FolderSource, PolicySource, SourcePolicy, SshAgent, SshKeys,
};

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
    /// The platforms to build for; the host's if empty.
    pub platforms: Vec<Platform>,
    /// `--build-context`, by name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Names of the image.
    pub tags: Vec<Reference>,
    /// The outputs.
    pub outputs: Vec<Output>,
    /// Caches to read.
    pub cache_from: Vec<CacheFrom>,
    /// Caches to write.
    pub cache_to: Vec<CacheTo>,
    /// Steps that are built without looking for records.
    pub no_cache: NoCache,
    /// True if bases are resolved again even if they are in the store.
    pub pull: bool,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretValue>,
    /// `--ssh`, by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// The client that has the secrets and agents that are not here.
    pub client: Option<ClientCredentials>,
    /// The client's policy on sources.
    pub client_policy: Option<ClientPolicy>,
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
    /// True if the outcome has the reasons why steps ran.
    pub explain: bool,
    /// Steps that must be found in a cache.
    pub require_cached: Vec<Required>,
    /// True if modes of the context's files are normalized to those that every umask leaves.
    pub normalize_modes: bool,
    /// True if claims of caches about layers are not believed: layers are read whole.
    pub verify_indexes: bool,
    /// `--lazy`: the RUNs whose roots are filled when their files are opened.
    pub lazy: Lazy,
    /// Attestations of the images.
    pub attestations: Attestations,
    /// True if permission to push is checked before the first command runs.
    pub push_check: bool,
    /// Facts of version control about the context's folder, for a provenance, under BuildKit's names:
    /// `source`, `revision`, `localdir:NAME`. Nothing of it is proved.
    pub vcs: BTreeMap<String, String>,
    /// The layers that the images get.
    pub layers: Layers,
    /// Handling of a policy beside the Dockerfile.
    pub policy: Policy,
}

/// A secret's value; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// A secret of at most 500 KiB (BuildKit's limit, checked where it is read).
    pub fn new(value: impl Into<Arc<[u8]>>) -> Self {
        Self(value.into())
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}
