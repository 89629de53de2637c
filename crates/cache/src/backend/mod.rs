//! Back ends: a file or a folder for each kind of storage that a cache can be in.
//!
//! To add a back end:
//! 1. Write `backend/NAME.rs`: settings that implement `OpenBackend`, and a type that implements
//!    [`Backend`]. A service that keeps blobs and a config, but no manifest, implements
//!    [`config_service::ConfigService`] instead, a key-value store `map::KeyValueStore`.
//! 2. Add a variant to [`BackendSettings`] and a row to [`BackendSettings::kind`].
//! 3. Read the settings from `--cache-from` and `--cache-to` (`args::compound` in crate `cli`).
//!
//! An inline cache has no back end: it is a field of an image (`format::inline`), written by the
//! export of the image and read by [`registry`].

mod bucket;
mod config_service;
mod credentials;
mod github;
mod layout;
mod map;
mod registry;
mod wire;

pub use bucket::{BucketSettings, Service, fetch_object};
pub use credentials::BackendCredentials;
pub use github::{GITHUB_TOKEN, GithubSettings, GithubVersion};
pub use layout::LayoutSettings;
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub use map::read_hostile_map;
pub use map::{HTTP_HEADER, MapSettings, MapStore, REDIS_PASSWORD, RedisScheme, RedisServer};
pub use registry::RegistrySettings;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ::registry::Client;
use async_trait::async_trait;
use graph::TaskId;
use layer::{Layer, Place};
use oci::Digest;
use store::Store;
use transfer::{LayerFormat, PushTarget, RegistryUpload, Remote, RemoteUpload, Transfer};

use crate::format::{CacheContents, CacheDocuments, Form, SidecarRef};
use crate::{Error, RecordSet, Sidecar};

/// The settings of a cache's back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendSettings {
    /// A reference of a registry: a cache, or (only to be read) an image with an inline one.
    Registry(RegistrySettings),
    /// A tag in a folder in the OCI layout.
    Layout(LayoutSettings),
    /// A name in an object store.
    Bucket(BucketSettings),
    /// A scope in GitHub's cache service.
    Github(GithubSettings),
    /// A map in a key-value store, with layers in a registry.
    Map(MapSettings),
}

/// Settings of one kind of back end.
trait OpenBackend {
    /// The name in messages. Never contains a secret.
    fn name(&self) -> String;

    /// See [`BackendSettings::identity`].
    fn identity(&self) -> String {
        self.name()
    }

    /// See [`BackendSettings::open`].
    fn open(&self, client: &Client) -> Result<Arc<dyn Backend>, Error>;
}

impl BackendSettings {
    /// The table of back ends.
    fn kind(&self) -> &dyn OpenBackend {
        match self {
            Self::Registry(settings) => settings,
            Self::Layout(settings) => settings,
            Self::Bucket(settings) => settings,
            Self::Github(settings) => settings,
            Self::Map(settings) => settings,
        }
    }

    /// The name in messages. Never contains a secret.
    pub fn name(&self) -> String {
        self.kind().name()
    }

    /// A text that tells caches apart: two settings with one identity are the same cache.
    pub fn identity(&self) -> String {
        self.kind().identity()
    }

    /// Opens the back end. Sends no request.
    ///
    /// # Errors
    /// If the settings contradict themselves.
    pub fn open(&self, client: &Client) -> Result<Arc<dyn Backend>, Error> {
        self.kind().open(client)
    }

    /// Opens the back end, and reads the records of its cache. No layer is read.
    ///
    /// # Errors
    /// If there is no cache ([`Error::is_absent`]), or it is damaged.
    pub async fn import(&self, client: &Client) -> Result<ImportedCache, Error> {
        self.open(client)?.import().await
    }
}

