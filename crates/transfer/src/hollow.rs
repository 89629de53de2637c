//! Layers whose files come when they are opened: which ones, and the requests for their blocks.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use graph::TaskId;
use layer::{BlockRange, Layer};
use oci::{Descriptor, Digest};
use store::{FileNumber, HollowLayer};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::error::SourceError;
use crate::{Error, Transfer, TransferInner, all, blocking};

/// Bytes of a blob from which its layer's files come when they are opened. A smaller one is here
/// sooner than the answers to a few requests for its parts.
const WORTH_IT: u64 = 4 << 20;
/// Number of concurrent requests for ranges of a blob.
const AT_ONCE: usize = 4;

/// The roots of commands that are filled when their files are opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lazy {
    /// Those with large layers that are not here.
    #[default]
    Auto,
    /// All, as far as it is possible.
    Always,
    /// None.
    Never,
}

/// The hollow layers of a build, and what was lost of them.
#[derive(Default)]
pub(crate) struct HollowLayers {
    lost: Mutex<HashMap<Digest, Arc<Error>>>,
    changed: Notify,
}

/// The part of a root that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Bytes of blobs that came.
    pub bytes: u64,
    /// Bytes of the same blobs in all.
    pub total: u64,
}

impl Transfer {
    /// Makes the layers of a chain ready to be mounted: unpacked, or hollow where the files of a large
    /// layer can come when they are opened.
    ///
    /// # Errors
    /// The errors of [`Transfer::unpack`].
    pub async fn make_mountable(
        &self,
        chain: &[Layer],
        lazy: Lazy,
        task: Option<TaskId>,
    ) -> Result<(), Error> {
        let hollow = self.to_be_hollow(chain, lazy).await;
        // Before the others, because those look at the headers of folders below.
        for index in &hollow {
            if let Err(error) = self.make_hollow(chain, *index).await {
                let reason = oci::shown_text(&crate::chain_text(&error)).to_string();
                tracing::debug!(diff_id = %chain[*index].diff_id, reason, "layer not hollow");
            }
        }
        let is_ready = |layer: &Layer| self.store().hollow_layer(&layer.diff_id).is_some();
        let rest = (0..chain.len()).filter(|index| !is_ready(&chain[*index]));
        let work = rest.map(|index| self.unpack_at(chain, index, task));
        all(future::join_all(work).await).map(drop)
    }

