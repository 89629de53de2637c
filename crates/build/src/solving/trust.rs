//! Trust in caches: those that a build names, and those that were found to be false.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cache::{BackendSettings, ImportedCache};
use execute::Images;
use graph::TaskEvent;
use layer::Layer;
use oci::Digest;
use store::Store;
use transfer::Transfer;

use crate::request::CacheTarget;
use crate::session::Build;

/// Caches that were found to say what is not so. Nothing of them is used any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distrusted(BTreeSet<Arc<str>>);

impl Distrusted {
    /// True if a cache is one of them.
    pub(crate) fn has(&self, cache: &str) -> bool {
        self.0.contains(cache)
    }

    /// Adds caches; whether one of them is new. That is said.
    fn add(
        &mut self,
        build: &Build<'_>,
        caches: impl IntoIterator<Item = Arc<str>>,
        what: &str,
    ) -> bool {
        let new: Vec<Arc<str>> =
            caches.into_iter().filter(|cache| self.0.insert(cache.clone())).collect();
        for cache in &new {
            let task = build.events.task("[internal] caches that are left aside", Vec::new());
            build.events.send(task, TaskEvent::Started);
            let text = format!("{cache} is left aside: {what}");
            build.events.send(task, TaskEvent::Warning(text.into()));
            build.events.send(task, TaskEvent::Done);
        }
        !new.is_empty()
    }

    /// Adds the caches whose indexes turned out to be false; whether the build is to be done again
    /// without them, because what it made may stand on that.
    pub(crate) fn add_lenders(&mut self, build: &Build<'_>, store: &Store) -> bool {
        let lenders = store.false_lenders();
        self.add(build, lenders, "what it says of a layer is not what the layer has")
    }

    /// Adds the caches that say of a blob that it is another layer than it is. A blob of which two
    /// say different things is read.
    pub(crate) async fn add_contradicted(
        &mut self,
        build: &Build<'_>,
        images: &Images,
        imported: &[Arc<ImportedCache>],
    ) {
        let claims: Vec<_> = imported.iter().map(|cache| (cache, cache.records.claims())).collect();
        let mut said: BTreeMap<Digest, BTreeMap<Digest, Layer>> = BTreeMap::new();
        let all = claims.iter().flat_map(|(_, claims)| claims.values().cloned());
        for layer in all.chain(images.all_layers()) {
            if let Some(blob) = &layer.blob {
                said.entry(blob.digest).or_default().entry(layer.diff_id).or_insert(layer);
            }
        }
        let true_ones = truths(build, &said).await;
        let is_false = |claims: &BTreeMap<Digest, Layer>| {
            claims.iter().any(|(blob, layer)| {
                true_ones.get(blob).is_some_and(|diff_id| *diff_id != layer.diff_id)
            })
        };
        let liars = claims.iter().filter(|(_, claims)| is_false(claims));
        let liars: Vec<Arc<str>> = liars.map(|(cache, _)| cache.identity.clone()).collect();
        self.add(build, liars, "it says of a layer's blob that it unpacks to another layer");
    }
}

/// The layers of blobs, as far as they are known here. A blob with two claims is read.
async fn truths(
    build: &Build<'_>,
    said: &BTreeMap<Digest, BTreeMap<Digest, Layer>>,
) -> BTreeMap<Digest, Digest> {
    let blobs: Vec<Digest> = said.keys().copied().collect();
    let seen = |store: &Store| -> BTreeMap<Digest, Digest> {
        let seen = store.seen_layers(&blobs).unwrap_or_default();
        blobs.iter().copied().zip(seen).filter_map(|(blob, seen)| Some((blob, seen?))).collect()
    };
    let known = seen(build.session.store());
    let disputed: Vec<&Layer> = said
        .iter()
        .filter(|(blob, layers)| layers.len() > 1 && !known.contains_key(blob))
        .filter_map(|(_, layers)| layers.values().next())
        .collect();
    if disputed.is_empty() {
        return known;
    }
    let transfer = Transfer::new(
        build.session.store().clone(),
        build.session.client().clone(),
        build.events.clone(),
    );
    for layer in disputed {
        // An error says that the first claim is false, which is the question.
        drop(transfer.fetch_blob(layer, None).await);
    }
    seen(build.session.store())
}

/// The names of the caches that a request reads.
pub(crate) fn named(build: &Build<'_>, distrusted: &Distrusted) -> Vec<Arc<str>> {
    // A build that believes nothing unread names no cache.
    if reads_all(build) {
        return Vec::new();
    }
    let caches = build.request.cache_from.iter().map(|from| Arc::from(from.backend.identity()));
    caches.filter(|name: &Arc<str>| !distrusted.has(name)).collect()
}

/// True if claims of caches about layers are not believed.
pub(crate) fn reads_all(build: &Build<'_>) -> bool {
    build.session.host().verify_indexes || build.request.verify_indexes
}

/// The identity of the cache that is written; none for an inline cache.
pub(crate) fn target_identity(target: &CacheTarget) -> Option<String> {
    target.backend().map(BackendSettings::identity)
}
