//! What kiln leaves beside a cache: an artifact of its own with named entries, under a name that is
//! made of the cache's. BuildKit never asks for it, and a cache without it is a whole cache.
//!
//! The cache names the artifact by digest in its own config, so what is beside it is what its writer
//! left there: the tag only keeps it from being collected. It is read when something of it is wanted
//! for the first time, once; one that is missing or cannot be read is an empty one.

mod catalogue;
mod folder;
mod indexes;
mod keeper;
mod leaving;
mod mounts;
mod registry;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oci::{Descriptor, Digest, Reference};
use store::Place;
use tokio::sync::OnceCell;

pub use catalogue::{Catalogue, Entry};
pub use folder::BesideFolder;
pub use indexes::BesideIndexes;
pub use keeper::{Content, Keeper};
pub use leaving::Leaving;
pub use mounts::{MountFolder, MountLeft, ReadyMount, mount_layers, ready_mount};
pub use registry::BesideRegistry;

use crate::Error;

/// In so many first attempts, a place that does not take what is written is asked again: registries
/// can stumble over writers that come at once.
const REFUSALS: usize = 3;

/// Reads a manifest as what is beside a cache, for the fuzzer.
#[cfg(fuzzing)]
pub fn read_hostile_catalogue(bytes: &[u8]) {
    if let Ok(catalogue) = Catalogue::parse(bytes, 1 << 40) {
        let again = Catalogue::parse(&catalogue.document(), 1 << 40).expect("it was written so");
        assert!(again.has_all_of(&catalogue));
        let mut kept = again;
        kept.apply(Vec::new(), &[], &[], 1);
        mounts::read_hostile(&kept);
    }
}

/// Reads a pack of layer indexes, for the fuzzer.
#[cfg(fuzzing)]
pub fn read_hostile_pack(bytes: &[u8]) {
    indexes::read_hostile(bytes);
}

/// What a cache says of what is beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// Nothing: kiln did not write the cache, or there is none.
    #[default]
    Nothing,
    /// kiln wrote it before artifacts were named: there may be one, and nothing says that it is the
    /// writer's.
    Unnamed,
    /// The artifact with this digest.
    Artifact(Digest),
}

impl Named {
    /// The artifact that is named.
    pub(crate) fn artifact(self) -> Option<Digest> {
        match self {
            Self::Artifact(digest) => Some(digest),
            Self::Nothing | Self::Unnamed => None,
        }
    }
}

/// The artifact beside one cache. Cheap to clone.
#[derive(Clone)]
pub struct Beside {
    shared: Arc<Shared>,
}

struct Shared {
    keeper: Box<dyn Keeper>,
    named: Named,
    read: OnceCell<Arc<Catalogue>>,
    fault: Mutex<Option<String>>,
    /// Blobs that were sent.
    sent: Mutex<HashSet<Digest>>,
}

/// What is to be different.
#[derive(Default)]
pub struct Change {
    /// Entries to write, in place of those with their names.
    pub put: Vec<Put>,
    /// Names of entries that go.
    pub forget: Vec<String>,
    /// Names of entries that were used now.
    pub used: Vec<String>,
}

/// An entry to write.
pub struct Put {
    /// Its name: a word for what it is, `/`, and what makes it one of a kind.
    pub name: String,
    /// Media type of the blob.
    pub media_type: String,
    /// The blob.
    pub content: Content,
    /// What its readers are to know before they fetch it. Short: all of it is in the manifest.
    pub notes: oci::Annotations,
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.forget.is_empty() && self.used.is_empty()
    }

    /// Adds another one.
    pub fn extend(&mut self, other: Self) {
        self.put.extend(other.put);
        self.forget.extend(other.forget);
        self.used.extend(other.used);
    }
}

/// What a build leaves beside a cache, whatever is there by then.
pub trait Additions: Send + Sync {
    /// Whether there is something to leave even where the cache itself has all records.
    fn is_news(&self) -> bool;

    /// What is to be different from what is there. Asked again for what another writer left.
    fn change<'a>(&'a self, beside: &'a Beside, there: &'a Catalogue) -> BoxFuture<'a, Change>;
}

