//! One build from start to finish.
//!
//! Receives a [`Request`] and a [`Session`] (store, registry client, runtime), which several builds
//! share; hands over an [`Outcome`] or an error that names the lines of the Dockerfile. The way is
//! one: context, frontend, caches that are read, solving, exports, caches that are written.

#![forbid(unsafe_code)]

mod caches;
mod context;
mod error;
mod executor;
mod explain;
mod exporting;
mod frontend;
mod image_store;
pub mod images;
mod outcome;
mod pipeline;
mod reason;
mod request;
mod session;
mod several;
mod solving;
pub mod upkeep;

pub use attest::{Provenance, ProvenanceMode, ProvenanceVersion};
pub use context::archive::{LONGEST_HEAD, is_archive};
pub use export::{Annotation, AnnotationLevel, EpochChoice};

pub use cache::{
    BackendCredentials, BackendSettings, BucketSettings, GITHUB_TOKEN, GithubSettings,
    GithubVersion, HTTP_HEADER, LayoutSettings, MapSettings, MapStore, REDIS_PASSWORD, RedisScheme,
    RedisServer, RegistrySettings, Service, fetch_object,
};
pub use error::{Error, SourceLocation};
pub use explain::explain;
pub use frontend::checking::{check, outline, targets};
pub use outcome::{BuiltImage, Outcome, Traffic};
pub use pipeline::build;
pub use reason::{Explained, Reason};
pub use session::{Host, Session};
pub use several::{BuildJob, JobError, build_all};

pub use request::{
    AgentStream, ArchiveOutput, Attestations, BroughtFolder, CacheFrom, CacheMode, CacheTarget,
    CacheTo, ClientCredentials, ClientError, ClientFolder, ClientPolicy, Context, ContextStream,
    CredentialSource, Destination, DockerfileSource, FilesOptions, FolderOutput, FolderQuery,
    FolderSource, GitContext, GitContextError, ImageFormat, ImageOptions, ImageOutput, Layers,
    NamedContext, NoCache, OciLayout, Output, Policy, PolicySource, ProvenanceRequest, Request,
    Required, SecretValue, SourcePolicy, SshAgent, SshKeys, TarOutput,
};
