//! The caches of a build, and the steps that do or must not use them.

use ::cache::{BackendSettings, CacheMode};

use super::output::ImageFormat;

/// Steps that must be found in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required {
    /// All.
    All,
    /// Those of a stage (`build`), one of them by its number (`build:2`, or `2` where stages have
    /// no names), or those that begin so (`RUN make`).
    Named(String),
}

/// Steps that are built without looking for records.
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
