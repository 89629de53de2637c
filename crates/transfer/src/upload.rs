//! Upload of layers, which are compressed first where necessary.

use std::io;

use graph::TaskId;
use layer::{Compression, Layer, Place};
use oci::{Descriptor, Repository, media_type};
use registry::{BlobSource, Expect};
use tokio::io::AsyncSeekExt;

use crate::{Error, Meter, Remote, Transfer, blocking};

/// A repository that layers are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PushTarget {
    /// The repository.
    pub repository: Repository,
    /// True if plain HTTP and untrusted certificates are accepted.
    pub insecure: bool,
}

/// A destination of layers that are sent unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The registry at this host. It mounts a blob of one of its repositories into another.
    Registry(String),
    /// A file, a folder or a remote.
    Elsewhere,
}

/// A place that a blob was sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SentTo {
    Repository(PushTarget),
    Remote(String),
}

/// The format of exported layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerFormat {
    /// Compression of layers that have no blob, or one that only this machine has.
    pub compression: Compression,
    /// True if layers that other places have with another compression are compressed again.
    pub force: bool,
}

/// Blobs up to this size, in bytes, are sent without a check for their existence, which would cost
/// as many round trips.
const SEND_UNASKED: u64 = 256 << 10;

impl Transfer {
    /// The blob of a layer in a format, compressed if there is none. It is not fetched if another
    /// place has it in the right format.
    ///
    /// # Errors
    /// [`Error::Lost`] if no place has the layer, [`Error::Store`] if it cannot be compressed.
    pub async fn describe(
        &self,
        chain: &[Layer],
        index: usize,
        format: LayerFormat,
        task: Option<TaskId>,
    ) -> Result<Descriptor, Error> {
        let layer = &chain[index];
        if let Some(blob) = Self::known_blob(layer, format) {
            return Ok(blob.clone());
        }
        let key = (layer.diff_id, format.compression);
        let make = || async {
            let (store, diff_id) = (self.store().clone(), layer.diff_id);
            let failed = |source| Error::Store { diff_id, source };
            // The blob gives the archive byte for byte, an unpacked layer possibly not.
            let archive = match &layer.blob {
                Some(_) => self.fetch_blob(layer, task).await.ok(),
                None => None,
            };
            match archive {
                Some(blob) => store.remember_blob(&diff_id, &blob).map_err(failed)?,
                None => self.unpack_at(chain, index, task).await?,
            }
            let kind = format.compression.kind();
            let turn = self.compression_turn(&diff_id, &kind, task).await;
            let compress = move || store.compress(&diff_id, format.compression);
            let made = blocking(compress).await.map_err(failed);
            turn.end(&made);
            made
        };
        self.shared.made.get(key, make).await
    }

    /// The blob of a layer in a format, if no other has to be made.
    ///
    /// A blob that no other place has is a choice of an earlier build, not a property of the layer:
    /// an export must not depend on earlier builds.
    pub fn known_blob(layer: &Layer, format: LayerFormat) -> Option<&Descriptor> {
        let is_shared = !layer.places.is_empty();
        layer.blob.as_ref().filter(|blob| {
            (is_shared && !format.force)
                || media_type::layer_to_oci(&blob.media_type) == format.compression.media_type()
        })
    }

    /// The blob of a layer in a format, in this store.
    ///
    /// # Errors
    /// The errors of [`Transfer::describe`], and one if the blob cannot be fetched.
    pub async fn blob(
        &self,
        chain: &[Layer],
        index: usize,
        format: LayerFormat,
        task: Option<TaskId>,
    ) -> Result<Descriptor, Error> {
        let descriptor = self.describe(chain, index, format, task).await?;
        self.fetch_blob(&as_blob(&chain[index], &descriptor), task).await?;
        Ok(descriptor)
    }

    /// Uploads a layer to a registry and returns its descriptor. A blob that the repository has is
    /// not sent, one of another repository of the registry is mounted.
    ///
    /// # Errors
    /// The errors of [`Transfer::blob`], and [`Error::Upload`] if the registry does not accept it.
    pub async fn upload(
        &self,
        chain: &[Layer],
        index: usize,
        format: LayerFormat,
        to: RegistryUpload<'_>,
    ) -> Result<Descriptor, Error> {
        let descriptor = self.describe(chain, index, format, to.task).await?;
        let layer = as_blob(&chain[index], &descriptor);
        self.shared
            .sent
            .get((descriptor.digest, SentTo::Repository(to.target.clone())), || {
                self.send(&layer, &descriptor, to)
            })
            .await?;
        Ok(descriptor)
    }

