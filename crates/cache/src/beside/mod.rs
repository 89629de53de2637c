//! What kiln leaves beside a cache: an artifact of its own with named entries, under a name that is
//! made of the cache's. BuildKit never asks for it, and a cache without it is a whole cache.
//!
//! It is read when something of it is wanted for the first time, once; one that is missing or
//! cannot be read is an empty one. It is as trusted as the cache: whoever can write the one can
//! write the other.

mod catalogue;
mod folder;
mod indexes;
mod keeper;
mod mounts;
mod registry;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use oci::{Descriptor, Digest, Reference};
use store::Place;
use tokio::sync::OnceCell;

pub use catalogue::{Catalogue, Entry};
pub use folder::BesideFolder;
pub use indexes::{BesideIndexes, keep_indexes};
pub use keeper::{Content, Keeper};
pub use mounts::{MountFolder, MountLeft, keep_mount, mount_layers};
pub use registry::BesideRegistry;

use crate::Error;

/// So often a change is made anew on what another writer left.
const ATTEMPTS: usize = 6;
/// In so many first attempts, a place that does not take what is written is asked again: registries
/// can stumble over writers that come at once.
const REFUSALS: usize = 3;

/// The artifact beside one cache. Cheap to clone.
#[derive(Clone)]
pub struct Beside {
    shared: Arc<Shared>,
}

struct Shared {
    keeper: Box<dyn Keeper>,
    read: OnceCell<Arc<Catalogue>>,
    fault: Mutex<Option<String>>,
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
}

impl Beside {
    /// What a keeper keeps.
    pub fn new(keeper: Box<dyn Keeper>) -> Self {
        let shared = Shared { keeper, read: OnceCell::new(), fault: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Beside a cache in a registry; none where the cache has no tag, but only a digest.
    pub fn of_registry(
        client: &::registry::Client,
        cache: &Reference,
        insecure: bool,
    ) -> Option<Self> {
        BesideRegistry::new(client, cache, insecure).map(|keeper| Self::new(Box::new(keeper)))
    }

    /// Beside a cache in a folder in the OCI layout.
    pub fn of_folder(folder: &std::path::Path, tag: &str) -> Self {
        Self::new(Box::new(BesideFolder::new(folder, tag)))
    }

    /// How people call it.
    pub fn name(&self) -> String {
        self.shared.keeper.name()
    }

    /// Where its blobs are, for what moves layers; none where layers cannot be fetched from there.
    pub fn place(&self) -> Option<Place> {
        self.shared.keeper.place()
    }

    /// What is there, read when it is first asked for. What cannot be read is empty, and a
    /// [fault](Self::fault).
    pub async fn catalogue(&self) -> Arc<Catalogue> {
        let read = || async {
            match self.read().await {
                Ok(catalogue) => Arc::new(catalogue),
                Err(error) => {
                    let text = transfer::chain_text(&error);
                    *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                    Arc::default()
                }
            }
        };
        self.shared.read.get_or_init(read).await.clone()
    }

    /// Whether it was read already.
    pub fn was_read(&self) -> bool {
        self.shared.read.initialized()
    }

    /// Why it could not be read. That it is not there is no fault.
    pub fn fault(&self) -> Option<String> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The blob of an entry, checked against its digest; at most `max` bytes.
    ///
    /// # Errors
    /// If it is larger, gone, or not what the digest says.
    pub async fn fetch(&self, entry: &Entry, max: u64) -> Result<Bytes, Error> {
        self.shared.keeper.blob(&entry.blob, max).await
    }

    /// Changes what is there: reads, merges, writes, reads back, and again on what another writer
    /// left meanwhile. `change` may be asked several times. What it returns last is what is there.
    ///
    /// # Errors
    /// If something of another kind is there, or it cannot be written.
    pub async fn update(
        &self,
        change: impl Fn(&Catalogue) -> Change + Send + Sync,
    ) -> Result<Arc<Catalogue>, Error> {
        let keeper = &self.shared.keeper;
        let mut there = self.read().await?;
        let mut sent: Vec<Digest> = Vec::new();
        for attempt in 0..ATTEMPTS {
            let change = change(&there);
            if change.is_empty() {
                return Ok(Arc::new(there));
            }
            let Change { put, forget, used } = change;
            let mut described = Vec::with_capacity(put.len());
            for Put { name, media_type, content, notes } in put {
                let (digest, size) = content.digest();
                let blob = Descriptor::new(media_type, digest, size);
                if !sent.contains(&digest) {
                    keeper.put_blob(&blob, content).await?;
                    sent.push(digest);
                }
                described.push((name, blob, notes));
            }
            let mut next = there;
            next.apply(described, &forget, &used, now());
            match keeper.write(next.document().into()).await {
                Err(Error::Registry(error)) if attempt < REFUSALS && !error.is_unauthorized() => {
                    sent.clear();
                    there = self.read().await?;
                    continue;
                }
                result => result?,
            }
            let back = self.read().await?;
            if back.has_all_of(&next, &forget) {
                return Ok(Arc::new(back));
            }
            there = back;
        }
        Err(Error::Damaged(format!("others write to `{}` all the time", self.name())))
    }

    async fn read(&self) -> Result<Catalogue, Error> {
        match self.shared.keeper.read().await? {
            Some(bytes) => Catalogue::parse(&bytes, now()),
            None => Ok(Catalogue::default()),
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
