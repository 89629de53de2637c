//! Key-value stores, in Makisu's way: a map from keys to records, with the layers in a repository of
//! a registry. Each record and each layer is an entry under a key made of its content, so that many
//! builds share a map and none overwrites another's entries.
//!
//! To add a store, implement [`KeyValueStore`] and add a variant to [`MapStore`] and a row to
//! [`MapSettings::store`].

mod entries;
mod folder;
mod http;
mod redis;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::registry::Client;
use async_trait::async_trait;
use layer::Place;
use oci::{Digest, Repository};
use reqwest::{Method, StatusCode};
use store::Store;
use transfer::PushTarget;

use super::credentials::BackendCredentials;
use super::{Backend, BackendLock, LayerUpload, OpenBackend, StoredCache};
use crate::Error;
use crate::format::{CacheContents, CacheDocuments, DOCUMENT_LIMIT, Form};
use entries::MapEntries;
use folder::FolderStore;
use http::HttpStore;
use redis::RedisStore;
pub use redis::{RedisScheme, RedisServer};

/// The name of the password in [`BackendCredentials`].
pub const REDIS_PASSWORD: &str = "REDIS_PASSWORD";
/// The prefix of a header's name in [`BackendCredentials`].
pub const HTTP_HEADER: &str = "header ";

/// The store of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapStore {
    /// A Redis server: one hash.
    Redis(RedisServer),
    /// An HTTP server that keeps what is put: sixteen documents under Makisu's addresses.
    Http {
        /// The address, without the key.
        url: String,
    },
    /// A folder: a file for each entry.
    Folder(PathBuf),
}

/// A cache in a key-value store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSettings {
    /// The store.
    pub store: MapStore,
    /// The name of the map in the store.
    pub name: String,
    /// The time after which unused entries are ignored and removed.
    pub ttl: Duration,
    /// The repository of the layers.
    pub repository: Repository,
    /// True if plain HTTP or an untrusted certificate is accepted there.
    pub insecure: bool,
    /// Password and headers.
    pub credentials: BackendCredentials,
}

impl MapSettings {
    /// The table of stores.
    fn store(&self, client: &Client) -> Box<dyn KeyValueStore> {
        match &self.store {
            MapStore::Redis(server) => Box::new(RedisStore {
                client: client.clone(),
                server: server.clone(),
                name: self.name.clone(),
                ttl: self.ttl,
                credentials: self.credentials.clone(),
            }),
            MapStore::Http { url } => Box::new(HttpStore {
                client: client.clone(),
                url: url.clone(),
                name: self.name.clone(),
                credentials: self.credentials.clone(),
            }),
            MapStore::Folder(folder) => Box::new(FolderStore { folder: folder.join(&self.name) }),
        }
    }

    fn target(&self) -> PushTarget {
        PushTarget { repository: self.repository.clone(), insecure: self.insecure }
    }

    fn place(&self) -> Place {
        Place::Registry { repository: self.repository.clone(), insecure: self.insecure }
    }
}

impl OpenBackend for MapSettings {
    fn name(&self) -> String {
        let name = &self.name;
        match &self.store {
            MapStore::Redis(server) => format!("{}://{}/{name}", server.scheme, server.address),
            MapStore::Http { url } => format!("{url} ({name})"),
            MapStore::Folder(folder) => format!("{} ({name})", folder.display()),
        }
    }

    fn identity(&self) -> String {
        let database = match &self.store {
            MapStore::Redis(server) => format!(" (database {})", server.database),
            MapStore::Http { .. } | MapStore::Folder(_) => String::new(),
        };
        format!("{}{database} with {}", self.name(), self.repository)
    }

    fn open(&self, client: &Client) -> Result<Arc<dyn Backend>, Error> {
        Ok(Arc::new(MapBackend { store: self.store(client), settings: self.clone() }))
    }
}

/// Entries of a store by their keys.
type RawEntries = BTreeMap<String, Vec<u8>>;

/// The most bytes that a map may hold.
const LIMIT: u64 = DOCUMENT_LIMIT;
/// The timeout of a request to a store.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A use is noted again when this part of the time to live has passed.
const REFRESHES: u32 = 8;

/// A store of one map.
#[async_trait]
trait KeyValueStore: Send + Sync {
    /// Reads all entries, at most [`LIMIT`] bytes.
    async fn read(&self) -> Result<RawEntries, MapError>;

