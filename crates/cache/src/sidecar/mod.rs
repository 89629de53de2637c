//! The sidecar of a cache: kiln's own artifact with named entries, under a tag derived from the
//! cache's. BuildKit never asks for it, and a cache without it is complete.
//!
//! The cache's config names the sidecar by digest, so it is the one that the cache's writer left; the
//! tag only keeps it from garbage collection. It is read once, when an entry is first wanted. A
//! sidecar that is missing or unreadable counts as empty.

mod catalogue;
mod indexes;
mod layout;
mod mounts;
pub(crate) mod reads;
mod registry;
mod storage;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use layer::Place;
use oci::{Descriptor, Digest, Reference};
use tokio::sync::OnceCell;

pub use catalogue::{Catalogue, CatalogueEntry};
pub(crate) use indexes::LeftIndexes;
pub use indexes::SidecarIndexes;
pub use layout::LayoutSidecar;
pub use mounts::{MountFolder, MountLeft, ReadyMount, mount_layers, ready_mount};
pub use reads::{ReadSet, read_set};
pub use registry::RegistrySidecar;
pub use storage::{BlobContent, SidecarStore};

pub use crate::format::SidecarRef;

use crate::Error;

/// Retries after a refusal: registries may fail when several clients write at once.
const REFUSALS: usize = 3;

/// Reads a manifest as a sidecar, for the fuzzer.
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
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
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub fn read_hostile_pack(bytes: &[u8]) {
    indexes::read_hostile(bytes);
    reads::read_hostile(bytes);
}

/// The reason why a sidecar is not used.
#[derive(Debug, thiserror::Error)]
enum SidecarFault {
    #[error("{}", transfer::chain_text(.0))]
    Unreadable(Error),
    #[error("the cache does not name it; the next export to the cache does")]
    Unnamed,
}

/// The sidecar of one cache. Cheap to clone.
#[derive(Clone)]
pub struct Sidecar {
    shared: Arc<SidecarState>,
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sidecar").field(&self.name()).finish()
    }
}

struct SidecarState {
    store: Box<dyn SidecarStore>,
    named: SidecarRef,
    read: OnceCell<Arc<Catalogue>>,
    fault: Mutex<Option<String>>,
    /// Blobs that were sent by this build.
    sent: Mutex<HashSet<Digest>>,
}

/// Changes to a catalogue.
#[derive(Default)]
pub struct CatalogueChange {
    /// Entries to write; they replace those of the same name.
    pub put: Vec<NewEntry>,
    /// Names of entries to remove.
    pub forget: Vec<String>,
    /// Names of entries to mark as used.
    pub used: Vec<String>,
}

/// An entry to write.
pub struct NewEntry {
    /// Its name: a word for its kind, `/`, and a part that is unique within the kind.
    pub name: String,
    /// Media type of the blob.
    pub media_type: String,
    /// The blob.
    pub content: BlobContent,
    /// Annotations that readers need before they fetch the blob. Short, since the manifest holds
    /// them all.
    pub notes: oci::Annotations,
}

impl CatalogueChange {
    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.forget.is_empty() && self.used.is_empty()
    }

    /// Adds another change.
    pub fn extend(&mut self, other: Self) {
        self.put.extend(other.put);
        self.forget.extend(other.forget);
        self.used.extend(other.used);
    }
}

/// The additions of a build to a sidecar.
pub trait Additions: Send + Sync {
    /// True if there is something to add even if the cache itself has all records.
    fn is_news(&self) -> bool;

    /// The changes to the present catalogue. Called again after another writer replaced it.
    fn change<'a>(
        &'a self,
        sidecar: &'a Sidecar,
        there: &'a Catalogue,
    ) -> BoxFuture<'a, CatalogueChange>;
}

