//! The trait in front of which the API stands, and its values.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use crate::{ApiError, ArchiveWriter, Filters, Login, Logins, ProgressSender, Upload};

/// The images of a machine, and builds on it. Work is given up when its future is dropped.
#[async_trait]
pub trait DockerEngine: Send + Sync + 'static {
    /// The object of `GET /version`; the versions of the API are added to it.
    fn version(&self) -> Value;

    /// The object of `GET /info`.
    async fn info(&self) -> Result<Value, ApiError>;

    /// Checks credentials with their registry, and keeps nothing.
    async fn login(&self, login: Login) -> Result<LoginStatus, ApiError>;

    /// The disk usage.
    async fn disk_usage(&self) -> Result<DiskUsage, ApiError>;

    /// The images that pass the filters.
    async fn list_images(&self, filters: Filters) -> Result<Vec<ImageSummary>, ApiError>;

    /// The object of `GET /images/{name}/json`.
    async fn inspect_image(&self, name: String) -> Result<Value, ApiError>;

    /// The steps that made an image, the last one first.
    async fn image_history(&self, name: String) -> Result<Vec<HistoryStep>, ApiError>;

    /// Gives an image another name.
    async fn tag_image(&self, source: String, target: String) -> Result<(), ApiError>;

    /// Takes a name from an image, or removes it.
    async fn remove_image(&self, name: String, force: bool) -> Result<Vec<RemovedImage>, ApiError>;

    /// Removes images without names, or all that pass the filters.
    async fn prune_images(&self, filters: Filters) -> Result<PrunedImages, ApiError>;

    /// Fetches an image.
    async fn pull(&self, request: PullRequest, progress: ProgressSender) -> Result<(), ApiError>;

    /// Pushes an image.
    async fn push(&self, request: PushRequest, progress: ProgressSender) -> Result<(), ApiError>;

    /// Writes images as one archive.
    async fn save(&self, names: Vec<String>, out: ArchiveWriter) -> Result<(), ApiError>;

    /// Reads images from an archive.
    async fn load(
        &self,
        archive: Upload,
        progress: ProgressSender,
    ) -> Result<Vec<String>, ApiError>;

    /// A registry's descriptor of a name.
    async fn inspect_distribution(
        &self,
        name: String,
        login: Option<Login>,
    ) -> Result<DistributionInspect, ApiError>;

    /// Builds an image; returns its ID and names.
    async fn build(
        &self,
        request: BuildRequest,
        progress: ProgressSender,
    ) -> Result<Vec<String>, ApiError>;

    /// Removes build cache.
    async fn prune_build_cache(&self, request: BuildCachePrune) -> Result<PrunedCache, ApiError>;
}

/// The answer to a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoginStatus {
    /// A sentence.
    pub status: String,
    /// A token instead of the password; empty if there is none.
    pub identity_token: String,
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    /// Its ID.
    pub id: String,
    /// The image that it was made of; kiln does not know it.
    pub parent_id: String,
    /// Its names.
    pub repo_tags: Vec<String>,
    /// Its names with the digest of its manifest.
    pub repo_digests: Vec<String>,
    /// Its creation, in seconds since 1970.
    pub created: i64,
    /// Bytes of its layers as they are stored or sent.
    pub size: u64,
    /// The same, under the name of older versions.
    pub virtual_size: u64,
    /// Bytes that it shares; -1 is not counted.
    pub shared_size: i64,
    /// Its containers; -1 is not counted.
    pub containers: i64,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A step of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryStep {
    /// The image's ID, for the last step.
    pub id: String,
    /// Its time, in seconds since 1970.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// The image's names, for the last step.
    pub tags: Option<Vec<String>>,
    /// Bytes of its layer.
    pub size: u64,
    /// A remark.
    pub comment: String,
}

/// A name or image that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RemovedImage {
    /// A name.
    Untagged(String),
    /// An ID.
    Deleted(String),
}

