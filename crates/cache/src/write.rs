//! Writing a cache without losing what other builds write: read, merge, write, look again.
//!
//! A registry replaces a tag unconditionally, so a writer looks twice: right before it writes, to see
//! that the tag still names the cache it merged with, and again once a writer that looked before it
//! must have written too. If another cache is there then, it is merged and written again.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use graph::TaskId;
use layer::{Chain, Layer};
use oci::{Descriptor, Digest};
use transfer::{LayerFormat, Transfer};

use crate::backend::{Backend, ImportedCache, LayerUpload};
use crate::format::manifest::StoredForm;
use crate::format::order::contents;
use crate::format::prune::{self, BUILDKIT_LIMIT};
use crate::format::{CacheContents, CacheDocuments, CachePlan, Form, Pruned};
use crate::sidecar::{Additions, Sidecar};
use crate::{Error, Export};

/// Attempts, between each two of which another writer came.
const ATTEMPTS: u32 = 12;
/// First attempts after which a manifest that a registry refused is sent again.
const REFUSALS: u32 = 3;
/// Bounds of the time within which a writer that saw the old cache has written.
const SHORTEST_PAUSE: Duration = Duration::from_millis(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// The time for a concurrent write, as a multiple of the time that writing took here.
const WINDOWS: u32 = 3;

/// Options of a cache that is written.
pub struct WriteRequest {
    /// The compression of layers.
    pub format: LayerFormat,
    /// The document that holds the cache together, where the back end leaves a choice.
    pub form: Form,
    /// The cache that the back end had when the build began, if it was read.
    pub known: Option<Arc<ImportedCache>>,
    /// Additions to the sidecar.
    pub sidecar: Option<SidecarUpdate>,
    /// The progress task.
    pub task: Option<TaskId>,
}

/// Additions to a cache's sidecar, which the cache then names.
#[derive(Clone)]
pub struct SidecarUpdate {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The additions.
    pub additions: Arc<dyn Additions>,
}

/// A cache that was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its manifest, or its config where the back end keeps no manifest.
    pub descriptor: Descriptor,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Number of its records.
    pub records: usize,
    /// The records that were removed to make room.
    pub pruned: Option<Pruned>,
}

/// Adds a build's records to the cache of a back end. If none of them is new, nothing is sent, and
/// nothing is asked.
///
/// # Errors
/// If a layer cannot be found, or a request to the back end fails.
pub async fn write(
    export: &Export,
    transfer: &Transfer,
    backend: &dyn Backend,
    request: &WriteRequest,
) -> Result<Exported, Error> {
    Writer { export, transfer, backend, request }.write().await
}

struct Writer<'a> {
    export: &'a Export,
    transfer: &'a Transfer,
    backend: &'a dyn Backend,
    request: &'a WriteRequest,
}

/// The content of the back end at a time.
#[derive(Clone, Default)]
struct Present {
    /// Digest of the document; none if there is none.
    digest: Option<Digest>,
    /// The cache; none if the document is something else.
    cache: Option<Arc<ImportedCache>>,
}

impl From<Arc<ImportedCache>> for Present {
    fn from(cache: Arc<ImportedCache>) -> Self {
        Self { digest: Some(cache.manifest), cache: Some(cache) }
    }
}

/// A cache to write.
struct Merged {
    plan: CachePlan,
    contents: CacheContents,
    documents: CacheDocuments,
    pruned: Option<Pruned>,
}

