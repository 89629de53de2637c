//! What the caller lends to a build.

use std::sync::Arc;

use graph::Events;
use runtime::Runtime;
use store::Store;

use crate::Traffic;

/// What the caller lends to a build.
#[derive(Clone)]
pub struct Host {
    /// Where bytes live.
    pub store: Store,
    /// Talks to registries.
    pub client: registry::Client,
    /// Runs containers; else why it is not possible here.
    pub runtime: Result<Arc<Runtime>, String>,
    /// Who is told what happens.
    pub events: Events,
    /// Where a Docker engine listens (`DOCKER_HOST`); empty is the usual socket.
    pub engine: String,
    /// Whether no build believes what caches say of layers (`KILN_VERIFY_INDEXES`).
    pub verify_indexes: bool,
    /// What builds that run side by side make for each other.
    pub work: Option<Work>,
}

/// Steps that several builds make once.
#[derive(Clone, Default)]
pub struct Work(pub(crate) solve::Shared<execute::Output>);

impl Host {
    /// What went over the network since `before`.
    pub(crate) fn traffic_since(&self, before: registry::Stats) -> Traffic {
        let now = self.client.stats();
        Traffic {
            requests: now.requests - before.requests,
            down: now.bytes_down - before.bytes_down,
            up: now.bytes_up - before.bytes_up,
        }
    }
}
