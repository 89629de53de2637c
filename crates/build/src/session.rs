//! Resources that the builds of one process share, and what belongs to one build.

use std::sync::Arc;

use graph::Events;
use runtime::Runtime;
use runtime::ladder::Unavailable;
use store::Store;
use transfer::{Remote, Transfer};

use crate::{Request, Traffic};

/// The machine that builds run on, as the caller has it.
#[derive(Clone)]
pub struct Host {
    /// The store.
    pub store: Store,
    /// The client for all registries.
    pub client: registry::Client,
    /// Runs containers; else the reason why that is not possible here.
    pub runtime: Result<Arc<Runtime>, Unavailable>,
    /// The address of a Docker engine (`DOCKER_HOST`); empty is the usual socket.
    pub engine: String,
    /// True if no build believes what caches say of layers (`KILN_VERIFY_INDEXES`).
    pub verify_indexes: bool,
}

/// A host on which several builds run, one after the other or at the same time. They share the
/// store, the runtime and the connections to registries.
///
/// Secrets, agents, credentials of caches, progress and what caches lend belong to one build, and no
/// other build sees them.
pub struct Session {
    host: Host,
}

impl Session {
    /// A session on `host`. Nothing is read or connected yet.
    pub fn new(host: Host) -> Self {
        Self { host }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.host.store
    }

    /// The client for all registries.
    pub fn client(&self) -> &registry::Client {
        &self.host.client
    }

    /// A transfer for one attempt of one build: caches have lent it nothing yet.
    pub(crate) fn transfer(&self, events: Events, remotes: Vec<Arc<dyn Remote>>) -> Transfer {
        Transfer::with_remotes(self.host.store.apart(), self.host.client.clone(), events, remotes)
    }

    /// The traffic since `before`, of all builds together.
    pub(crate) fn traffic_since(&self, before: registry::Stats) -> Traffic {
        let now = self.host.client.stats();
        Traffic {
            requests: now.requests - before.requests,
            down: now.bytes_down - before.bytes_down,
            up: now.bytes_up - before.bytes_up,
        }
    }
}

/// One build in a session.
#[derive(Clone, Copy)]
pub(crate) struct Build<'a> {
    pub session: &'a Session,
    /// The request, with the build's secrets and agents.
    pub request: &'a Request,
    /// The build's progress.
    pub events: &'a Events,
    /// Steps that this build shares with others.
    pub work: Option<&'a Work>,
}

impl<'a> Build<'a> {
    /// A build that shares no steps.
    pub(crate) fn new(session: &'a Session, request: &'a Request, events: &'a Events) -> Self {
        Self { session, request, events, work: None }
    }
}

/// Steps that several builds make once.
#[derive(Clone, Default)]
pub(crate) struct Work(pub solve::SharedOutputs<execute::StepOutput>);

#[cfg(test)]
mod tests;
