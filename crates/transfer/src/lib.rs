//! Layers between their places and this store.
//!
//! Receives layers, which are plain data, and moves their bytes: into the store as blobs or
//! unpacked, out of it into registries. Invariant: each layer moves at most once in a build,
//! however many steps and exports ask for it, and what arrives was checked against its digest.

#![forbid(unsafe_code)]

mod error;
mod fetch;
mod indexes;
mod layout;
mod memo;
mod parts;
mod progress;
mod remote;
mod upload;

pub use error::{Error, all, lost_layers};
pub use graph::chain_text;
pub use indexes::{IndexSource, Lent, LentIndex};
pub use layout::{
    LayoutContent, LayoutError, LayoutFile, REF_NAME, write_layout, write_layout_files,
    write_locked_layout,
};
pub use progress::Meter;
pub use remote::{Remote, RemoteError, RemoteStream};
pub use upload::{Destination, LayerFormat, RemoteUpload, Target, Upload};

use std::sync::{Arc, OnceLock};

use graph::Events;
use oci::{Descriptor, Digest};
use store::Store;
use tokio::sync::Semaphore;

use memo::Memo;
use upload::SentTo;

/// Moves layers. Cheap to clone.
#[derive(Clone)]
pub struct Transfer {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    client: registry::Client,
    events: Events,
    /// Places that are neither registries nor folders.
    remotes: Vec<Arc<dyn Remote>>,
    /// Layers that are, or are being, unpacked.
    unpacked: Memo<Digest, ()>,
    /// Blobs that are, or are being, brought into the store, with the layers that they are said to
    /// be.
    blobs: Memo<(Digest, Digest), ()>,
    /// Blobs that are, or are being, made of unpacked layers.
    made: Memo<(Digest, store::Compression), Descriptor>,
    /// Where layers will go as they are: what has to go there is kept as it comes.
    wanted_by: std::sync::Mutex<Vec<Destination>>,
    /// Blobs that are, or are being, sent somewhere.
    sent: Memo<(Digest, SentTo), ()>,
    /// How many layers come at the same time.
    lanes: Arc<Semaphore>,
    /// How many layers go at the same time. One that goes may have to come first: with the same
    /// lanes for both, those that go would wait for lanes that they hold themselves.
    send_lanes: Semaphore,
    /// Who may know layers' indexes without the layers.
    indexes: OnceLock<Arc<dyn IndexSource>>,
    /// Held while indexes are asked for: who comes second finds them.
    index_gate: tokio::sync::Mutex<()>,
}

/// More connections do not make a registry faster, but keep more in memory.
const LANES: usize = 6;

impl Transfer {
    /// A mover between `store` and what `client` reaches.
    pub fn new(store: Store, client: registry::Client, events: Events) -> Self {
        Self::with_remotes(store, client, events, Vec::new())
    }

    /// The same, which knows some other places too.
    pub fn with_remotes(
        store: Store,
        client: registry::Client,
        events: Events,
        remotes: Vec<Arc<dyn Remote>>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                client,
                events,
                remotes,
                unpacked: Memo::default(),
                blobs: Memo::default(),
                made: Memo::default(),
                wanted_by: std::sync::Mutex::default(),
                sent: Memo::default(),
                lanes: Arc::new(Semaphore::new(LANES)),
                send_lanes: Semaphore::new(LANES),
                indexes: OnceLock::new(),
                index_gate: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// A mover that knows the same places, and nothing of what was moved so far.
    #[must_use]
    pub fn afresh(&self) -> Self {
        let Shared { store, client, events, remotes, .. } = &*self.shared;
        Self::with_remotes(store.clone(), client.clone(), events.clone(), remotes.clone())
    }

    /// One that reads no archive of more than so many bytes, for what is not worth more.
    #[must_use]
    pub fn within(&self, bytes: u64) -> Self {
        let shared = &self.shared;
        let store = shared.store.within(bytes);
        let remotes = shared.remotes.clone();
        Self::with_remotes(store, shared.client.clone(), shared.events.clone(), remotes)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Who is told what moves.
    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    /// A place of [`store::Place::Remote`], if this build knows it.
    pub(crate) fn remote(&self, name: &str) -> Option<&Arc<dyn Remote>> {
        self.shared.remotes.iter().find(|remote| remote.name() == name)
    }

    /// The registry client.
    pub fn client(&self) -> &registry::Client {
        &self.shared.client
    }
}

/// Runs blocking work where it does not hold up the others.
///
/// # Panics
/// As the work does.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // Cancellation happens only when the runtime shuts down, and then nobody waits here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