impl Beside {
    /// What a keeper keeps, of which the cache names this.
    pub fn new(keeper: Box<dyn Keeper>, named: Named) -> Self {
        let shared = Shared {
            keeper,
            named,
            read: OnceCell::new(),
            fault: Mutex::default(),
            sent: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Beside a cache in a registry; none where the cache has no tag, but only a digest.
    pub fn of_registry(
        client: &::registry::Client,
        (cache, insecure): (&Reference, bool),
        named: Named,
    ) -> Option<Self> {
        let keeper = BesideRegistry::new(client, cache, insecure)?;
        Some(Self::new(Box::new(keeper), named))
    }

    /// Beside a cache in a folder in the OCI layout.
    pub fn of_folder(folder: &std::path::Path, tag: &str, named: Named) -> Self {
        Self::new(Box::new(BesideFolder::new(folder, tag)), named)
    }

    /// How people call it.
    pub fn name(&self) -> String {
        self.shared.keeper.name()
    }

    /// Where its blobs are, for what moves layers; none where layers cannot be fetched from there.
    pub fn place(&self) -> Option<Place> {
        self.shared.keeper.place()
    }

    /// What the cache names, read when it is first asked for. What cannot be read is empty, and a
    /// fault that is kept.
    pub async fn catalogue(&self) -> Arc<Catalogue> {
        let read = || async {
            let fault = match self.read().await {
                Ok(catalogue) => return Arc::new(catalogue),
                Err(fault) => fault,
            };
            *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            Arc::default()
        };
        self.shared.read.get_or_init(read).await.clone()
    }

    async fn read(&self) -> Result<Catalogue, String> {
        let text = |error: Error| {
            format!("`{}` is left aside: {}", self.name(), transfer::chain_text(&error))
        };
        match self.shared.named {
            Named::Nothing => Ok(Catalogue::default()),
            Named::Artifact(digest) => self.artifact(digest).await.map_err(text),
            Named::Unnamed => match self.shared.keeper.read().await {
                Ok(Some(_)) => Err(format!(
                    "`{}` is left aside: the cache does not name it; the next export to the cache does",
                    self.name()
                )),
                Ok(None) | Err(_) => Ok(Catalogue::default()),
            },
        }
    }

    /// An artifact; an empty one where it is gone.
    async fn artifact(&self, digest: Digest) -> Result<Catalogue, Error> {
        match self.shared.keeper.manifest(digest).await? {
            Some(bytes) => Catalogue::parse(&bytes, now()),
            None => Ok(Catalogue::default()),
        }
    }

    /// Whether it was read already.
    pub fn was_read(&self) -> bool {
        self.shared.read.initialized()
    }

    /// Why it could not be read, or was left aside; said once. That it is not there is no fault.
    pub fn take_fault(&self) -> Option<String> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The blob of an entry, checked against its digest; at most `max` bytes.
    ///
    /// # Errors
    /// If it is larger, gone, or not what the digest says.
    pub async fn fetch(&self, entry: &Entry, max: u64) -> Result<Bytes, Error> {
        self.shared.keeper.blob(&entry.blob, max).await
    }

    /// Writes an artifact: the one that the cache names now, with what is to be different. What the
    /// cache is to name then.
    ///
    /// # Errors
    /// If something of another kind is there, or it cannot be written.
    pub async fn add(
        &self,
        named: Option<Digest>,
        additions: &dyn Additions,
    ) -> Result<Option<Digest>, Error> {
        let there = match named {
            None => Catalogue::default(),
            Some(digest) => self.artifact(digest).await?,
        };
        let change = additions.change(self, &there).await;
        if change.is_empty() {
            return Ok(named);
        }
        let mut refusals = 0;
        loop {
            let mut next = there.clone();
            let described = self.send(&change.put).await?;
            next.apply(described, &change.forget, &change.used, now());
            let manifest = Bytes::from(next.document());
            match self.shared.keeper.write(manifest.clone()).await {
                Err(Error::Registry(error)) if refusals < REFUSALS && !error.is_unauthorized() => {
                    refusals += 1;
                    self.sent().clear();
                }
                result => return result.map(|()| Some(Digest::of(&manifest))),
            }
        }
    }

    async fn send(
        &self,
        put: &[Put],
    ) -> Result<Vec<(String, Descriptor, oci::Annotations)>, Error> {
        let mut described = Vec::with_capacity(put.len());
        for Put { name, media_type, content, notes } in put {
            let (digest, size) = content.digest();
            let blob = Descriptor::new(media_type, digest, size);
            if !self.sent().contains(&digest) {
                self.shared.keeper.put_blob(&blob, content.clone()).await?;
                self.sent().insert(digest);
            }
            described.push((name.clone(), blob, notes.clone()));
        }
        Ok(described)
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the artifact that the cache names the tag, where another writer's has it: what has no
    /// tag, registries collect.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn tag(&self, named: Digest) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        let tagged = keeper.read().await?;
        if tagged.is_some_and(|bytes| Digest::of(&bytes) == named) {
            return Ok(());
        }
        match keeper.manifest(named).await? {
            Some(manifest) => keeper.write(manifest).await,
            None => Ok(()),
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
