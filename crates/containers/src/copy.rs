//! Copies between containers and archives, of containers that run and of others.

use std::io::{Read, Write};

use transfer::blocking;

use crate::containers::unpacked_layers;
use crate::files::chain::{ChainFiles, ChangedPath};
use crate::files::live::LiveFiles;
use crate::files::{PathFacts, RequestedPath, UnpackOptions};
use crate::live::Live;
use crate::record::ContainerRecord;
use crate::{ContainerId, Containers, Error};

/// The sizes of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSizes {
    /// Bytes of what it changed in earlier runs.
    pub changed: u64,
    /// Bytes of all of its files.
    pub whole: u64,
}

impl Containers {
    /// The facts about a path. A link at its end is not followed.
    ///
    /// # Errors
    /// [`Error::NoPath`].
    pub async fn facts(&self, id: &ContainerId, path: &str) -> Result<PathFacts, Error> {
        let path = RequestedPath::parse(path);
        let (live, record) = self.here(id)?;
        if let Some(files) = live_files(&live, id).await? {
            return blocking(move || files.facts(&path)).await;
        }
        let containers = self.clone();
        blocking(move || containers.chain(&record)?.facts(&path)).await
    }

    /// Writes a path as an archive, whose names begin with the last part of the path.
    ///
    /// # Errors
    /// [`Error::NoPath`], and if the archive cannot be written.
    pub async fn copy_out(
        &self,
        id: &ContainerId,
        path: &str,
        mut out: impl Write + Send + 'static,
    ) -> Result<(), Error> {
        let path = RequestedPath::parse(path);
        let (live, record) = self.here(id)?;
        if let Some(files) = live_files(&live, id).await? {
            return blocking(move || flushed(files.copy_out(&path, &mut out), &mut out)).await;
        }
        let containers = self.clone();
        blocking(move || {
            let chain = containers.chain(&record)?;
            flushed(chain.copy_out(&path, &mut out), &mut out)
        })
        .await
    }

    /// Unpacks an archive, compressed or not, in a folder. The archive is not trusted.
    ///
    /// # Errors
    /// [`Error::NoPath`], [`Error::NoFolder`], [`Error::Overwrite`], and if the archive is none.
    pub async fn copy_in(
        &self,
        id: &ContainerId,
        options: UnpackOptions,
        archive: impl Read + Send + 'static,
    ) -> Result<(), Error> {
        let (live, _) = self.here(id)?;
        let gate = live.gate.lock().await;
        let (_, mut record) = self.here(id)?;
        let user = record.process.user.clone();
        let transfer = self.inner.machine.transfer()?;
        if let Some(files) = live_files(&live, id).await? {
            drop(gate);
            let limits = transfer.store().limits();
            let files = files.ignoring_owners(transfer.store().ignores_owners());
            return blocking(move || files.copy_in(&options, &user, archive, limits)).await;
        }
        let _lock = self.lock(id).await?;
        let (store, layers) = (transfer.store().clone(), record.layers.clone());
        let of = id.clone();
        let layer = blocking(move || {
            ChainFiles::open(store, &layers, &of)?.copy_in(&options, &user, archive)
        })
        .await?;
        let mut chain = unpacked_layers(&record.layers);
        record.layers.push(layer.diff_id);
        chain.push(layer);
        transfer.unpack(&chain, None).await?;
        transfer.store().hold_layers(id.as_str(), &record.layers)?;
        self.inner.folder.write(&record)
    }

    /// The paths that a container which does not run has other than its image.
    ///
    /// # Errors
    /// [`Error::Running`].
    pub async fn changes(&self, id: &ContainerId) -> Result<Vec<ChangedPath>, Error> {
        let (_, record) = self.here(id)?;
        ended(&record)?;
        let containers = self.clone();
        blocking(move || {
            let image = &record.layers[..record.image_layers.min(record.layers.len())];
            let store = containers.inner.machine.transfer()?.store().clone();
            let image = ChainFiles::open(store, image, &record.id)?;
            Ok(containers.chain(&record)?.changes_since(&image))
        })
        .await
    }

    /// Writes all files of a container which does not run as an archive.
    ///
    /// # Errors
    /// [`Error::Running`].
    pub async fn export(
        &self,
        id: &ContainerId,
        mut out: impl Write + Send + 'static,
    ) -> Result<(), Error> {
        let (_, record) = self.here(id)?;
        ended(&record)?;
        let containers = self.clone();
        blocking(move || {
            let chain = containers.chain(&record)?;
            flushed(chain.export(&mut out), &mut out)
        })
        .await
    }

    /// The sizes of a container's files; those that it changes in this run are not counted.
    ///
    /// # Errors
    /// If its layers cannot be read.
    pub async fn sizes(&self, id: &ContainerId) -> Result<FileSizes, Error> {
        let record = self.get(id)?;
        let containers = self.clone();
        blocking(move || {
            let chain = containers.chain(&record)?;
            let own = record.layers.get(record.image_layers..).unwrap_or_default();
            Ok(FileSizes { changed: chain.bytes_of(own)?, whole: chain.size() })
        })
        .await
    }

    fn chain(&self, record: &ContainerRecord) -> Result<ChainFiles, Error> {
        let store = self.inner.machine.transfer()?.store().clone();
        ChainFiles::open(store, &record.layers, &record.id)
    }
}

/// Hands the rest of an archive over.
fn flushed(written: Result<(), Error>, out: &mut impl Write) -> Result<(), Error> {
    written.and_then(|()| out.flush().map_err(Error::file("write", "an archive")))
}

/// The files of a container that runs in this process. Its end waits for them to be dropped.
async fn live_files(live: &Live, id: &ContainerId) -> Result<Option<LiveFiles>, Error> {
    let copying = live.copies.clone().read_owned().await;
    let Some(run) = live.run() else { return Ok(None) };
    let root = run.process.root().await?;
    Ok(Some(LiveFiles::new(root, id, copying)))
}

fn ended(record: &ContainerRecord) -> Result<(), Error> {
    if record.is_running() {
        let hint = "its files are compared and exported once it is stopped";
        return Err(Error::Running { id: record.id.clone(), hint });
    }
    Ok(())
}
