//! Writing a cache without losing what others wrote: read, merge, write, look again.
//!
//! A registry replaces what a tag names without a word to whoever wrote it before, so a writer
//! looks twice. Right before it writes, it sees whether the tag still names what it merged with;
//! and it looks again when a writer that looked before it must have written too. What is missing
//! then is merged and written again.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use graph::TaskId;
use oci::{Descriptor, Digest};
use serde::Deserialize;
use store::{Chain, Layer};
use transfer::{LayerFormat, Transfer};

use crate::beside::{Additions, Beside};
use crate::import::Imported;
use crate::order::contents;
use crate::place::{Contents, Documents, Form, Place};
use crate::plan::Plan;
use crate::prune::{self, BUILDKIT_LIMIT, Pruned};
use crate::{Error, Export, Exported};

/// So often another writer may come between.
const ATTEMPTS: u32 = 12;
/// In so many first attempts, a registry that does not take the manifest is asked again.
const REFUSALS: u32 = 3;
/// A writer that saw the old cache writes within this, or within some times what writing takes.
const SHORTEST_PAUSE: Duration = Duration::from_millis(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
const WINDOWS: u32 = 3;

/// How a cache is written.
pub struct WriteRequest {
    /// How layers are written.
    pub format: LayerFormat,
    /// What holds it together, where the place leaves a choice.
    pub form: Form,
    /// What the place held when the build began; none if nobody looked.
    pub known: Option<Arc<Imported>>,
    /// What is left beside it.
    pub beside: Option<LeaveBeside>,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// What is left beside a cache, which the cache then names.
#[derive(Clone)]
pub struct LeaveBeside {
    /// Where it is.
    pub beside: Beside,
    /// What it is.
    pub additions: Arc<dyn Additions>,
}

/// Adds a build's records to the cache of a place. If nothing is new there, nothing is sent, and
/// nothing is asked.
///
/// # Errors
/// If a layer is nowhere, or the place does not give or take something.
pub async fn write(
    export: &Export,
    transfer: &Transfer,
    place: &Place,
    request: &WriteRequest,
) -> Result<Exported, Error> {
    Writer { export, transfer, place, request }.write().await
}

struct Writer<'a> {
    export: &'a Export,
    transfer: &'a Transfer,
    place: &'a Place,
    request: &'a WriteRequest,
}

/// What a place held at a time.
#[derive(Clone, Default)]
struct There {
    /// What holds it together; none if there is nothing.
    digest: Option<Digest>,
    /// The cache; none if that is something else.
    cache: Option<Arc<Imported>>,
}

impl From<Arc<Imported>> for There {
    fn from(cache: Arc<Imported>) -> Self {
        Self { digest: Some(cache.manifest), cache: Some(cache) }
    }
}

/// What is to be written, and what is lost by it.
struct Merged {
    plan: Plan,
    contents: Contents,
    documents: Documents,
    pruned: Option<Pruned>,
}

impl Writer<'_> {
    async fn write(&self) -> Result<Exported, Error> {
        let mut notes = Vec::new();
        let leaves_news =
            self.request.beside.as_ref().is_some_and(|leave| leave.additions.is_news());
        // Nobody else writes while a folder is held, so what was read before may be old.
        let held = self.place.hold().await;
        let mut there = match &self.request.known {
            Some(known) if held.is_none() => There::from(known.clone()),
            _ => self.read(&mut notes).await?,
        };
        let mut missing = BTreeSet::new();
        for attempt in 0..ATTEMPTS {
            let cache = there.cache.as_ref();
            let mut plan = cache.map(|cache| cache.records.plan()).unwrap_or_default();
            if !missing.is_empty() {
                // What others left and the place has lost, nobody can have.
                let is_own = |chain: Digest| self.export.has_chain(chain);
                plan.forget(|id, blob| missing.contains(&blob) && !is_own(id));
            }
            // What was made again is sent at the first attempt; with others it would go to and fro.
            let replaced = self.export.replaced(&plan, attempt == 0, &missing);
            self.export.add_to(&mut plan, &replaced);
            if let Some(there) = cache
                && !plan.is_changed()
                && !leaves_news
                && self.has_form(there)
                && !self.place.forgets()
            {
                self.tag_beside(plan.beside, attempt).await;
                return Ok(self.unchanged(there, notes, plan.records.len()));
            }
            let merged = self.merge(plan, &missing, &mut notes).await?;
            if there.digest == Some(merged.documents.descriptor.digest) {
                if self.place.forgets() {
                    self.place.put(self.transfer, &merged.contents, &merged.documents).await?;
                }
                return Ok(self.done(merged, notes));
            }
            self.place.prepare(self.transfer, &merged.documents).await?;
            let began = Instant::now();
            let client = self.transfer.client();
            if held.is_none() && self.place.digest(client).await? != there.digest {
                there = self.read(&mut notes).await?;
                continue;
            }
            let put = self.place.put(self.transfer, &merged.contents, &merged.documents).await;
            if let Err(error) = put {
                // Registries can know nothing for a moment of a blob that others send too; or
                // layers are gone.
                match error {
                    Error::Registry(error) if attempt < REFUSALS && !error.is_unauthorized() => (),
                    error => return Err(error),
                }
                missing = self.place.missing(client, &merged.contents).await?;
                tokio::time::sleep(pause(began.elapsed(), attempt)).await;
                there = self.read(&mut notes).await?;
                continue;
            }
            if held.is_some() {
                return Ok(self.done(merged, notes));
            }
            tokio::time::sleep(pause(began.elapsed(), attempt)).await;
            if self.place.digest(client).await? == Some(merged.documents.descriptor.digest) {
                self.tag_beside(merged.plan.beside, attempt).await;
                return Ok(self.done(merged, notes));
            }
            there = self.read(&mut notes).await?;
        }
        Err(Error::Contended { place: self.place.name(), attempts: ATTEMPTS })
    }

    /// What the place holds now. Something that is no cache is replaced, with a word on it.
    async fn read(&self, notes: &mut Vec<String>) -> Result<There, Error> {
        let client = self.transfer.client();
        match self.place.import(client).await {
            Ok(imported) => Ok(Arc::new(imported).into()),
            Err(error) if error.is_absent() => Ok(There::default()),
            Err(error) if error.is_of_content() => {
                let text = graph::chain_text(&error);
                let note = format!(
                    "`{}` held no cache to add to, and does now: {text}",
                    self.place.name()
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
                Ok(There { digest: self.place.digest(client).await?, cache: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Brings the layers, and puts the documents together.
    async fn merge(
        &self,
        mut plan: Plan,
        missing: &BTreeSet<Digest>,
        notes: &mut Vec<String>,
    ) -> Result<Merged, Error> {
        // What was sent before, and is missing, is sent again.
        let transfer = match missing.is_empty() {
            true => self.transfer.clone(),
            false => self.transfer.afresh(),
        };
        let place = self.place.blobs();
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
                (false, Some(blob)) => drop(blobs.insert(id, blob.clone())),
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
        // Now that layers were compressed, their indexes know the blocks.
        plan.beside = self.leave_beside(plan.beside, notes).await;
        let documents =
            |plan: &Plan| self.place.documents(&contents(plan, &blobs), self.request.form);
        let measure = |plan: &Plan| documents(plan).map(|documents| documents.largest());
        let pruned = prune::fit(&mut plan, &blobs, self.export.today(), measure)?;
        let is_kept = |chain: &&Chain| chain.id().is_some_and(|id| plan.layer(id).is_some());
        let sent = own.iter().filter(is_kept).map(|chain| {
            let (layers, transfer) = (layers_of(chain), &transfer);
            async move { self.place.send_layer(transfer, &layers, format, self.request.task).await }
        });
        transfer::all(join_all(sent).await)?;
        let (contents, documents) = (contents(&plan, &blobs), documents(&plan)?);
        Ok(Merged { plan, contents, documents, pruned })
    }

    /// Leaves what is to be beside the cache; what the cache is to name. That it cannot be written
    /// costs a note: a cache without it is a whole cache.
    async fn leave_beside(&self, named: Option<Digest>, notes: &mut Vec<String>) -> Option<Digest> {
        let Some(LeaveBeside { beside, additions }) = &self.request.beside else { return named };
        match beside.add(named, &**additions).await {
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

    /// Where writers came between each other, the tag may be on another artifact than the cache
    /// names.
    async fn tag_beside(&self, named: Option<Digest>, attempt: u32) {
        if attempt > 0
            && let (Some(leave), Some(named)) = (&self.request.beside, named)
        {
            // It is there without a tag too, and the next export tries again.
            drop(leave.beside.tag(named).await);
        }
    }

    fn has_form(&self, there: &Imported) -> bool {
        form_of(&there.bytes).is_none_or(|form| form == Some(self.request.form))
    }

    fn unchanged(&self, there: &Imported, notes: Vec<String>, records: usize) -> Exported {
        let descriptor = Descriptor::new(
            media_type_of(&there.bytes, self.request.form),
            there.manifest,
            there.bytes.len() as u64,
        );
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

/// A chain, as far as it is needed to write its highest layer: those below only help to unpack one
/// that is to be compressed.
fn needed_layers(chain: &Chain, format: LayerFormat) -> Vec<Layer> {
    match chain.top() {
        Some(top) if Transfer::known_blob(top, format).is_some() => vec![top.clone()],
        _ => chain.layers(),
    }
}

/// How long to wait until whoever wrote at the same time is done: some times what writing took
/// here, more with each attempt, and never as long as another who waits.
fn pause(window: Duration, attempt: u32) -> Duration {
    let chance = std::hash::RandomState::new().build_hasher().finish() % 1000;
    let longest = (window * WINDOWS).max(SHORTEST_PAUSE) * (1 << attempt.min(4));
    let pause = longest.mul_f64(1.0 + chance as f64 / 1000.0);
    pause.min(LONGEST_PAUSE)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    config: Option<Descriptor>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// What holds a cache together: none for a document that is no manifest at all, `Some(None)` for a
/// manifest that is not a cache's.
pub(crate) fn form_of(bytes: &[u8]) -> Option<Option<Form>> {
    use oci::media_type as kinds;
    let shape: Shape = serde_json::from_slice(bytes).ok()?;
    let is_list = || shape.media_type.as_deref() == Some(kinds::DOCKER_MANIFEST_LIST);
    match (&shape.config, &shape.manifests) {
        (Some(config), _) if config.media_type == kinds::BUILDKIT_CACHE_CONFIG => {
            Some(Some(Form::ImageManifest))
        }
        (Some(_), _) => Some(None),
        (None, Some(_)) if is_list() => Some(Some(Form::DockerList)),
        (None, Some(_)) => Some(Some(Form::OciIndex)),
        (None, None) => None,
    }
}

fn media_type_of(bytes: &[u8], form: Form) -> &'static str {
    match (form_of(bytes), form) {
        (None, _) => oci::media_type::BUILDKIT_CACHE_CONFIG,
        (_, Form::ImageManifest) => oci::media_type::OCI_MANIFEST,
        (_, Form::OciIndex) => oci::media_type::OCI_INDEX,
        (_, Form::DockerList) => oci::media_type::DOCKER_MANIFEST_LIST,
    }
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

    #[test]
    fn a_document_says_what_it_is() {
        let of = |json: serde_json::Value| form_of(&serde_json::to_vec(&json).unwrap());
        let descriptor = |kind: &str| Descriptor::of(kind, b"");
        let cache =
            serde_json::json!({"config": descriptor(oci::media_type::BUILDKIT_CACHE_CONFIG)});
        assert_eq!(of(cache), Some(Some(Form::ImageManifest)));
        let image = serde_json::json!({"config": descriptor(oci::media_type::OCI_CONFIG)});
        assert_eq!(of(image), Some(None));
        assert_eq!(of(serde_json::json!({"manifests": []})), Some(Some(Form::OciIndex)));
        assert_eq!(of(serde_json::json!({"records": []})), None);
    }
}
