//! One build from start to finish.
//!
//! Receives a [`Request`] and a host (store, registry client, runtime, events); hands over an
//! [`Outcome`] or an error that names the lines of the Dockerfile.

#![forbid(unsafe_code)]

mod archive;
mod attestations;
mod bases;
mod blame;
mod caches;
mod checking;
mod context;
mod error;
mod explaining;
mod exports;
mod folding;
mod host;
pub mod images;
mod layouts;
mod mounts;
mod outcome;
mod permission;
mod pipeline;
mod request;
mod several;
mod shelf;
mod solving;
mod trust;
pub mod upkeep;
mod uploads;

pub use archive::{LONGEST_HEAD, is_archive};
pub use attest::{Mode as ProvenanceMode, Provenance, Version as ProvenanceVersion};
pub use export::{Annotation, AnnotationLevel, EpochChoice};

pub use cache::{
    BackendSettings, BucketSettings, Credentials, GITHUB_TOKEN, GithubSettings, GithubVersion,
    HTTP_HEADER, LayoutSettings, MapSettings, MapStore, REDIS_PASSWORD, RegistrySettings, Service,
    fetch_object,
};
pub use checking::{check, outline, targets};
pub use error::{Error, Place};
pub use explaining::{Explained, Reason, explain};
pub use host::{Host, Work};
pub use outcome::{BuiltImage, Outcome, Traffic};
pub use pipeline::build;
pub use several::{Job, JobError, build_all};

pub use request::{
    ArchiveOutput, Attestations, CacheFrom, CacheMode, CacheTarget, CacheTo, Context, Destination,
    DockerfileSource, FilesOptions, FolderOutput, GitContext, ImageFormat, ImageOptions,
    ImageOutput, Layers, NamedContext, NoCache, OciLayout, Output, Policy, ProvenanceRequest,
    Request, Required, Secret, SshAgent, SshKeys, TarOutput, Upload,
};