    /// Adds or replaces entries, and removes expired ones.
    async fn write(&self, changed: MapEntries, expired: Vec<String>) -> Result<(), MapError>;
}

/// A failed request to a store.
#[derive(Debug, thiserror::Error)]
enum MapError {
    #[error("`{}`: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("it is larger than {} MiB", LIMIT >> 20)]
    TooLarge,
    #[error("no answer in time")]
    Timeout,
    #[error("{method}: the server answered {status}")]
    Status { method: Method, status: StatusCode },
    /// Without the URL, which may have a password in it.
    #[error(transparent)]
    Http(reqwest::Error),
    #[error("its address is not a URL")]
    Address,
    #[error(transparent)]
    Client(#[from] ::registry::Error),
    #[error("the document there is not a map of kiln's: {0}")]
    Shard(serde_json::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("other builds keep writing there")]
    Contended,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Redis(#[from] redis::ReplyError),
}

impl MapError {
    fn http(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

struct MapBackend {
    settings: MapSettings,
    store: Box<dyn KeyValueStore>,
}

impl fmt::Debug for MapBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapBackend").field(&self.settings).finish()
    }
}

impl MapBackend {
    async fn entries(&self) -> Result<MapEntries, Error> {
        let read = self.store.read().await;
        read.map(MapEntries::parse).map_err(|error| self.failed("read", &error))
    }

    fn failed(&self, action: &str, error: &MapError) -> Error {
        let text = self.settings.credentials.redact(error);
        Error::Backend { backend: self.settings.name(), what: format!("{action}: {text}") }
    }
}

#[async_trait]
impl Backend for MapBackend {
    fn name(&self) -> String {
        self.settings.name()
    }

    fn identity(&self) -> String {
        self.settings.identity()
    }

    fn export_name(&self) -> &'static str {
        "exporting cache to key-value store"
    }

    fn expires(&self) -> bool {
        true
    }

    fn layer_place(&self) -> Option<Place> {
        Some(self.settings.place())
    }

    async fn read(&self) -> Result<StoredCache, Error> {
        let entries = self.entries().await?;
        let fresh = entries.fresh(now(), self.settings.ttl);
        if fresh.is_empty() {
            return Err(Error::Absent { backend: self.name() });
        }
        let contents = fresh.contents(&self.settings.place());
        let bytes = MapEntries::of(&contents, 0).bytes();
        Ok(StoredCache { contents, digest: Digest::of(&bytes), bytes })
    }

    fn documents(&self, contents: &CacheContents, _form: Form) -> Result<CacheDocuments, Error> {
        Ok(CacheDocuments::config(MapEntries::of(contents, 0).bytes()))
    }

    async fn send_layer(&self, upload: LayerUpload<'_>) -> Result<(), transfer::Error> {
        upload.to_registry(&self.settings.target()).await
    }

    /// No build overwrites another's entries, so there is nothing to lock.
    async fn lock(&self) -> Option<BackendLock> {
        Some(BackendLock(None))
    }

    /// Writes new entries, and notes the use of the others.
    async fn put(
        &self,
        _store: &Store,
        contents: &CacheContents,
        _documents: &CacheDocuments,
    ) -> Result<(), Error> {
        let (now, ttl) = (now(), self.settings.ttl);
        let there = self.entries().await?;
        let wanted = MapEntries::of(contents, now);
        let expired = there.expired(now, ttl, &wanted);
        let changed = wanted.newer_than(&there, ttl / REFRESHES);
        let written = self.store.write(changed, expired).await;
        written.map_err(|error| self.failed("write", &error))
    }
}

/// Reads a map as a Redis server's reply, and the cache of its entries, for the fuzzer.
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub fn read_hostile_map(reply: &[u8]) {
    redis::read_hostile(reply);
    let (key, value) = reply.split_at(reply.len().min(8));
    let key = String::from_utf8_lossy(key).into_owned();
    let values = value.split(|byte| *byte == b'\n').enumerate();
    let raw = values.map(|(number, value)| (format!("{key}{number}"), value.to_vec())).collect();
    let entries = MapEntries::parse(raw);
    let place = Place::Layout("/layout".into());
    let contents = entries.contents(&place);
    let again = MapEntries::of(&contents, 0).contents(&place);
    assert!(again.config.records.len() <= contents.config.records.len());
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
