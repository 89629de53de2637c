//! Docker's Engine API: HTTP requests in, JSON out.
//!
//! Receives connections, a [`DockerEngine`], which has the images and builds, and a [`ContainerEngine`]; hands over
//! what a client of dockerd expects, in versions [`MIN_API`] to [`API`], with and without the version in the path.
//! [`endpoints`] is the table of all endpoints of the API, and [`REQUEST_BODIES`] that of the fields of bodies:
//! each is honoured, or refused with a sentence, and so is each parameter. BuildKit's gRPC API, which clients reach
//! by an upgrade of a connection, is another crate's: this one hands the connection over ([`BuildKit`]).
//!
//! Invariant: nothing of a request is believed. Headers, bodies and nesting are bounded, credentials serve
//! the request that they came with and are in no message or log, and a client that vanishes ends the work
//! that it asked for. Containers outlive it.

#![forbid(unsafe_code)]

mod answers;
mod auth;
mod bodies;
mod body;
mod buildkit;
mod container_details;
mod container_engine;
mod container_filters;
mod container_json;
mod container_spec;
mod docker_engine;
mod endpoints;
mod error;
mod events;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub mod fuzzing;
mod half_close;
mod handlers;
mod moments;
mod progress;
mod query;
mod route;
mod server;
mod streams;
mod upload;
mod upload_table;

#[cfg(test)]
mod tests;

pub use auth::{Login, Logins, RegistryToken};
pub use bodies::{BodyField, REQUEST_BODIES, RequestBody, read_create};
pub use body::ArchiveWriter;
pub use buildkit::{BuildKit, Connection, SessionHeaders};
pub use container_details::{
    ContainerDetails, ContainerExit, ContainerIdentity, ContainerSize, ContainerState,
    ContainerStatus, ExecDetails, PathChange, PathChangeKind, PathStat, ProcessRow,
};
pub use container_engine::{
    AttachQuery, CommitRequest, ConsoleSize, ContainerEngine, ContainerId, ContainerStreams,
    ContainerWait, CopyIn, CreateContainer, CreatedContainer, ExecId, ExecSpec, LogLine, LogQuery,
    OutputPiece, OutputStream, RemoveContainer, Sizes, StateChange, StopRequest, StopTimeout,
    WaitCondition,
};
pub use container_filters::PruneFilters;
pub use container_json::{inspect_object, summary_object};
pub use container_spec::{
    AttachedStreams, ContainerMount, ContainerNetwork, ContainerPort, ContainerSpec, ExtraHost,
    HostSpec, MountSource, PortProtocol, PublishedPort, SignalNumber, UlimitSpec,
};
pub use docker_engine::{
    BuildCacheItem, BuildCachePrune, BuildRequest, BuildSource, BuildWay, DiskUsage,
    DistributionInspect, DockerEngine, HistoryStep, ImageSummary, LoginStatus, PrunedCache,
    PrunedImages, PullRequest, PushRequest, RemovedImage,
};
pub use endpoints::{Endpoint, Handling, Parameter, endpoints};
pub use error::ApiError;
pub use events::{EngineEvent, Events};
pub use progress::{Message, ProgressSender};
pub use query::Filters;
pub use server::{ConnectionLimits, EngineServer};
pub use upload::Upload;

/// The newest version of the API that is served.
pub const API: &str = "1.51";
/// The oldest version of the API that is served.
pub const MIN_API: &str = "1.24";
