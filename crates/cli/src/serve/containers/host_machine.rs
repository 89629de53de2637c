//! The machine of containers: stores of their own, the service's runtime, its events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ::containers::{ContainerId, ContainerRecord, Error, LifeEvent, Machine};
use ::engine::{EngineEvent, Events};
use runtime::Runtime;
use transfer::Transfer;

use super::details::identity;
use crate::serve::resources::Resources;
use crate::serve::stopping::{Activity, ActivityGuard};

/// The machine that a service, or a command, is on.
pub(super) struct HostMachine {
    resources: Arc<Resources>,
    events: Events,
    activity: Activity,
    /// A service with a container that runs is not idle.
    running: Mutex<HashMap<ContainerId, ActivityGuard>>,
}

impl HostMachine {
    pub(super) fn new(resources: Arc<Resources>, events: Events, activity: Activity) -> Self {
        Self { resources, events, activity, running: Mutex::default() }
    }
}

impl Machine for HostMachine {
    fn transfer(&self) -> Result<Transfer, Error> {
        let store = self.resources.open_store().map_err(|error| Error::Machine(Box::new(error)))?;
        let client = self.resources.client([]);
        Ok(Transfer::new(store, client, graph::Events::none()))
    }

    fn runtime(&self) -> Result<Arc<Runtime>, Error> {
        self.resources.runtime().map_err(|reason| Error::NoIsolation(reason.to_string()))
    }

    fn tell(&self, container: &ContainerRecord, event: LifeEvent) {
        let (action, facts) = match event {
            LifeEvent::Started => {
                let guard = self.activity.begin();
                self.running().insert(container.id.clone(), guard);
                ("start", Vec::new())
            }
            LifeEvent::Died(code) => {
                self.running().remove(&container.id);
                ("die", vec![("exitCode", code.to_string())])
            }
            LifeEvent::Removed => ("destroy", Vec::new()),
            LifeEvent::ExecDied(exec, code) => {
                ("exec_die", vec![("execID", exec.to_string()), ("exitCode", code.to_string())])
            }
        };
        self.events.send(EngineEvent::container(action, &identity(container), facts));
    }
}

impl HostMachine {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, ActivityGuard>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
