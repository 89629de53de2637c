//! Fetching of layers into the store, as blobs or unpacked.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt, future};
use graph::{TaskId, chain_text};
use layer::{Layer, Place};
use oci::{Descriptor, Digest};
use store::PackedLayer;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tracing::Instrument as _;

use crate::error::SourceError;
use crate::readers::{Remembering, TeeReader, file_stream};
use crate::turn::HeldTurn;
use crate::{Destination, Error, Meter, Transfer, all, blocking};

/// Maximum number of attempts at a place that sends wrong bytes for a layer.
const MOST_GARBLED: u32 = 3;

/// A blob whose transfer has begun.
struct OpenBlob {
    stream: ByteStream,
    blob: Descriptor,
    /// The permit that limits concurrent downloads.
    lane: Option<OwnedSemaphorePermit>,
}

/// A layer of a chain that is wanted.
#[derive(Clone, Copy)]
struct ChainPlace<'a> {
    chain: &'a [Layer],
    index: usize,
    /// The task that shows its bytes.
    task: Option<TaskId>,
}

/// The bytes of a blob, as a place delivers them.
type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Transfer {
    /// Unpacks the layers of a chain that are not unpacked yet, concurrently.
    ///
    /// # Errors
    /// [`Error::Lost`] if no place has a layer, [`Error::Store`] if the store cannot keep it.
    pub async fn unpack(&self, chain: &[Layer], task: Option<TaskId>) -> Result<(), Error> {
        let work = (0..chain.len()).map(|index| self.unpack_one(chain, index, task));
        all(future::join_all(work).await).map(drop)
    }

    /// Unpacks one layer of a chain.
    ///
    /// # Errors
    /// As [`Transfer::unpack`].
    pub async fn unpack_at(
        &self,
        chain: &[Layer],
        index: usize,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        self.unpack_one(chain, index, task).await
    }

    async fn unpack_one(
        &self,
        chain: &[Layer],
        index: usize,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        let layer = &chain[index];
        self.shared.unpacked.get(layer.diff_id, || self.unpack_now(chain, index, task)).await
    }

    async fn unpack_now(
        &self,
        chain: &[Layer],
        index: usize,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        let layer = &chain[index];
        let diff_id = layer.diff_id;
        if self.store().is_unpacked(&diff_id).map_err(|source| Error::Store { diff_id, source })? {
            return Ok(());
        }
        match &layer.blob {
            // A concurrent request for the blob waits for this one, and finds the blob in the
            // store.
            Some(blob) if self.is_wanted(layer) => {
                let unpack = || async {
                    self.unpack_from_places(chain, index, task).await?;
                    // Another build may have unpacked the layer without keeping the blob.
                    self.fetch_blob_now(layer, blob, task).await
                };
                let fetched = self.shared.blobs.get((blob.digest, diff_id), unpack).await;
                match self.store().is_unpacked(&diff_id) {
                    // A blob that is missing is fetched again when it is needed.
                    Ok(true) => Ok(()),
                    // It may have been fetched by an earlier request that did not unpack it.
                    _ => {
                        fetched?;
                        self.unpack_from_places(chain, index, task).await
                    }
                }
            }
            _ => self.unpack_from_places(chain, index, task).await,
        }
    }

    /// Boxed to keep the nesting of future types within the compiler's limits.
    fn unpack_from_places<'a>(
        &'a self,
        chain: &'a [Layer],
        index: usize,
        task: Option<TaskId>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let layer = &chain[index];
        let is_here = || self.store().is_unpacked(&layer.diff_id).unwrap_or(false);
        async move {
            let turn = self.layer_turn(layer, task, is_here).await;
            let unpacked = match is_here() {
                true => Ok(()),
                false => {
                    let place = ChainPlace { chain, index, task };
                    let work = |opened| self.unpack_stream(opened, place, turn.clone());
                    self.with_any_source(layer, task, work).await
                }
            };
            turn.end(&unpacked);
            unpacked
        }
        .boxed()
    }

    /// Keeps the blobs of fetched layers that will go to a destination, to fetch them only once.
    pub fn keep_for(&self, destination: Destination) {
        let mut wanted = self.shared.wanted_by.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.push(destination);
    }

    /// True if the blob of a layer will be sent to a destination. Between two of its repositories,
    /// a registry mounts the blob itself.
    fn is_wanted(&self, layer: &Layer) -> bool {
        let wanted = self.shared.wanted_by.lock().unwrap_or_else(PoisonError::into_inner);
        let is_on = |place: &Place, host: &str| matches!(place, Place::Registry { repository, .. } if repository.host() == host);
        let lacks = |destination: &Destination| match destination {
            Destination::Registry(host) => !layer.places.iter().any(|place| is_on(place, host)),
            Destination::Elsewhere => true,
        };
        !layer.places.is_empty() && wanted.iter().any(lacks)
    }

    /// Passes the bytes of a layer to `work`, from the first source that delivers all of them.
    async fn with_any_source<F: Future<Output = Result<(), Error>>>(
        &self,
        layer: &Layer,
        task: Option<TaskId>,
        work: impl Fn(OpenBlob) -> F,
    ) -> Result<(), Error> {
        let layer = &self.with_stored_blob(layer);
        let size = layer.blob.as_ref().map(|blob| blob.size);
        let span = tracing::debug_span!("layer", diff_id = %layer.diff_id, size);
        self.try_sources(layer, task, work).instrument(span).await
    }

    async fn try_sources<F: Future<Output = Result<(), Error>>>(
        &self,
        layer: &Layer,
        task: Option<TaskId>,
        work: impl Fn(OpenBlob) -> F,
    ) -> Result<(), Error> {
        let mut tried = String::new();
        for source in self.sources(layer) {
            let mut attempt = 1;
            let message = loop {
                // Fails only if the semaphore is closed, and this one never is.
                let lane = self.shared.lanes.clone().acquire_owned().await.ok();
                let (stream, blob) = match self.open(&source, layer, task).await {
                    Ok(opened) => opened,
                    Err(error) => break chain_text(&error),
                };
                match work(OpenBlob { stream, blob, lane }).await {
                    Ok(()) => {
                        tracing::debug!(%source, attempt, "layer fetched");
                        return Ok(());
                    }
                    // The lost layer is one below, which this one has hard links to.
                    Err(error @ Error::Lost { .. }) => return Err(error),
                    Err(error) if error.is_of_this_machine() => return Err(error),
                    // The registry client does not use a mirror again that sent wrong bytes.
                    Err(error) if error.is_garbled() && attempt < MOST_GARBLED => attempt += 1,
                    Err(error) => break chain_text(&error),
                }
            };
            tracing::debug!(%source, attempt, reason = oci::shown_text(&message), "layer not available");
            let separator = if tried.is_empty() { "" } else { "; " };
            let _ = write!(tried, "{separator}{source}: {message}");
        }
        Err(lost(layer, tried))
    }

    /// A layer with its blob, if one was made after the layer's description.
    fn with_stored_blob(&self, layer: &Layer) -> Layer {
        let mut layer = layer.clone();
        if layer.blob.is_none() {
            layer.blob = self.store().stored_blob(&layer.diff_id).ok().flatten();
        }
        layer
    }

    async fn unpack_stream(
        &self,
        opened: OpenBlob,
        ChainPlace { chain, index, task }: ChainPlace<'_>,
        turn: HeldTurn,
    ) -> Result<(), Error> {
        let (store, diff_id) = (self.store().clone(), chain[index].diff_id);
        let parents: Vec<Digest> = chain[..index].iter().map(|layer| layer.diff_id).collect();
        let OpenBlob { stream, blob, lane } = opened;
        let keeps =
            self.is_wanted(&chain[index]) && !self.store().has_blob(&blob.digest).unwrap_or(true);
        let mut heard = Remembering::new(SyncIoBridge::new(StreamReader::new(stream)));
        let (transfer, below, runtime) =
            (self.clone(), chain[..index].to_vec(), tokio::runtime::Handle::current());
        blocking(move || {
            let mut reader = TeeReader::new(&mut heard, keeps.then_some(&store));
            let lost_below = Mutex::new(None);
            let lane = Mutex::new(lane);
            // A layer with hard links to files of a lower layer waits for that one. Lower layers
            // never wait for upper ones, so there is no deadlock. The permit is released during the
            // wait, and the turn: in another image, the two layers can be in the other order.
            let wait_for = |wanted: &Digest| {
                drop(lane.lock().unwrap_or_else(PoisonError::into_inner).take());
                if !store.is_unpacked(wanted)? {
                    turn.give_up();
                }
                let at = below.iter().rposition(|layer| layer.diff_id == *wanted);
                let result = at.map(|at| runtime.block_on(transfer.unpack_one(&below, at, task)));
                match result {
                    Some(Err(Error::Store { source, .. })) => return Err(source),
                    Some(Err(error)) => {
                        *lost_below.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    Some(Ok(())) | None => (),
                }
                // The store reports the missing parent.
                Ok(())
            };
            let layer = PackedLayer {
                wait_for: Some(&wait_for),
                ..PackedLayer::new(&blob, diff_id, &parents)
            };
            let unpacked = store.unpack(&mut reader, &layer);
            let lost_below = lost_below.into_inner().unwrap_or_else(PoisonError::into_inner);
            match (unpacked, lost_below) {
                (Ok(_), _) => {
                    reader.keep(&blob);
                    Ok(())
                }
                (Err(_), Some(error)) => Err(error),
                (Err(source), None) => Err(heard.cause_of(Error::Store { diff_id, source })),
            }
        })
        .await
    }

    /// Fetches the blob of a layer into the store.
    ///
    /// # Errors
    /// [`Error::Lost`] if the layer has no blob or no place has it.
    pub async fn fetch_blob(
        &self,
        layer: &Layer,
        task: Option<TaskId>,
    ) -> Result<Descriptor, Error> {
        let Some(blob) = layer.blob.clone() else {
            return Err(lost(layer, "it was never compressed".into()));
        };
        let key = (blob.digest, layer.diff_id);
        self.shared.blobs.get(key, || self.fetch_blob_now(layer, &blob, task)).await?;
        Ok(blob)
    }

    /// Boxed as [`Self::unpack_from_places`].
    fn fetch_blob_now<'a>(
        &'a self,
        layer: &'a Layer,
        blob: &'a Descriptor,
        task: Option<TaskId>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let has_blob = || self.store().has_blob(&blob.digest);
        let failed = |source| Error::Store { diff_id: layer.diff_id, source };
        async move {
            if has_blob().map_err(failed)? {
                return self.check_layer(layer, blob.clone()).await;
            }
            let turn = self.layer_turn(layer, task, || has_blob().unwrap_or(false)).await;
            let fetched = match has_blob().map_err(failed)? {
                true => self.check_layer(layer, blob.clone()).await,
                false => {
                    let keep = |opened| self.keep_blob(opened, layer.diff_id, turn.clone());
                    self.with_any_source(layer, task, keep).await
                }
            };
            turn.end(&fetched);
            fetched
        }
        .boxed()
    }

    /// Checks once that a stored blob is the layer that the caller takes it for. A layer with the
    /// wrong diffID counts as lost.
    async fn check_layer(&self, layer: &Layer, blob: Descriptor) -> Result<(), Error> {
        let (store, diff_id) = (self.store().clone(), layer.diff_id);
        let checked = blocking(move || store.check_layer_blob(&blob, &diff_id)).await;
        checked.map_err(|error| lost(layer, format!("{}: {}", Source::Here, chain_text(&error))))
    }

    async fn keep_blob(
        &self,
        opened: OpenBlob,
        diff_id: Digest,
        turn: HeldTurn,
    ) -> Result<(), Error> {
        let store = self.store().clone();
        let OpenBlob { stream, blob, lane } = opened;
        // One more byte reveals a blob that is too long.
        let mut reader = SyncIoBridge::new(StreamReader::new(stream)).take(blob.size + 1);
        let kept = blocking(move || {
            // Also after the caller has been dropped.
            let _held = turn;
            let mut writer = store.blob_writer()?;
            io::copy(&mut reader, &mut writer).map_err(store::Error::read_archive)?;
            writer.commit(Some((blob.digest, blob.size)))?;
            store.check_layer_blob(&blob, &diff_id)
        });
        let kept = kept.await.map_err(|source| Error::Store { diff_id, source });
        drop(lane);
        kept
    }

    /// The sources of a layer's bytes, nearest first.
    fn sources(&self, layer: &Layer) -> Vec<Source> {
        let here = layer
            .blob
            .as_ref()
            .is_some_and(|blob| self.store().has_blob(&blob.digest).unwrap_or(false));
        let places = layer.places.iter().cloned().map(Source::Place);
        here.then_some(Source::Here).into_iter().chain(places).collect()
    }

    async fn open(
        &self,
        source: &Source,
        layer: &Layer,
        task: Option<TaskId>,
    ) -> Result<(ByteStream, Descriptor), SourceError> {
        let blob = layer.blob.clone().ok_or(SourceError::NoBlob)?;
        let stream: ByteStream = match source {
            Source::Here => Box::pin(file_stream(&self.store().blob_path(&blob.digest)).await?),
            Source::Place(Place::Layout(folder)) => {
                Box::pin(file_stream(&folder.join("blobs/sha256").join(blob.digest.hex())).await?)
            }
            Source::Place(Place::Registry { repository, insecure }) => {
                let client = self.client().for_host(repository.host(), *insecure);
                let stream = client.blob(repository, &blob).await?;
                let meter =
                    Meter::start(&self.shared.events, task, blob.digest.to_string(), blob.size);
                Box::pin(metered(stream.map(|chunk| chunk.map_err(io::Error::other)), meter))
            }
            Source::Place(Place::Remote(name)) => {
                let remote = self.remote(name).ok_or(SourceError::UnknownRemote)?;
                let stream = remote.open(&blob).await?;
                let meter =
                    Meter::start(&self.shared.events, task, blob.digest.to_string(), blob.size);
                Box::pin(metered(stream, meter))
            }
        };
        Ok((stream, blob))
    }
}

/// Reports the progress of a stream to a meter.
fn metered(
    stream: impl Stream<Item = io::Result<Bytes>> + Send,
    meter: Meter,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let over = futures_util::stream::once(future::ready(None));
    stream.map(Some).chain(over).filter_map(move |item| {
        match &item {
            Some(Ok(bytes)) => meter.add(bytes.len() as u64),
            Some(Err(_)) => (),
            None => meter.finish(),
        }
        future::ready(item)
    })
}

/// A source of a layer's bytes.
enum Source {
    Here,
    Place(Place),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here => f.write_str("this store"),
            Self::Place(Place::Registry { repository, .. }) => write!(f, "`{repository}`"),
            Self::Place(Place::Layout(folder)) => write!(f, "`{}`", folder.display()),
            Self::Place(Place::Remote(name)) => write!(f, "`{name}`"),
        }
    }
}

fn lost(layer: &Layer, tried: String) -> Error {
    let tried = if tried.is_empty() { "no place is known that has it".into() } else { tried };
    Error::Lost { layers: vec![layer.diff_id], tried }
}
