//! Files of layers, without the rest of the layers where possible.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use graph::TaskId;
use layer::{Layer, Place};
use oci::Descriptor;
use store::Part;
use tree::LayerPaths;

use crate::error::SourceError;
use crate::{Error, Meter, Transfer, all, blocking};

/// Number of concurrent requests for ranges of a blob.
const AT_ONCE: usize = 2;

impl Transfer {
    /// Brings files of a chain's layers into the store. Of a layer that kiln compressed, and that
    /// is not in the store, only the blocks with the files are read if they are few; other layers
    /// are unpacked.
    ///
    /// # Errors
    /// As [`Transfer::unpack`].
    pub async fn fetch_files(
        &self,
        chain: &[Layer],
        wanted: &LayerPaths,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        let fetched = chain.iter().enumerate().filter_map(|(index, layer)| {
            let paths = wanted.get(&layer.diff_id)?;
            Some(self.fetch_files_of(chain, index, paths, task))
        });
        all(future::join_all(fetched).await).map(drop)
    }

    async fn fetch_files_of(
        &self,
        chain: &[Layer],
        index: usize,
        paths: &BTreeSet<Arc<[u8]>>,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        match self.fetch_part(&chain[index], paths, task).await? {
            true => Ok(()),
            false => self.unpack_at(chain, index, task).await,
        }
    }

    /// Returns true if the files are in the store without the rest of the layer. Failures of places
    /// are not reported, because the whole layer is tried next, which reports its own.
    async fn fetch_part(
        &self,
        layer: &Layer,
        paths: &BTreeSet<Arc<[u8]>>,
        task: Option<TaskId>,
    ) -> Result<bool, Error> {
        let failed = |source| Error::Store { diff_id: layer.diff_id, source };
        let Some(blob) = &layer.blob else { return Ok(false) };
        let store = self.store();
        let is_here = store.is_unpacked(&layer.diff_id).map_err(failed)?
            || store.has_blob(&blob.digest).map_err(failed)?;
        if is_here {
            return Ok(false);
        }
        if store.has_part(&layer.diff_id, paths) {
            return Ok(true);
        }
        let Some(part) = store.part(&layer.diff_id, blob, paths).map_err(failed)? else {
            return Ok(false);
        };
        // Fails only if the semaphore is closed, and this one never is.
        let _lane = self.shared.lanes.clone().acquire_owned().await.ok();
        let part = Arc::new(part);
        for place in &layer.places {
            if self.read_part(place, blob, &part, task).await.is_err() {
                continue;
            }
            let (store, part) = (store.clone(), part.clone());
            if blocking(move || store.keep_part(&part)).await.is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read_part(
        &self,
        place: &Place,
        blob: &Descriptor,
        part: &Arc<Part>,
        task: Option<TaskId>,
    ) -> Result<(), SourceError> {
        let total = part.ranges.iter().map(|range| range.bytes.end - range.bytes.start).sum();
        let meter = Meter::start(&self.shared.events, task, blob.digest.to_string(), total);
        let meter = &meter;
        // Cloned, because the compiler cannot prove that borrowed ranges live long enough.
        let read = part.ranges.clone().into_iter().map(|range| async move {
            let bytes = self.read_range(place, blob, range.bytes.clone()).await?;
            meter.add(bytes.len() as u64);
            let (store, part) = (self.store().clone(), part.clone());
            Ok(blocking(move || store.put_range(&part, &range, &bytes)).await?)
        });
        let result = stream::iter(read).buffer_unordered(AT_ONCE).try_collect::<()>().await;
        meter.finish();
        result
    }

    pub(crate) async fn read_range(
        &self,
        place: &Place,
        blob: &Descriptor,
        range: Range<u64>,
    ) -> Result<Bytes, SourceError> {
        match place {
            Place::Registry { repository, insecure } => {
                let client = self.client().for_host(repository.host(), *insecure);
                Ok(client.blob_part(repository, blob, range).await?)
            }
            Place::Layout(folder) => {
                let path = folder.join("blobs/sha256").join(blob.digest.hex());
                blocking(move || {
                    let mut bytes = vec![0; (range.end - range.start) as usize];
                    store::open_regular(&path)?.read_exact_at(&mut bytes, range.start)?;
                    Ok(Bytes::from(bytes))
                })
                .await
            }
            Place::Remote(name) => {
                let remote = self.remote(name).ok_or(SourceError::UnknownRemote)?;
                Ok(remote.part(blob, range).await?)
            }
        }
    }
}
