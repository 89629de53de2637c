//! An OCI registry in memory, on its own port, that fails on command.

mod auth;
mod faults;
mod requests;
mod server;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use oci::Digest;
use tokio::sync::oneshot;

pub use auth::BearerRules;
pub use faults::Fault;

use state::State;

/// A registry that runs on its own thread until it is dropped.
///
/// Besides the protocol it serves `/blobs/<digest>` without authentication, like the storage that
/// real registries redirect to, and `/token`, its token service.
pub struct FakeRegistry {
    /// The address that it listens on.
    pub addr: SocketAddr,
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A received request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Method, path and query: `GET /v2/app/manifests/latest`.
    pub line: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
}

/// The certificates of a registry with TLS, all in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// If set, clients must have a certificate of this authority.
    pub client_ca: Option<PathBuf>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeRegistry {
    /// Starts a registry that speaks plain HTTP.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start() -> Self {
        server::start(None)
    }

    /// Starts a registry that speaks TLS.
    ///
    /// # Panics
    /// If the files cannot be used.
    pub fn start_tls(files: &TlsFiles) -> Self {
        server::start(Some(files))
    }

    /// Its name in references: address and port.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// The requests so far, oldest first: `HEAD /v2/app/manifests/latest`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().seen.iter().map(|seen| seen.line.clone()).collect()
    }

    /// The requests of [`FakeRegistry::requests`], with their headers.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Clears the record of requests.
    pub fn forget_requests(&self) {
        self.shared.lock().seen.clear();
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        self.shared.lock().add_blob(repository, bytes.into())
    }

    /// Puts a manifest into a repository, under its digest and, if given, a tag.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        let mut state = self.shared.lock();
        for name in tag.map(str::to_owned).into_iter().chain([digest.to_string()]) {
            state.manifests.insert((repository.into(), name), (media_type.into(), bytes.clone()));
        }
        digest
    }

    /// A blob of any repository.
    pub fn blob(&self, digest: Digest) -> Option<Bytes> {
        self.shared.lock().blobs.get(&digest).cloned()
    }

    /// True if a repository has a blob.
    pub fn has_blob(&self, repository: &str, digest: Digest) -> bool {
        self.shared.lock().links.contains(&(repository.to_owned(), digest))
    }

    /// Media type and bytes of a manifest, by tag or digest.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<(String, Bytes)> {
        self.shared.lock().manifests.get(&(repository.to_owned(), name.to_owned())).cloned()
    }

    /// Removes a blob from all repositories, as a registry's garbage collection does.
    pub fn remove_blob(&self, digest: Digest) {
        let mut state = self.shared.lock();
        state.blobs.remove(&digest);
        state.links.retain(|(_, linked)| *linked != digest);
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed there.
            let _ = thread.join();
        }
    }
}