    /// Waits until contents of hollow layers of a chain cannot be had any more.
    pub async fn loses_contents(&self, chain: &[Layer]) {
        loop {
            let changed = self.shared.hollow.changed.notified();
            if self.lost_contents(chain).is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Returns the reason why contents of hollow layers of a chain could not be had.
    pub fn lost_contents(&self, chain: &[Layer]) -> Option<Arc<Error>> {
        let lost = self.shared.hollow.lost.lock().unwrap_or_else(PoisonError::into_inner);
        chain.iter().find_map(|layer| lost.get(&layer.diff_id).cloned())
    }

    /// The hollow layers of a chain, and how much of them came; `None` if there are none.
    pub fn brought(&self, chain: &[Layer]) -> Option<Brought> {
        self.hollow_of(chain).map(|(_, layer)| layer.progress()).fold(
            None,
            |sum, (bytes, total)| {
                let Brought { bytes: before, total: size } = sum.unwrap_or_default();
                Some(Brought { bytes: before + bytes, total: size + total })
            },
        )
    }

    /// Begins new lists of the files that are opened in hollow layers of a chain.
    pub fn list_opened_from_now(&self, chain: &[Layer]) {
        self.hollow_of(chain).for_each(|(_, hollow)| hollow.list_opened_from_now());
    }

    /// The files that were opened since then, by layer.
    pub fn opened(&self, chain: &[Layer]) -> Vec<(Digest, Vec<Box<[u8]>>)> {
        let opened = self.hollow_of(chain);
        let opened = opened.map(|(layer, hollow)| (layer.diff_id, hollow.opened_paths()));
        opened.filter(|(_, paths)| !paths.is_empty()).collect()
    }

    /// Fills some files of hollow layers of a chain. What fails is tried again when it is opened.
    pub async fn fill_first(&self, chain: &[Layer], files: &[(Digest, Vec<Box<[u8]>>)]) {
        let filled = self.hollow_of(chain).filter_map(|(layer, hollow)| {
            let (_, paths) = files.iter().find(|(diff_id, _)| *diff_id == layer.diff_id)?;
            let files = hollow.empty_files(paths);
            Some(async move {
                if files.is_empty() {
                    return;
                }
                let brought = self.bring(&hollow, layer, &files).await;
                let reason = brought.err().map(|error| crate::chain_text(&error));
                let failed = reason.as_deref().map(oci::shown_text);
                tracing::debug!(files = files.len(), failed, "files fetched first");
            })
        });
        future::join_all(filled).await;
    }

    /// The hollow layers of a chain, each once.
    fn hollow_of<'a>(
        &'a self,
        chain: &'a [Layer],
    ) -> impl Iterator<Item = (&'a Layer, Arc<HollowLayer>)> {
        let distinct: BTreeMap<Digest, &Layer> =
            chain.iter().map(|layer| (layer.diff_id, layer)).collect();
        distinct
            .into_values()
            .filter_map(|layer| Some((layer, self.store().hollow_layer(&layer.diff_id)?)))
    }

    /// True if a layer of a chain is not here and large enough to be hollow.
    pub fn may_be_hollow(&self, chain: &[Layer], lazy: Lazy) -> bool {
        // The lowest layers of a long chain become one folder, which has to be whole.
        chain.len() <= store::MOST_LOWERS && chain.iter().any(|layer| self.is_worth_it(layer, lazy))
    }

    fn is_worth_it(&self, layer: &Layer, lazy: Lazy) -> bool {
        let least = match lazy {
            Lazy::Auto => WORTH_IT,
            Lazy::Always => 0,
            Lazy::Never => return false,
        };
        let Some(blob) = layer.blob.as_ref().filter(|_| !layer.places.is_empty()) else {
            return false;
        };
        blob.size >= least
            && !self.store().has_blob(&blob.digest).unwrap_or(true)
            && !self.store().is_unpacked(&layer.diff_id).unwrap_or(true)
    }

    /// The positions of the layers of a chain that are to be hollow.
    async fn to_be_hollow(&self, chain: &[Layer], lazy: Lazy) -> Vec<usize> {
        if !self.may_be_hollow(chain, lazy) {
            return Vec::new();
        }
        let is_missing = |layer: &Layer| self.is_worth_it(layer, lazy);
        self.lend_indexes(chain).await;
        let can_be = |layer: &Layer| {
            let blob = layer.blob.as_ref();
            blob.is_some_and(|blob| self.store().can_be_hollow(&layer.diff_id, blob))
        };
        (0..chain.len())
            .filter(|index| is_missing(&chain[*index]) && can_be(&chain[*index]))
            .filter(|index| {
                chain[..*index].iter().all(|below| self.store().has_index(&below.diff_id))
            })
            .collect()
    }

    async fn make_hollow(&self, chain: &[Layer], index: usize) -> Result<(), Error> {
        let layer = &chain[index];
        let diff_id = layer.diff_id;
        let make = || async {
            let Some(blob) = layer.blob.clone() else { return Ok(()) };
            let parents: Vec<Digest> = chain[..index].iter().map(|layer| layer.diff_id).collect();
            let store = self.store().clone();
            let made = blocking(move || store.hollow(&diff_id, &blob, &parents)).await;
            let Some(hollow) = made.map_err(|source| Error::Store { diff_id, source })? else {
                return Ok(());
            };
            let (sender, wanted) = unbounded_channel();
            // An error: this build is over.
            hollow.fill_by(Box::new(move |file| {
                let _ = sender.send(file);
            }));
            let first = hollow.first_files();
            if !first.is_empty() {
                self.bring(&hollow, layer, &first).await?;
            }
            let shared = Arc::downgrade(&self.shared);
            tokio::spawn(fill(shared, Arc::downgrade(&hollow), layer.clone(), wanted));
            Ok(())
        };
        self.shared.made_hollow.get(diff_id, make).await
    }

    /// Brings the contents of some files, and lets their opens go on.
    async fn bring(
        &self,
        hollow: &Arc<HollowLayer>,
        layer: &Layer,
        files: &[FileNumber],
    ) -> Result<(), Error> {
        let diff_id = layer.diff_id;
        let failed = |source| Error::Store { diff_id, source };
        let Some(blob) = &layer.blob else { return Ok(()) };
        if self.bring_ranges(hollow, layer, blob, files).await.is_err() {
            // A registry without ranges, or one that is not itself today: the whole blob, which is
            // retried and checked.
            self.fetch_blob(layer, None).await?;
            self.bring_ranges(hollow, layer, blob, files).await?;
        }
        let (hollow, files) = (hollow.clone(), files.to_vec());
        let filled = blocking(move || files.into_iter().try_for_each(|file| hollow.fill(file)));
        filled.await.map_err(failed)
    }

    async fn bring_ranges(
        &self,
        hollow: &Arc<HollowLayer>,
        layer: &Layer,
        blob: &Descriptor,
        files: &[FileNumber],
    ) -> Result<(), Error> {
        let diff_id = layer.diff_id;
        let failed = |source| Error::Store { diff_id, source };
        let ranges = hollow.missing(files).map_err(failed)?;
        let read = ranges.into_iter().map(|range| async move {
            let (bytes, sent) = self.range_anywhere(layer, blob, &range).await?;
            let hollow = hollow.clone();
            blocking(move || hollow.put(&range, &bytes, sent)).await.map_err(failed)
        });
        stream::iter(read).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// The bytes of a range of a blob, and how many of them came over the network.
    async fn range_anywhere(
        &self,
        layer: &Layer,
        blob: &Descriptor,
        range: &BlockRange,
    ) -> Result<(Bytes, u64), Error> {
        let size = range.bytes.end - range.bytes.start;
        if self.store().has_blob(&blob.digest).unwrap_or(false) {
            let (path, start) = (self.store().blob_path(&blob.digest), range.bytes.start);
            let read = blocking(move || {
                let mut bytes = vec![0; size as usize];
                store::open_regular(&path)?.read_exact_at(&mut bytes, start)?;
                Ok::<_, std::io::Error>(Bytes::from(bytes))
            });
            let read = read.await.map_err(store::Error::read_archive);
            let failed = |source| Error::Store { diff_id: layer.diff_id, source };
            return Ok((read.map_err(failed)?, 0));
        }
        // Fails only if the semaphore is closed, and this one never is.
        let _lane = self.shared.lanes.clone().acquire_owned().await.ok();
        let mut last = SourceError::NoBlob;
        for place in &layer.places {
            match self.read_range(place, blob, range.bytes.clone()).await {
                Ok(bytes) if bytes.len() as u64 == size => return Ok((bytes, size)),
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(Error::Lost { layers: vec![layer.diff_id], tried: crate::chain_text(&last) })
    }
}

/// Fills the files that are opened, as long as their layer exists. All that came while the last ones
/// were filled are filled together.
async fn fill(
    shared: Weak<TransferInner>,
    hollow: Weak<HollowLayer>,
    layer: Layer,
    mut wanted: UnboundedReceiver<FileNumber>,
) {
    while let Some(first) = wanted.recv().await {
        let mut files = vec![first];
        while let Ok(next) = wanted.try_recv() {
            files.push(next);
        }
        let (Some(shared), Some(hollow)) = (shared.upgrade(), hollow.upgrade()) else { return };
        let transfer = Transfer { shared };
        tracing::debug!(files = files.len(), "files filled");
        if let Err(error) = transfer.bring(&hollow, &layer, &files).await {
            tracing::debug!(
                diff_id = %layer.diff_id,
                reason = oci::shown_text(&crate::chain_text(&error)),
                "contents of a hollow layer are lost"
            );
            let layers = &transfer.shared.hollow;
            let mut lost = layers.lost.lock().unwrap_or_else(PoisonError::into_inner);
            lost.insert(layer.diff_id, Arc::new(error));
            drop(lost);
            layers.changed.notify_waiters();
            hollow.give_up();
        }
    }
}
