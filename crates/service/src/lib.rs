//! BuildKit's API: what buildctl and buildx ask of a daemon, over gRPC.
//!
//! Receives connections ([`serve`]) and clients' sessions ([`ClientSession`]); hands each build to
//! a [`Builder`], with its progress, and gives back what that made of it. Invariant: a build ends
//! when its client has gone, and what belongs to a session (files, secrets, agents, logins) is
//! asked of that session alone.

#![forbid(unsafe_code)]

mod builder;
mod builds;
mod caps;
mod change_signal;
mod content;
mod control;
mod daemon;
mod files;
mod filesync;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod grpc;
mod handle;
mod history;
mod progress;
pub mod proto;
mod raw_source;
mod server;
mod session;
mod solve;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use builder::{
    Answer, Builder, Built, ErrorSource, FrontendRequest, Kept, PruneOptions, ResultFolder, Solve,
    SolveError, SolveInput, TypedAttributes, UploadReader, UploadedContexts, UsageFilter,
    UsageRecord, WorkerInfo,
};
pub use daemon::{Daemon, DaemonSettings};
pub use filesync::{
    Contexts, FileSelection, FileSyncError, KeptContext, Lease, Received, SentFolder,
    TransferLimits, send_file, send_folder,
};
pub use futures_util::future::BoxFuture;
pub use history::HistoryError;
pub use progress::BuildProgress;
pub use raw_source::RawSource;
pub use server::serve;
pub use session::{
    AgentStream, ByteReader, ByteStream, ClientSession, SessionEnd, SessionError, SessionHeaders,
    SessionLogin, Sessions,
};
pub use tonic::Status;