/// Images that a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrunedImages {
    /// Names and images.
    pub images_deleted: Vec<RemovedImage>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// The disk usage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsage {
    /// Bytes of all layers of images.
    pub layers_size: u64,
    /// The images.
    pub images: Vec<ImageSummary>,
    /// Volumes: none.
    pub volumes: [(); 0],
    /// The build cache.
    pub build_cache: Vec<BuildCacheItem>,
    /// Bytes of the build cache, under the name of older versions.
    pub builder_size: u64,
}

/// An item of the build cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildCacheItem {
    /// Its ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// BuildKit's word for its kind.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The images that have it, or what it is.
    #[serde(rename = "Description")]
    pub description: String,
    /// True if something needs it.
    #[serde(rename = "InUse")]
    pub in_use: bool,
    /// True if several things have it.
    #[serde(rename = "Shared")]
    pub shared: bool,
    /// Bytes.
    #[serde(rename = "Size")]
    pub size: u64,
    /// Its last use, in RFC 3339; nothing is known of its creation.
    #[serde(rename = "CreatedAt")]
    pub created_at: String,
    /// Its last use, in RFC 3339.
    #[serde(rename = "LastUsedAt")]
    pub last_used_at: String,
    /// Its uses.
    #[serde(rename = "UsageCount")]
    pub usage_count: u64,
}

/// A request to prune the build cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildCachePrune {
    /// True if what images have goes too.
    pub all: bool,
    /// Bytes that stay however full the disk is.
    pub reserved: Option<u64>,
    /// The most bytes that stay.
    pub max_used: Option<u64>,
    /// Bytes of the disk to keep free.
    pub min_free: Option<u64>,
    /// Filters.
    pub filters: Filters,
}

/// Build cache that was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrunedCache {
    /// IDs.
    pub caches_deleted: Vec<String>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// A request to pull an image.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image, with its tag or digest.
    pub name: String,
    /// Its platform; this machine's if empty.
    pub platform: Option<String>,
    /// The credentials.
    pub login: Option<Login>,
}

/// A request to push an image.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The repository.
    pub name: String,
    /// The tag; all tags if none is given.
    pub tag: Option<String>,
    /// The credentials.
    pub login: Option<Login>,
}

/// A registry's descriptor of a name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// The descriptor of its manifest or index.
    pub descriptor: Value,
    /// The platforms of its images.
    pub platforms: Vec<Value>,
}

/// The way in which a build is made and told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildWay {
    /// Dockerfiles without sessions, with text as progress.
    Classic,
    /// BuildKit's, with its progress.
    BuildKit,
}

/// The source of a build's files.
#[derive(Debug)]
pub enum BuildSource {
    /// An archive, in the body of a request.
    Archive(Upload),
    /// A repository or a download.
    Remote(String),
    /// The client's session.
    Session,
}

/// A build, as `POST /build` asks for it.
#[derive(Debug)]
pub struct BuildRequest {
    /// The way to build.
    pub way: BuildWay,
    /// The files.
    pub source: BuildSource,
    /// The session with the client's files, secrets and agents, for BuildKit's way to build.
    pub session: Option<String>,
    /// The build's ID, by which it is cancelled.
    pub id: Option<String>,
    /// Path of the Dockerfile in the files.
    pub dockerfile: Option<String>,
    /// Names.
    pub tags: Vec<String>,
    /// Build arguments; null takes the Dockerfile's own default.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The stage.
    pub target: Option<String>,
    /// Platforms, with commas between them.
    pub platform: Option<String>,
    /// Images with caches.
    pub cache_from: Vec<String>,
    /// True if no record is used.
    pub no_cache: bool,
    /// True if bases are asked for again.
    pub pull: bool,
    /// True if the ID is the only output.
    pub quiet: bool,
    /// The network of RUN.
    pub network: Option<String>,
    /// Names with addresses.
    pub extra_hosts: Vec<String>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<i64>,
    /// Limits, as `name=soft:hard`.
    pub ulimits: Vec<String>,
    /// The control group.
    pub cgroup_parent: Option<String>,
    /// Outputs of BuildKit's way to build: their types and attributes.
    pub outputs: Vec<(String, BTreeMap<String, String>)>,
    /// Credentials by registry.
    pub logins: Logins,
    /// Sentences about parameters without effect.
    pub notes: Vec<String>,
}
