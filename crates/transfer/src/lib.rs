//! Transfer of layers between their places and this store.
//!
//! Receives layers, which are plain data, and moves their bytes: into the store as blobs or
//! unpacked, out of it into registries. Invariant: each layer moves at most once in a build,
//! however many steps and exports request it, and all received bytes are checked against its
//! digest. Of several builds on one root, one moves it and the others wait ([`Transfer::turn`]).

#![forbid(unsafe_code)]

mod error;
mod fetch;
mod hollow;
mod indexes;
mod layout;
mod memo;
mod parts;
mod progress;
mod readers;
mod remote;
mod turn;
mod upload;

pub use error::{Error, all, lost_layers};
pub use graph::chain_text;
pub use hollow::{Brought, Lazy};
pub use indexes::{IndexSource, Lent, LentIndex};
pub use layout::{
    LayoutContent, LayoutError, LayoutFile, REF_NAME, write_layout, write_layout_files,
    write_locked_layout,
};
pub use progress::Meter;
pub use remote::{Remote, RemoteError, RemoteStream};
pub use turn::{SharedWork, Waited};
pub use upload::{Destination, LayerFormat, PushTarget, RegistryUpload, RemoteUpload};

use std::sync::{Arc, OnceLock};

use graph::Events;
use oci::{Descriptor, Digest};
use store::Store;
use tokio::sync::Semaphore;

use hollow::HollowLayers;
use memo::Memo;
use upload::SentTo;

/// Moves layers. Cheap to clone.
#[derive(Clone)]
pub struct Transfer {
    shared: Arc<TransferInner>,
}

struct TransferInner {
    store: Store,
    client: registry::Client,
    events: Events,
    /// The places that are neither registries nor folders.
    remotes: Vec<Arc<dyn Remote>>,
    /// Layers that are unpacked or being unpacked.
    unpacked: Memo<Digest, ()>,
    /// Blobs that are in the store or being fetched, each with the diffID of the layer that it is
    /// expected to be.
    blobs: Memo<(Digest, Digest), ()>,
    /// Blobs that were made of unpacked layers, or are being made.
    made: Memo<(Digest, layer::Compression), Descriptor>,
    /// The destinations of layers that will be sent unchanged. Their blobs are kept when fetched.
    wanted_by: std::sync::Mutex<Vec<Destination>>,
    /// Blobs that were sent or are being sent.
    sent: Memo<(Digest, SentTo), ()>,
    /// Layers whose files come when they are opened.
    hollow: HollowLayers,
    /// Those that were looked at, hollow now if they can be.
    made_hollow: Memo<Digest, ()>,
    /// Limits the number of concurrent downloads.
    lanes: Arc<Semaphore>,
    /// Limits the number of concurrent uploads. An upload may have to download first: with one
    /// limit for both, uploads could hold all of the permits that their downloads wait for.
    send_lanes: Semaphore,
    /// The source of layer indexes without layers.
    indexes: OnceLock<Arc<dyn IndexSource>>,
    /// Held during a request for indexes, so that a concurrent caller finds them.
    index_gate: tokio::sync::Mutex<()>,
}

/// Maximum number of concurrent transfers in a direction. More connections do not make a registry
/// faster, but use more memory.
const LANES: usize = 6;

impl Transfer {
    /// Creates a mover between `store` and the registries of `client`.
    pub fn new(store: Store, client: registry::Client, events: Events) -> Self {
        Self::with_remotes(store, client, events, Vec::new())
    }

    /// Like [`Transfer::new`], with further places.
    pub fn with_remotes(
        store: Store,
        client: registry::Client,
        events: Events,
        remotes: Vec<Arc<dyn Remote>>,
    ) -> Self {
        Self {
            shared: Arc::new(TransferInner {
                store,
                client,
                events,
                remotes,
                unpacked: Memo::default(),
                blobs: Memo::default(),
                made: Memo::default(),
                wanted_by: std::sync::Mutex::default(),
                sent: Memo::default(),
                hollow: HollowLayers::default(),
                made_hollow: Memo::default(),
                lanes: Arc::new(Semaphore::new(LANES)),
                send_lanes: Semaphore::new(LANES),
                indexes: OnceLock::new(),
                index_gate: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// A mover with the same places, and no memory of earlier transfers.
    #[must_use]
    pub fn afresh(&self) -> Self {
        let TransferInner { store, client, events, remotes, .. } = &*self.shared;
        Self::with_remotes(store.clone(), client.clone(), events.clone(), remotes.clone())
    }

    /// A mover that rejects archives of more than `bytes`.
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

    /// The receiver of progress events.
    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    /// The place with the name of a [`layer::Place::Remote`], if this build knows it.
    pub(crate) fn remote(&self, name: &str) -> Option<&Arc<dyn Remote>> {
        self.shared.remotes.iter().find(|remote| remote.name() == name)
    }

    /// The registry client.
    pub fn client(&self) -> &registry::Client {
        &self.shared.client
    }
}

/// Runs blocking work on a thread for such work, where it does not delay other tasks.
///
/// # Panics
/// If the work panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // Tasks are cancelled only when the runtime shuts down, when no caller waits here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