impl Sidecar {
    /// The sidecar in a store, given the cache's reference to it.
    pub fn new(store: Box<dyn SidecarStore>, named: SidecarRef) -> Self {
        let shared = SidecarState {
            store,
            named,
            read: OnceCell::new(),
            fault: Mutex::default(),
            sent: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The sidecar of a cache in a registry; none if the reference has no tag.
    pub fn of_registry(
        client: &::registry::Client,
        (cache, insecure): (&Reference, bool),
        named: SidecarRef,
    ) -> Option<Self> {
        let store = RegistrySidecar::new(client, cache, insecure)?;
        Some(Self::new(Box::new(store), named))
    }

    /// The sidecar of a cache in a folder in the OCI layout.
    pub fn of_layout(folder: &std::path::Path, tag: &str, named: SidecarRef) -> Self {
        Self::new(Box::new(LayoutSidecar::new(folder, tag)), named)
    }

    /// The name in messages.
    pub fn name(&self) -> String {
        self.shared.store.name()
    }

    /// The place of its blobs for transfers; none if layers cannot be fetched from there.
    pub fn place(&self) -> Option<Place> {
        self.shared.store.place()
    }

    /// The entries, read at the first call. An unreadable sidecar is empty; its fault is kept for
    /// [`Sidecar::take_fault`].
    pub async fn catalogue(&self) -> Arc<Catalogue> {
        let read = || async {
            let fault = match self.read().await {
                Ok(catalogue) => return Arc::new(catalogue),
                Err(fault) => format!("`{}` is left aside: {fault}", self.name()),
            };
            *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            Arc::default()
        };
        self.shared.read.get_or_init(read).await.clone()
    }

    async fn read(&self) -> Result<Catalogue, SidecarFault> {
        match self.shared.named {
            SidecarRef::None => Ok(Catalogue::default()),
            SidecarRef::Artifact(digest) => {
                self.artifact(digest).await.map_err(SidecarFault::Unreadable)
            }
            SidecarRef::Unnamed => match self.shared.store.read().await {
                Ok(Some(_)) => Err(SidecarFault::Unnamed),
                Ok(None) | Err(_) => Ok(Catalogue::default()),
            },
        }
    }

    /// The entries of a sidecar; none if it is gone.
    async fn artifact(&self, digest: Digest) -> Result<Catalogue, Error> {
        match self.shared.store.manifest(digest).await? {
            Some(bytes) => Catalogue::parse(&bytes, now()),
            None => Ok(Catalogue::default()),
        }
    }

    /// True if the entries were read already.
    pub fn was_read(&self) -> bool {
        self.shared.read.initialized()
    }

    /// The reason why the sidecar is not used, once. A missing sidecar is not a fault.
    pub fn take_fault(&self) -> Option<String> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The blob of an entry, checked against its digest; at most `max` bytes.
    ///
    /// # Errors
    /// If it is larger, gone, or not what the digest says.
    pub async fn fetch(&self, entry: &CatalogueEntry, max: u64) -> Result<Bytes, Error> {
        self.shared.store.blob(&entry.blob, max).await
    }

    /// Writes a new sidecar: the one that the cache names now, with additions. Returns the digest that
    /// the cache is to name.
    ///
    /// # Errors
    /// If the present one is damaged, or the new one cannot be written.
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
            match self.shared.store.write(manifest.clone()).await {
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
        put: &[NewEntry],
    ) -> Result<Vec<(String, Descriptor, oci::Annotations)>, Error> {
        let mut described = Vec::with_capacity(put.len());
        for NewEntry { name, media_type, content, notes } in put {
            let (digest, size) = content.digest();
            let blob = Descriptor::new(media_type, digest, size);
            if !self.sent().contains(&digest) {
                self.shared.store.put_blob(&blob, content.clone()).await?;
                self.sent().insert(digest);
            }
            described.push((name.clone(), blob, notes.clone()));
        }
        Ok(described)
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the tag from another writer's sidecar to the one that the cache names. Registries collect
    /// untagged manifests.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn tag(&self, named: Digest) -> Result<(), Error> {
        let store = &self.shared.store;
        let tagged = store.read().await?;
        if tagged.is_some_and(|bytes| Digest::of(&bytes) == named) {
            return Ok(());
        }
        match store.manifest(named).await? {
            Some(manifest) => store.write(manifest).await,
            None => Ok(()),
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
