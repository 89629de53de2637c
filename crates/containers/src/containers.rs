//! The containers of a root: made, found, renamed, removed.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use layer::Layer;
use oci::{Config, Digest};
use runtime::Runtime;
use transfer::{Transfer, blocking};

use crate::files::chain::ChainFiles;
use crate::live::Live;
use crate::record::{ContainerRecord, LifeState};
use crate::state_folder::{ContainerLock, StateFolder};
use crate::{BindPolicy, ContainerId, ContainerName, Error, HostSettings, ProcessSettings};

/// The most containers that a root keeps.
const MOST: usize = 1000;

/// The machine that containers are on.
pub trait Machine: Send + Sync + 'static {
    /// A mover of layers over a store of its own: what is used with it stays while it lives.
    ///
    /// # Errors
    /// If the store cannot be opened.
    fn transfer(&self) -> Result<Transfer, Error>;

    /// The runtime.
    ///
    /// # Errors
    /// If nothing can be isolated here.
    fn runtime(&self) -> Result<Arc<Runtime>, Error>;

    /// Is told of what happens to a container.
    fn tell(&self, container: &ContainerRecord, event: LifeEvent);
}

/// Something that happens to a container without a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeEvent {
    /// Its command runs.
    Started,
    /// It has ended, with this exit code.
    Died(i32),
    /// It is gone.
    Removed,
    /// A further command has ended, with this exit code.
    ExecDied(ContainerId, i32),
}

/// A container to be made.
#[derive(Clone, Debug)]
pub struct Creation {
    /// Its name; the first digits of its ID without one.
    pub name: Option<ContainerName>,
    /// Its image.
    pub image: SourceImage,
    /// Its process; what is not given is the image's.
    pub process: ProcessSettings,
    /// The parts of the machine that it sees.
    pub host: HostSettings,
    /// A value that the caller keeps with it.
    pub annotation: serde_json::Value,
}

/// The image of a container.
#[derive(Clone, Debug)]
pub struct SourceImage {
    /// The name by which it was asked for.
    pub name: String,
    /// Its ID.
    pub id: String,
    /// Its settings.
    pub config: Config,
    /// Its layers, from the bottom up.
    pub layers: Vec<Layer>,
}

/// The containers of a root. Cheap to clone.
#[derive(Clone)]
pub struct Containers {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) folder: StateFolder,
    pub(crate) binds: BindPolicy,
    pub(crate) machine: Arc<dyn Machine>,
    live: Mutex<HashMap<ContainerId, Arc<Live>>>,
    /// Held while a name is looked for and taken.
    names: tokio::sync::Mutex<()>,
}

