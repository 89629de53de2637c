//! Makisu's way: a map from keys to records in a key-value store, and the layers in a repository
//! of a registry. Each record and each layer is an entry of its own under a key made of what it
//! says, so that many builds share one map and none overwrites what another wrote.

mod entries;
mod folder;
mod http;
mod redis;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use oci::{Digest, Repository};
use store::Place as BlobPlace;
use transfer::Target;

use super::secret::Credentials;
use super::{Contents, Documents, Stored};
use crate::Error;
use crate::import::CONFIG_LIMIT;
use entries::Entries;

/// The password's name in [`Credentials`]; headers have theirs.
pub const REDIS_PASSWORD: &str = "REDIS_PASSWORD";
/// Before the name of a header in [`Credentials`].
pub const HTTP_HEADER: &str = "header ";

/// Which store keeps the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapStore {
    /// A Redis server: one hash.
    Redis {
        /// Host and port.
        address: String,
        /// The number of the database.
        database: u32,
        /// The user; none is the default one.
        user: Option<String>,
    },
    /// An HTTP server that keeps what is put: sixteen documents under Makisu's addresses.
    Http {
        /// Before the key.
        url: String,
    },
    /// A folder: a file for each entry.
    Folder(PathBuf),
}

/// A map of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSettings {
    /// What keeps it.
    pub store: MapStore,
    /// Its name in there.
    pub name: String,
    /// Entries that no build used for so long count no more.
    pub ttl: Duration,
    /// Where the layers are.
    pub repository: Repository,
    /// Whether plain HTTP or a certificate that nobody vouches for is accepted there.
    pub insecure: bool,
    /// Password and headers.
    pub credentials: Credentials,
}

/// A map of records, ready to be read and written.
#[derive(Clone)]
pub struct MapPlace {
    settings: MapSettings,
    client: registry::Client,
}

impl std::fmt::Debug for MapPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MapPlace").field(&self.settings).finish()
    }
}

impl MapPlace {
    /// A map. Nothing is asked yet.
    pub fn new(settings: MapSettings, client: &registry::Client) -> Self {
        Self { settings, client: client.clone() }
    }

    /// How people call it.
    pub fn name(&self) -> String {
        let name = &self.settings.name;
        match &self.settings.store {
            MapStore::Redis { address, .. } => format!("redis://{address}/{name}"),
            MapStore::Http { url } => format!("{url} ({name})"),
            MapStore::Folder(folder) => format!("{} ({name})", folder.display()),
        }
    }

    /// Where its layers go.
    pub(super) fn target(&self) -> Target {
        Target { repository: self.settings.repository.clone(), insecure: self.settings.insecure }
    }

    pub(super) async fn read(&self) -> Result<Stored, Error> {
        let entries = self.entries().await?;
        let fresh = entries.fresh(now(), self.settings.ttl);
        if fresh.is_empty() {
            return Err(Error::Absent { place: self.name() });
        }
        let place = BlobPlace::Registry {
            repository: self.settings.repository.clone(),
            insecure: self.settings.insecure,
        };
        let contents = fresh.contents(&place);
        let bytes = Entries::of(&contents, 0).bytes();
        Ok(Stored { contents, digest: Digest::of(&bytes), bytes })
    }

    pub(super) fn documents(&self, contents: &Contents) -> Documents {
        Documents::config(Entries::of(contents, 0).bytes())
    }

    /// Writes entries that are not there, and says of the others that they were used.
    pub(super) async fn put(&self, contents: &Contents) -> Result<(), Error> {
        let now = now();
        let there = self.entries().await?;
        let wanted = Entries::of(contents, now);
        let refresh = self.settings.ttl / 8;
        let expired = there.expired(now, self.settings.ttl, &wanted);
        let changed = wanted.newer_than(&there, refresh);
        let done = match &self.settings.store {
            MapStore::Redis { .. } => redis::write(&self.settings, &changed, &expired).await,
            MapStore::Http { url } => {
                http::write(&self.client, &self.settings, url, &changed, &expired).await
            }
            MapStore::Folder(folder) => {
                let folder = folder.join(&self.settings.name);
                transfer::blocking(move || folder::write(&folder, &changed, &expired)).await
            }
        };
        done.map_err(|what| self.failed("write", &what))
    }

    async fn entries(&self) -> Result<Entries, Error> {
        let read = match &self.settings.store {
            MapStore::Redis { .. } => redis::read(&self.settings).await,
            MapStore::Http { url } => http::read(&self.client, &self.settings, url).await,
            MapStore::Folder(folder) => {
                let folder = folder.join(&self.settings.name);
                transfer::blocking(move || folder::read(&folder)).await
            }
        };
        read.map(Entries::parse).map_err(|what| self.failed("read", &what))
    }

    fn failed(&self, doing: &str, what: &str) -> Error {
        let what = self.settings.credentials.hide(what);
        Error::Place { place: self.name(), what: format!("{doing}: {what}") }
    }
}

/// Keys and values as a store has them.
type Raw = BTreeMap<String, Vec<u8>>;

/// Reads a map as a Redis server's reply, and the cache that its entries are, for the fuzzer.
#[cfg(fuzzing)]
pub fn read_hostile_map(reply: &[u8]) {
    redis::read_hostile(reply);
    let (key, value) = reply.split_at(reply.len().min(8));
    let key = String::from_utf8_lossy(key).into_owned();
    let values = value.split(|byte| *byte == b'\n').enumerate();
    let raw = values.map(|(number, value)| (format!("{key}{number}"), value.to_vec())).collect();
    let entries = Entries::parse(raw);
    let place = BlobPlace::Layout("/layout".into());
    let contents = entries.contents(&place);
    let again = Entries::of(&contents, 0).contents(&place);
    assert!(again.config.records.len() <= contents.config.records.len());
}

/// How much a map may hold.
const LIMIT: u64 = CONFIG_LIMIT;
/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
