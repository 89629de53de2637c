//! Errors in the environment and in configuration files.

use std::io;
use std::path::PathBuf;

use oci::PlatformError;

use super::buildkitd::BuildkitdError;
use crate::render::CommandError;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable with a value that it cannot have.
    #[error("{variable}: `{value}` is {fault}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// Its value, or the part at fault.
        value: String,
        /// The end of the sentence: `none of …`, `neither …`.
        fault: &'static str,
    },
    /// A part of `KILN_ARCHIVE_LIMIT` that is no limit.
    #[error("KILN_ARCHIVE_LIMIT: `{part}` is {fault}: write entries=500000,bytes=20g,ratio=500")]
    ArchiveLimit {
        /// The part.
        part: String,
        /// The end of the sentence.
        fault: &'static str,
    },
    /// `DOCKER_DEFAULT_PLATFORM` with a text that is no platform.
    #[error("DOCKER_DEFAULT_PLATFORM: {0}")]
    Platform(#[source] PlatformError),
    /// A root that is relative to a folder that was removed.
    #[error("the root `{}`: {source}", .root.display())]
    Root {
        /// The root as it was given.
        root: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Nothing says where kiln's state belongs.
    #[error("there is no place for kiln's state: HOME is not set; give `--root` or KILN_ROOT")]
    NoRoot,
    /// A `buildkitd.toml` that cannot be used.
    #[error(transparent)]
    Buildkitd(#[from] BuildkitdError),
}

impl CommandError for SettingsError {}