/// Storage for one cache.
///
/// A cache is read whole ([`Backend::read`]). It is written in steps, between which the writer merges
/// the records of other builds: [`Backend::documents`] makes the documents, whose digest tells if
/// anything is new; [`Backend::send_layer`] sends layers; [`Backend::prepare`] sends what readers do
/// not find yet; [`Backend::put`] publishes the new cache.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// The name in messages. Never contains a secret.
    fn name(&self) -> String;

    /// See [`BackendSettings::identity`].
    fn identity(&self) -> String {
        self.name()
    }

    /// The name of an export in progress output, in BuildKit's words.
    fn export_name(&self) -> &'static str;

    /// True if the back end may remove what was not written for long, so that an export writes a
    /// cache even if nothing in it is new.
    fn expires(&self) -> bool {
        false
    }

    /// The source of layers to be registered with [`Transfer::with_remotes`]; none where transfers
    /// know it already.
    fn remote(&self) -> Option<Arc<dyn Remote>> {
        None
    }

    /// The place of layers, as [`Layer::places`] names it; none for a [`Backend::remote`].
    fn layer_place(&self) -> Option<Place> {
        None
    }

    /// The sidecar of the cache; none where the back end keeps no sidecars.
    fn sidecar(&self, _named: SidecarRef) -> Option<Sidecar> {
        None
    }

    /// Reads the current cache. No layer is read.
    ///
    /// # Errors
    /// If there is no cache ([`Error::is_absent`]), or it cannot be read.
    async fn read(&self) -> Result<StoredCache, Error>;

    /// Digest of the document that holds the current cache together.
    ///
    /// # Errors
    /// If there is no cache, or it cannot be read.
    async fn digest(&self) -> Result<Digest, Error> {
        Ok(self.read().await?.digest)
    }

    /// The documents to write, byte for byte.
    ///
    /// # Errors
    /// If the config names a layer without a description.
    fn documents(&self, contents: &CacheContents, form: Form) -> Result<CacheDocuments, Error>;

    /// Sends the top layer of a chain for [`Backend::put`], unless the back end has it.
    ///
    /// # Errors
    /// If the layer cannot be found, or the back end refuses it.
    async fn send_layer(&self, upload: LayerUpload<'_>) -> Result<(), transfer::Error>;

    /// The blobs of a refused cache that the back end has lost.
    ///
    /// # Errors
    /// If the back end does not answer.
    async fn missing(&self, _contents: &CacheContents) -> Result<BTreeSet<Digest>, Error> {
        Ok(BTreeSet::new())
    }

    /// Keeps other writers away until the lock is dropped, where the back end can.
    async fn lock(&self) -> Option<BackendLock> {
        None
    }

    /// Sends documents that readers do not find yet. The less time passes between the last look and
    /// [`Backend::put`], the fewer writers come between.
    ///
    /// # Errors
    /// If the back end refuses them.
    async fn prepare(&self, _documents: &CacheDocuments) -> Result<(), Error> {
        Ok(())
    }

    /// Publishes a cache whose layers were sent.
    ///
    /// # Errors
    /// If the back end refuses it.
    async fn put(
        &self,
        store: &Store,
        contents: &CacheContents,
        documents: &CacheDocuments,
    ) -> Result<(), Error>;

    /// Removes unreferenced blobs, where the back end leaves that to its writers. Only with a
    /// [`Backend::lock`].
    ///
    /// # Errors
    /// If something cannot be removed.
    async fn sweep(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl dyn Backend + '_ {
    /// Reads the records of the cache that the back end holds now. No layer is read.
    ///
    /// # Errors
    /// If there is no cache ([`Error::is_absent`]), or it is damaged.
    pub async fn import(&self) -> Result<ImportedCache, Error> {
        let StoredCache { contents, digest, bytes } = self.read().await?;
        let records = RecordSet::new(&self.name(), &contents.config, &contents.layers)?;
        let sidecar = self.sidecar(records.sidecar());
        let identity = self.identity().into();
        Ok(ImportedCache { identity, records: records.into(), manifest: digest, bytes, sidecar })
    }

    /// Like [`Backend::digest`], with `None` if there is no cache.
    pub(crate) async fn current_digest(&self) -> Result<Option<Digest>, Error> {
        match self.digest().await {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes unreferenced blobs, where the back end leaves that to its writers.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub async fn tidy(&self) -> Result<(), Error> {
        match self.lock().await {
            Some(_lock) => self.sweep().await,
            None => Ok(()),
        }
    }
}

/// A guard that keeps other writers away.
#[derive(Debug)]
pub struct BackendLock(
    #[expect(dead_code, reason = "dropping it unlocks the file")] Option<std::fs::File>,
);

/// A cache as a back end holds it.
#[derive(Debug)]
pub struct StoredCache {
    /// The cache's records and layers.
    pub contents: CacheContents,
    /// Digest of the document that holds it together.
    pub digest: Digest,
    /// The document.
    pub bytes: Vec<u8>,
}

/// A cache that was read.
#[derive(Clone, Debug)]
pub struct ImportedCache {
    /// The cache's [`BackendSettings::identity`].
    pub identity: Arc<str>,
    /// The cache's records.
    pub records: Arc<RecordSet>,
    /// Digest of the cache's manifest, or of the config where there is no manifest.
    pub manifest: Digest,
    /// The bytes of that document, to compare it with a new one.
    pub bytes: Vec<u8>,
    /// The cache's sidecar, where the back end keeps one. Nothing of it is read yet.
    pub sidecar: Option<Sidecar>,
}

/// A layer to send: the top of a chain. The layers below serve to unpack it where it has to be
/// compressed anew.
#[derive(Clone, Copy)]
pub struct LayerUpload<'a> {
    /// Moves the layer.
    pub transfer: &'a Transfer,
    /// The chain, from the bottom up.
    pub layers: &'a [Layer],
    /// The compression of the layer.
    pub format: LayerFormat,
    /// The progress task.
    pub task: Option<TaskId>,
}

impl LayerUpload<'_> {
    async fn to_registry(self, target: &PushTarget) -> Result<(), transfer::Error> {
        let Some(top) = self.layers.len().checked_sub(1) else { return Ok(()) };
        let to = RegistryUpload { target, task: self.task };
        self.transfer.upload(self.layers, top, self.format, to).await.map(drop)
    }

    async fn to_remote(self, remote: &dyn Remote) -> Result<(), transfer::Error> {
        let Some(top) = self.layers.len().checked_sub(1) else { return Ok(()) };
        let to = RemoteUpload { remote, task: self.task };
        self.transfer.upload_to(self.layers, top, self.format, to).await.map(drop)
    }

    /// Makes sure that the local store has the layer in its format.
    async fn to_store(self) -> Result<(), transfer::Error> {
        let Some(top) = self.layers.len().checked_sub(1) else { return Ok(()) };
        self.transfer.blob(self.layers, top, self.format, self.task).await.map(drop)
    }
}