impl Writer<'_> {
    async fn write(&self) -> Result<Exported, Error> {
        let mut notes = Vec::new();
        let has_additions =
            self.request.sidecar.as_ref().is_some_and(|update| update.additions.is_news());
        // With the lock, the cache is read again: another writer may have come before.
        let lock = self.backend.lock().await;
        let mut there = match &self.request.known {
            Some(known) if lock.is_none() => Present::from(known.clone()),
            _ => self.read(&mut notes).await?,
        };
        let mut missing = BTreeSet::new();
        for attempt in 0..ATTEMPTS {
            let cache = there.cache.as_ref();
            let mut plan = cache.map(|cache| cache.records.plan()).unwrap_or_default();
            if !missing.is_empty() {
                // The layers of other builds that the back end has lost cannot be sent again.
                let is_own = |chain: Digest| self.export.has_chain(chain);
                plan.forget(|id, blob| missing.contains(&blob) && !is_own(id));
            }
            // Layers that were made again replace others' at the first attempt alone, or two writers
            // would overwrite each other's without end.
            let replaced = self.export.replaced(&plan, attempt == 0, &missing);
            self.export.add_to(&mut plan, &replaced);
            if let Some(there) = cache
                && !plan.is_changed()
                && !has_additions
                && self.has_form(there)
                && !self.backend.expires()
            {
                self.tag_sidecar(plan.sidecar, attempt).await;
                return Ok(self.unchanged(there, notes, plan.records.len()));
            }
            let merged = self.merge(plan, &missing, &mut notes).await?;
            if there.digest == Some(merged.documents.descriptor.digest) {
                if self.backend.expires() {
                    self.put(&merged).await?;
                }
                return Ok(self.done(merged, notes));
            }
            self.backend.prepare(&merged.documents).await?;
            let began = Instant::now();
            if lock.is_none() && self.backend.current_digest().await? != there.digest {
                there = self.read(&mut notes).await?;
                continue;
            }
            if let Err(error) = self.put(&merged).await {
                // A registry may refuse a manifest while another client sends the same blob, or
                // because layers are lost.
                match error {
                    Error::Registry(error) if attempt < REFUSALS && !error.is_unauthorized() => (),
                    error => return Err(error),
                }
                missing = self.backend.missing(&merged.contents).await?;
                tokio::time::sleep(pause(began.elapsed(), attempt)).await;
                there = self.read(&mut notes).await?;
                continue;
            }
            if lock.is_some() {
                return Ok(self.done(merged, notes));
            }
            tokio::time::sleep(pause(began.elapsed(), attempt)).await;
            if self.backend.current_digest().await? == Some(merged.documents.descriptor.digest) {
                self.tag_sidecar(merged.plan.sidecar, attempt).await;
                return Ok(self.done(merged, notes));
            }
            there = self.read(&mut notes).await?;
        }
        Err(Error::Contended { backend: self.backend.name(), attempts: ATTEMPTS })
    }

    async fn put(&self, merged: &Merged) -> Result<(), Error> {
        self.backend.put(self.transfer.store(), &merged.contents, &merged.documents).await
    }

    /// Reads the back end's content. A document that is not a cache will be replaced, which is noted.
    async fn read(&self, notes: &mut Vec<String>) -> Result<Present, Error> {
        match self.backend.import().await {
            Ok(imported) => Ok(Arc::new(imported).into()),
            Err(error) if error.is_absent() => Ok(Present::default()),
            Err(error) if error.is_of_content() => {
                let text = graph::chain_text(&error);
                let note = format!(
                    "`{}` held no cache to add to, and does now: {text}",
                    self.backend.name()
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
                Ok(Present { digest: self.backend.current_digest().await?, cache: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the layers and makes the documents.
    async fn merge(
        &self,
        mut plan: CachePlan,
        missing: &BTreeSet<Digest>,
        notes: &mut Vec<String>,
    ) -> Result<Merged, Error> {
        // A fresh transfer does not skip lost layers as sent before.
        let transfer =
            if missing.is_empty() { self.transfer.clone() } else { self.transfer.afresh() };
        let place = self.backend.layer_place();
        let layers_of = |chain: &Chain| {
            let mut layers = needed_layers(chain, self.request.format);
            let is_missing = |layer: &&mut Layer| {
                layer.blob.as_ref().is_some_and(|blob| missing.contains(&blob.digest))
            };
            for layer in layers.iter_mut().filter(is_missing) {
                layer.places.retain(|known| Some(known) != place.as_ref());
            }
            layers
        };
        let format = self.request.format;
        let mut blobs: HashMap<Digest, Descriptor> = HashMap::new();
        let mut own: Vec<Chain> = Vec::new();
        for chain in plan.chains() {
            let (Some(id), Some(layer)) = (chain.id(), chain.top()) else { continue };
            match (self.export.has_chain(id), &layer.blob) {
                (false, Some(blob)) => {
                    blobs.insert(id, blob.clone());
                }
                _ => own.push(chain),
            }
        }
        let describe = own.iter().map(|chain| {
            let (layers, transfer) = (layers_of(chain), &transfer);
            async move {
                let top = layers.len() - 1;
                transfer.describe(&layers, top, format, self.request.task).await
            }
        });
        let described = transfer::all(join_all(describe).await)?;
        blobs.extend(
            own.iter().zip(described).filter_map(|(chain, blob)| Some((chain.id()?, blob))),
        );
        // Compressed layers have the block tables that their indexes need.
        plan.sidecar = self.update_sidecar(plan.sidecar, notes).await;
        let documents =
            |plan: &CachePlan| self.backend.documents(&contents(plan, &blobs), self.request.form);
        let measure = |plan: &CachePlan| documents(plan).map(|documents| documents.largest());
        let pruned = prune::fit(&mut plan, &blobs, self.export.today(), measure)?;
        let is_kept = |chain: &&Chain| chain.id().is_some_and(|id| plan.layer(id).is_some());
        let sent = own.iter().filter(is_kept).map(|chain| {
            let (layers, transfer) = (layers_of(chain), &transfer);
            async move {
                let task = self.request.task;
                let upload = LayerUpload { transfer, layers: &layers, format, task };
                self.backend.send_layer(upload).await
            }
        });
        transfer::all(join_all(sent).await)?;
        let (contents, documents) = (contents(&plan, &blobs), documents(&plan)?);
        Ok(Merged { plan, contents, documents, pruned })
    }

    /// Writes the additions to the sidecar and returns the sidecar that the cache is to name. A failure
    /// costs a note: a cache without a sidecar is complete.
    async fn update_sidecar(
        &self,
        named: Option<Digest>,
        notes: &mut Vec<String>,
    ) -> Option<Digest> {
        let Some(SidecarUpdate { sidecar, additions }) = &self.request.sidecar else {
            return named;
        };
        match sidecar.add(named, &**additions).await {
            Ok(written) => written,
            Err(error) => {
                let text = graph::chain_text(&error);
                let note = format!("nothing was left beside the cache: {text}");
                if !notes.contains(&note) {
                    notes.push(note);
                }
                named
            }
        }
    }

    /// Tags the sidecar that the cache names. After other writers came between, the tag may be on
    /// another one.
    async fn tag_sidecar(&self, named: Option<Digest>, attempt: u32) {
        if attempt > 0
            && let (Some(update), Some(named)) = (&self.request.sidecar, named)
        {
            // Untagged, it exists until the registry collects garbage, and the next export tags it.
            let _ = update.sidecar.tag(named).await;
        }
    }

    fn has_form(&self, there: &ImportedCache) -> bool {
        match StoredForm::of(&there.bytes) {
            StoredForm::ConfigAlone => true,
            StoredForm::Cache(form) => form == self.request.form,
            StoredForm::Image => false,
        }
    }

    fn unchanged(&self, there: &ImportedCache, notes: Vec<String>, records: usize) -> Exported {
        let media_type = match StoredForm::of(&there.bytes) {
            StoredForm::ConfigAlone => oci::media_type::BUILDKIT_CACHE_CONFIG,
            StoredForm::Cache(_) | StoredForm::Image => self.request.form.media_type(),
        };
        let descriptor = Descriptor::new(media_type, there.manifest, there.bytes.len() as u64);
        Exported { descriptor, notes, records, pruned: None }
    }

    fn done(&self, merged: Merged, mut notes: Vec<String>) -> Exported {
        let Merged { plan, documents, pruned, .. } = merged;
        let records = plan.records.len();
        notes.extend(pruned.as_ref().map(|pruned| pruned.note(self.export.today())));
        let large = documents.largest();
        if large > BUILDKIT_LIMIT {
            notes.push(format!("the cache has {records} records and a document of {large} bytes: kiln reads it, BuildKit reads at most {BUILDKIT_LIMIT}"));
        }
        Exported { descriptor: documents.descriptor, notes, records, pruned }
    }
}

/// The layers of a chain that are needed to write its top layer: those below serve only to unpack a
/// layer that has to be compressed.
fn needed_layers(chain: &Chain, format: LayerFormat) -> Vec<Layer> {
    match chain.top() {
        Some(top) if Transfer::known_blob(top, format).is_some() => vec![top.clone()],
        _ => chain.layers(),
    }
}

/// The time to wait until a concurrent writer is done: a multiple of the time that writing took here,
/// longer with each attempt, and randomized so that two writers do not wait equally long.
fn pause(window: Duration, attempt: u32) -> Duration {
    let chance = std::hash::RandomState::new().build_hasher().finish() % 1000;
    let longest = (window * WINDOWS).max(SHORTEST_PAUSE) * (1 << attempt.min(4));
    let pause = longest.mul_f64(1.0 + chance as f64 / 1000.0);
    pause.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_longer_than_what_another_writer_needs() {
        for attempt in 0..40 {
            let window = Duration::from_millis(100);
            let pause = pause(window, attempt);
            assert!(pause >= window * WINDOWS && pause <= LONGEST_PAUSE, "{attempt}: {pause:?}");
        }
        assert_eq!(pause(Duration::from_secs(600), 0), LONGEST_PAUSE);
    }
}