    /// Uploads a layer to a remote and returns its descriptor. A blob that the remote has is not
    /// sent.
    ///
    /// # Errors
    /// The errors of [`Transfer::blob`], and [`Error::Send`] if the remote does not accept it.
    pub async fn upload_to(
        &self,
        chain: &[Layer],
        index: usize,
        format: LayerFormat,
        RemoteUpload { remote: to, task }: RemoteUpload<'_>,
    ) -> Result<Descriptor, Error> {
        let descriptor = self.describe(chain, index, format, task).await?;
        let layer = as_blob(&chain[index], &descriptor);
        let key = (descriptor.digest, SentTo::Remote(to.name().into()));
        let send = || self.send_to(&layer, &descriptor, to, task);
        self.shared.sent.get(key, send).await?;
        Ok(descriptor)
    }

    async fn send_to(
        &self,
        layer: &Layer,
        blob: &Descriptor,
        to: &dyn Remote,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        let failed = |source| Error::Send { digest: blob.digest, place: to.name().into(), source };
        if to.has(blob).await.map_err(failed)? {
            return Ok(());
        }
        self.fetch_blob(layer, task).await?;
        let meter = Meter::start(
            &self.shared.events,
            task,
            format!("writing layer {}", blob.digest),
            blob.size,
        );
        to.put(blob, &self.store().blob_path(&blob.digest)).await.map_err(failed)?;
        meter.add(blob.size);
        meter.finish();
        Ok(())
    }

    async fn send(
        &self,
        layer: &Layer,
        descriptor: &Descriptor,
        to: RegistryUpload<'_>,
    ) -> Result<(), Error> {
        let wanted = &to.target.repository;
        let elsewhere: Vec<&Repository> = layer
            .places
            .iter()
            .filter_map(on_registry)
            .filter(|repository| repository.host() == wanted.host())
            .collect();
        if elsewhere.contains(&wanted) {
            return Ok(());
        }
        let _lane = self.shared.send_lanes.acquire().await;
        let mount_from: Vec<Repository> = elsewhere.into_iter().cloned().collect();
        let expect = if descriptor.size <= SEND_UNASKED { Expect::New } else { Expect::Unknown };
        let source = LayerSource { transfer: self, layer, task: to.task };
        let client = self.client().for_host(wanted.host(), to.target.insecure);
        client.push_blob(wanted, descriptor, &source, &mount_from, expect).await.map(drop).map_err(
            |source| Error::Upload {
                digest: descriptor.digest,
                repository: wanted.to_string(),
                source,
            },
        )
    }
}

/// A layer with a given blob. The places are kept only if it is the layer's own blob.
fn as_blob(layer: &Layer, blob: &Descriptor) -> Layer {
    let same = layer.blob.as_ref().is_some_and(|own| own.digest == blob.digest);
    let places = if same { layer.places.clone() } else { Vec::new() };
    Layer { blob: Some(blob.clone()), places, ..layer.clone() }
}

/// The target of an upload.
#[derive(Clone, Copy)]
pub struct RegistryUpload<'a> {
    /// The repository.
    pub target: &'a PushTarget,
    /// The task that shows the progress.
    pub task: Option<TaskId>,
}

/// The target of an upload to a remote.
#[derive(Clone, Copy)]
pub struct RemoteUpload<'a> {
    /// The remote.
    pub remote: &'a dyn Remote,
    /// The task that shows the progress.
    pub task: Option<TaskId>,
}

fn on_registry(place: &Place) -> Option<&Repository> {
    match place {
        Place::Registry { repository, .. } => Some(repository),
        Place::Layout(_) | Place::Remote(_) => None,
    }
}

/// The bytes of a layer, fetched only if a registry requests them.
struct LayerSource<'a> {
    transfer: &'a Transfer,
    layer: &'a Layer,
    task: Option<TaskId>,
}

impl BlobSource for LayerSource<'_> {
    type Reader = tokio::fs::File;

    async fn open(&self, offset: u64) -> io::Result<tokio::fs::File> {
        let blob =
            self.transfer.fetch_blob(self.layer, self.task).await.map_err(io::Error::other)?;
        let mut file = tokio::fs::File::open(self.transfer.store().blob_path(&blob.digest)).await?;
        file.seek(io::SeekFrom::Start(offset)).await?;
        Ok(file)
    }
}
