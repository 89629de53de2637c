//! A client that sends what its build needs while the build runs: folders, secrets, agents.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use oci::Platform;
use tokio::io::{AsyncRead, AsyncWrite};

/// A client that does not give what it was asked for; the text says why, and shows no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(Arc<str>);

impl ClientError {
    /// An error with this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

/// The files of a folder that are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct FolderQuery<'a> {
    /// Patterns of its ignore file.
    pub excludes: &'a [String],
    /// Paths that are read, with what their links lead to; all files where empty.
    pub follow_paths: &'a [String],
}

/// Files that a client sent.
#[derive(Clone)]
pub struct BroughtFolder {
    /// The folder that has them.
    pub path: PathBuf,
    /// Bytes that were sent for it.
    pub bytes: u64,
    /// Keeps the folder as it is.
    pub hold: Arc<dyn Any + Send + Sync>,
}

/// A folder of a client.
pub trait FolderSource: Send + Sync {
    /// Brings files here. Blocks.
    ///
    /// # Errors
    /// If the client does not send them.
    fn bring(&self, query: FolderQuery<'_>) -> Result<BroughtFolder, ClientError>;
}

/// A folder of a client, which is sent as far as it is read.
#[derive(Clone)]
pub struct ClientFolder(pub Arc<dyn FolderSource>);

impl fmt::Debug for ClientFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientFolder(…)")
    }
}

/// Only the same client's same folder is equal.
impl PartialEq for ClientFolder {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ClientFolder {}

/// A folder that a build reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextFolder {
    /// One of this machine.
    Path(PathBuf),
    /// One of a client.
    Client(ClientFolder),
}

/// A connection to an agent.
pub trait AgentStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AgentStream for T {}

/// Secrets and agents of a client, asked for when a step needs them.
pub trait CredentialSource: Send + Sync {
    /// A secret; none if the client has no such one.
    ///
    /// # Errors
    /// If the client does not answer.
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, ClientError>>;

    /// True if the client has an agent of this id.
    ///
    /// # Errors
    /// If the client does not answer.
    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, ClientError>>;

    /// A connection to an agent.
    ///
    /// # Errors
    /// If the client does not open one.
    fn agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, io::Result<Box<dyn AgentStream>>>;
}

/// A source that a policy is asked about, in the terms of LLB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// `docker-image://…`, `https://…`, `git://…`.
    pub identifier: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// The platform that it is for.
    pub platform: Platform,
}

/// A client's policy on sources.
pub trait SourcePolicy: Send + Sync {
    /// Asks whether a source may be used.
    ///
    /// # Errors
    /// If it may not be used.
    fn check<'a>(&'a self, source: &'a PolicySource) -> BoxFuture<'a, Result<(), ClientError>>;
}

/// A client's policy on sources.
#[derive(Clone)]
pub struct ClientPolicy(pub Arc<dyn SourcePolicy>);

impl fmt::Debug for ClientPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientPolicy(…)")
    }
}

/// Secrets and agents of a client.
#[derive(Clone)]
pub struct ClientCredentials(pub Arc<dyn CredentialSource>);

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCredentials(…)")
    }
}