impl Containers {
    /// Opens the containers in a folder of the root, and makes it if there is none. Those that a killed process ran
    /// have ended.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open(
        folder: PathBuf,
        binds: BindPolicy,
        machine: Arc<dyn Machine>,
    ) -> Result<Self, Error> {
        let folder = StateFolder::open(folder)?;
        folder.list()?;
        let (live, names) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { inner: Arc::new(Inner { folder, binds, machine, live, names }) })
    }

    /// Makes a container. Its image's layers are unpacked, and stay as long as it does.
    ///
    /// # Errors
    /// If a setting is wrong, the name is taken, or a layer cannot be had.
    pub async fn create(&self, creation: Creation) -> Result<ContainerRecord, Error> {
        let Creation { name, image, process, host, annotation } = creation;
        let process = process.over(&image.config)?;
        for bind in &host.binds {
            self.inner.binds.check(bind)?;
        }
        let transfer = self.inner.machine.transfer()?;
        transfer.unpack(&image.layers, None).await?;
        let id = ContainerId::draw()?;
        let layers = with_volumes(&transfer, image.layers, &process.volumes, &id).await?;
        let record = ContainerRecord {
            name: name.unwrap_or_else(|| ContainerName::of_id(&id)),
            id,
            image: image.name,
            image_id: image.id,
            created: SystemTime::now(),
            process,
            host,
            image_layers: layers.len(),
            layers,
            state: LifeState::Created,
            failure: None,
            annotation,
        };
        let _names = self.inner.names.lock().await;
        let folder = self.inner.folder.clone();
        blocking(move || {
            let _gate = folder.gate()?;
            let known = folder.list()?;
            if known.len() >= MOST {
                return Err(Error::TooMany(known.len()));
            }
            check_name(&known, &record.name)?;
            transfer.store().hold_layers(record.id.as_str(), &record.layers)?;
            let added = folder.add(&record);
            if added.is_err() {
                transfer.store().release_layers(record.id.as_str())?;
            }
            added.map(|()| record)
        })
        .await
    }

    /// The container that a text means: a name, an ID, or the beginning of an ID that is no other's.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn find(&self, text: &str) -> Result<ContainerRecord, Error> {
        if let Some(id) = ContainerId::parse(text) {
            return self.get(&id);
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        let mut known = self.list()?;
        if let Some(place) = known.iter().position(|record| record.name.as_str() == name) {
            return Ok(known.swap_remove(place));
        }
        known.retain(|record| !text.is_empty() && record.id.as_str().starts_with(text));
        match known.len() {
            0 => Err(Error::NotFound(text.to_owned())),
            1 => Ok(known.swap_remove(0)),
            _ => Err(Error::Ambiguous(text.to_owned())),
        }
    }

    /// A container.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, id: &ContainerId) -> Result<ContainerRecord, Error> {
        let read = self.inner.folder.read(id);
        if matches!(read, Err(Error::NotFound(_))) {
            // Another process has removed it.
            self.lives().remove(id);
        }
        read
    }

    /// All containers, in no order.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<ContainerRecord>, Error> {
        self.inner.folder.list()
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::Elsewhere`].
    pub async fn rename(&self, id: &ContainerId, name: ContainerName) -> Result<(), Error> {
        let _names = self.inner.names.lock().await;
        let (live, _) = self.live(id)?;
        let _gate = live.gate.lock().await;
        let _lock = match live.run() {
            Some(_) => None,
            None => Some(self.lock(id).await?),
        };
        let _all = self.inner.folder.gate()?;
        check_name(&self.list()?, &name)?;
        let record = ContainerRecord { name, ..self.get(id)? };
        self.inner.folder.write(&record)
    }

    /// Removes a container. One that runs is killed with `force`.
    ///
    /// # Errors
    /// [`Error::Running`], [`Error::Elsewhere`].
    pub async fn remove(&self, id: &ContainerId, force: bool) -> Result<(), Error> {
        let (live, record) = self.live(id)?;
        if let Some(run) = live.run() {
            if !force {
                let hint = "stop the container before removing or force remove";
                return Err(Error::Running { id: id.clone(), hint });
            }
            run.process.kill();
            live.stopped().await;
        }
        let gate = live.gate.lock().await;
        // It may remove itself when it ends.
        if live.phase.borrow().is_removed {
            return Ok(());
        }
        let lock = self.lock(id).await?;
        self.remove_ended(&live, record, lock).await?;
        drop(gate);
        Ok(())
    }

    /// Removes a container that does not run. The caller holds its gate.
    pub(crate) async fn remove_ended(
        &self,
        live: &Live,
        record: ContainerRecord,
        lock: ContainerLock,
    ) -> Result<(), Error> {
        let (folder, machine) = (self.inner.folder.clone(), self.inner.machine.clone());
        let id = record.id.clone();
        blocking(move || {
            let transfer = machine.transfer()?;
            folder.remove(&id, transfer.store())?;
            drop(lock);
            Ok::<_, Error>(transfer.store().release_layers(id.as_str())?)
        })
        .await?;
        self.lives().remove(&record.id);
        live.hub().end();
        live.phase.send_modify(|phase| phase.is_removed = true);
        self.inner.machine.tell(&record, LifeEvent::Removed);
        Ok(())
    }

    /// A container in this process, with its record.
    pub(crate) fn live(&self, id: &ContainerId) -> Result<(Arc<Live>, ContainerRecord), Error> {
        let record = self.get(id)?;
        let live = self.lives().entry(id.clone()).or_insert_with(|| Live::of(&record)).clone();
        Ok((live, record))
    }

    /// A container that runs here, or that does not run.
    ///
    /// # Errors
    /// [`Error::Elsewhere`].
    pub(crate) fn here(&self, id: &ContainerId) -> Result<(Arc<Live>, ContainerRecord), Error> {
        let (live, record) = self.live(id)?;
        // The record is written before those who wait are told.
        if record.is_running() && live.run().is_none() && !live.phase.borrow().is_running {
            return Err(Error::Elsewhere(id.clone()));
        }
        Ok((live, record))
    }

    /// The containers that this process knows.
    pub(crate) fn all_live(&self) -> Vec<(ContainerId, Arc<Live>)> {
        self.lives().iter().map(|(id, live)| (id.clone(), live.clone())).collect()
    }

    pub(crate) async fn lock(&self, id: &ContainerId) -> Result<ContainerLock, Error> {
        self.inner.folder.lock_soon(id).await?.ok_or_else(|| Error::Elsewhere(id.clone()))
    }

    fn lives(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Live>>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chain of an image, with the folders that hold data.
async fn with_volumes(
    transfer: &Transfer,
    mut layers: Vec<Layer>,
    volumes: &BTreeSet<String>,
    id: &ContainerId,
) -> Result<Vec<Digest>, Error> {
    let ids =
        |layers: &[Layer]| -> Vec<Digest> { layers.iter().map(|layer| layer.diff_id).collect() };
    if !volumes.is_empty() {
        let (store, below) = (transfer.store().clone(), ids(&layers));
        let (volumes, id) = (volumes.clone(), id.clone());
        let made =
            blocking(move || ChainFiles::open(store, &below, &id)?.with_folders(&volumes)).await?;
        if let Some(layer) = made {
            layers.push(layer);
            transfer.unpack(&layers, None).await?;
        }
    }
    Ok(ids(&layers))
}

fn check_name(known: &[ContainerRecord], name: &ContainerName) -> Result<(), Error> {
    match known.iter().find(|record| record.name == *name) {
        Some(record) => Err(Error::NameTaken { name: name.clone(), id: record.id.clone() }),
        None => Ok(()),
    }
}

/// A container's chain as layers that are unpacked in the store.
pub(crate) fn unpacked_layers(layers: &[Digest]) -> Vec<Layer> {
    let layer = |diff_id: &Digest| Layer {
        diff_id: *diff_id,
        blob: None,
        created: None,
        places: Vec::new(),
    };
    layers.iter().map(layer).collect()
}
