//! The inputs and results of lowering.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::sync::Arc;

use graph::{
    GitSource, Graph, HttpSource, ImageSource, LineRange, Network, StepId, Ulimit, chain_text,
};
use oci::{ImageConfig, Platform, Reference};

use crate::finding::Finding;

/// The parts of a build request that the graph depends on.
#[derive(Clone, Debug)]
pub struct LowerRequest {
    /// The stage that is built; the last one where none is named.
    pub target: Option<String>,
    /// Build arguments; the last one of a name counts.
    pub build_args: Vec<(String, String)>,
    /// Labels of the image, over those of the Dockerfile.
    pub labels: Vec<(String, String)>,
    /// The image's platform.
    pub platform: Platform,
    /// True if the user asked for `platform`; otherwise a base of another platform keeps its own.
    pub platform_explicit: bool,
    /// True if several platforms are built, so that display names include theirs.
    pub multi_platform: bool,
    /// The building machine's platform.
    pub build_platform: Platform,
    /// The folder, repository or archive that `COPY` reads.
    pub context: Context,
    /// Contexts that stand for stages or images, by name (`name` or `name::platform`).
    pub named_contexts: BTreeMap<String, Context>,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// The network of `RUN` where it does not say.
    pub network: Network,
    /// Limits of `RUN`.
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` in bytes; 0 is the default.
    pub shm_size: i64,
    /// Parent control group of `RUN`; empty is the default.
    pub cgroup_parent: String,
    /// Host name in `RUN`; empty is the default.
    pub hostname: String,
    /// The stages that ignore records of earlier builds.
    pub no_cache: NoCache,
    /// Patterns of `.dockerignore`, for a local context.
    pub excludes: Vec<String>,
    /// Seconds since 1970 that all times become; as a build argument `SOURCE_DATE_EPOCH`.
    pub source_date_epoch: Option<i64>,
    /// True if `RUN --network=host` is granted.
    pub allow_network_host: bool,
    /// True if `RUN --security=insecure` is granted.
    pub allow_security_insecure: bool,
}

impl LowerRequest {
    /// A request for `platform`, built on the same, with nothing else asked.
    pub fn new(platform: Platform) -> Self {
        Self {
            target: None,
            build_args: Vec::new(),
            labels: Vec::new(),
            build_platform: platform.clone(),
            platform,
            platform_explicit: false,
            multi_platform: false,
            context: Context::Local { name: "context".into(), excludes: Vec::new() },
            named_contexts: BTreeMap::new(),
            extra_hosts: Vec::new(),
            network: Network::Default,
            ulimits: Vec::new(),
            shm_size: 0,
            cgroup_parent: String::new(),
            hostname: String::new(),
            no_cache: NoCache::None,
            excludes: Vec::new(),
            source_date_epoch: None,
            allow_network_host: false,
            allow_security_insecure: false,
        }
    }
}

/// A source of files outside the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// An image (`docker-image://…`).
    Image(Reference),
    /// An image in a layout on this machine; the reference is what its name stands for there.
    OciLayout(Reference),
    /// Nothing (`docker-image://scratch`).
    Scratch,
    /// A folder.
    Local {
        /// The caller's name for the folder.
        name: String,
        /// Patterns of its own `.dockerignore`; for the main context, `LowerRequest::excludes` too.
        excludes: Vec<String>,
    },
    /// A repository.
    Git(GitSource),
    /// A file from a server.
    Http(HttpSource),
    /// An archive from a server, extracted.
    Archive(HttpSource),
}

/// The stages that ignore records of earlier builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these names.
    Stages(Vec<String>),
}

/// An image whose config must be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// The image.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
    /// The named context that stands for it, where one does.
    pub context: Option<String>,
    /// The lines that ask for it.
    pub lines: Option<LineRange>,
    /// The stage that asks for it; empty for `COPY --from` and mounts.
    pub stage: String,
}

type ImageKey = (Reference, Platform, Option<String>);

/// The images that are known so far.
#[derive(Clone, Debug, Default)]
pub struct Images(HashMap<ImageKey, Result<ResolvedImage, ImageLookupError>>);

/// An image that could not be looked up. The message is the reason with its causes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", chain_text(&**.0))]
pub struct ImageLookupError(#[source] Arc<dyn StdError + Send + Sync>);

impl ImageLookupError {
    /// An image that was not found for `reason`.
    pub fn new(reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(reason.into().into())
    }
}

/// An image that was looked up.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// The source of its layers.
    pub source: ImageSource,
    /// Its config.
    pub config: ImageConfig,
}

impl Images {
    /// Images of which none is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the result for a request.
    pub fn insert(
        &mut self,
        request: &ImageRequest,
        image: Result<ResolvedImage, ImageLookupError>,
    ) {
        self.0.insert(key(request), image);
    }

    /// The result for a request, if it is known.
    pub fn get(&self, request: &ImageRequest) -> Option<&Result<ResolvedImage, ImageLookupError>> {
        self.0.get(&key(request))
    }
}

fn key(request: &ImageRequest) -> ImageKey {
    (request.reference.clone(), request.platform.clone(), request.context.clone())
}

/// The state of a lowering.
#[derive(Clone, Debug)]
pub enum Lowering {
    /// These images must be looked up first; then lowering is asked again.
    Needs(Vec<ImageRequest>),
    /// To the end.
    Done(Box<Lowered>),
}

/// A build as steps.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The steps.
    pub graph: Graph,
    /// The step whose output is the image's layers; none for an image without layers.
    pub result: Option<StepId>,
    /// The image config: without `rootfs`, and without times unless an epoch is set.
    pub config: ImageConfig,
    /// The steps that made the layers of this build's history entries.
    pub history_layers: Vec<HistoryLayer>,
    /// The config of the image that the target is built on, where there is one.
    pub base: Option<ImageConfig>,
    /// The stages that are part of the build, in order.
    pub stages: Vec<StageSummary>,
    /// Names of build arguments that something asked for.
    pub used_build_args: Vec<String>,
    /// Names of build arguments that nothing asked for.
    pub unused_build_args: Vec<String>,
    /// Local folders that steps read.
    pub contexts: Vec<ContextUse>,
    /// Secrets that steps ask for.
    pub secrets: Vec<SecretUse>,
    /// Agents that steps ask for.
    pub agents: Vec<AgentUse>,
    /// Seconds since 1970 that all times become.
    pub source_date_epoch: Option<i64>,
    /// Rules that the Dockerfile breaks, as far as it is built.
    pub findings: Vec<Finding>,
}

/// The step behind a history entry with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLayer {
    /// Place of the entry in `config.history`.
    pub entry: usize,
    /// The step.
    pub step: StepId,
}

/// A stage as progress and commands name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSummary {
    /// Its name, or `stage-0` and so on; empty where it is the only one.
    pub name: String,
    /// Its base, variables resolved.
    pub base: String,
    /// Its result.
    pub result: Option<StepId>,
}

/// A local folder that steps read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextUse {
    /// The caller's name for the folder.
    pub name: String,
    /// Its step.
    pub step: StepId,
    /// The paths that are read, sorted; empty means all.
    pub follow_paths: Vec<String>,
}

/// A secret that a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The secret's id.
    pub id: String,
    /// True if the step fails without it.
    pub required: bool,
    /// The lines that use it.
    pub lines: LineRange,
}

/// An ssh agent that a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUse {
    /// The agent's id.
    pub id: String,
    /// True if the step fails without it.
    pub required: bool,
    /// The lines that use it.
    pub lines: LineRange,
}
