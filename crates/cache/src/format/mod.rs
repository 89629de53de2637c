//! BuildKit's cache format: its documents, and the records that they hold.
//!
//! Nothing here does I/O or knows a back end. Reading goes from bytes to [`CacheContents`]
//! ([`manifest`], [`inline`], [`contents`]) to [`RecordSet`]; writing from [`Export`] by way of
//! [`CachePlan`], where the records of several builds are merged, to [`CacheContents`] ([`order`])
//! and [`CacheDocuments`].

pub(crate) mod config;
pub(crate) mod contents;
mod export;
pub(crate) mod inline;
mod json;
pub(crate) mod manifest;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod prune;
mod records;

pub use export::{CacheMode, Export};
pub use inline::{INLINE_FIELD, inline_cache};
pub use manifest::Form;
pub use prune::Pruned;
pub use records::{RecordSet, SidecarRef};

pub(crate) use contents::CacheContents;
pub(crate) use json::parse;
pub(crate) use manifest::CacheDocuments;
pub(crate) use plan::CachePlan;

/// The largest document that is read. BuildKit stops at 1 MiB ([`prune::BUILDKIT_LIMIT`]); larger
/// caches that other tools wrote are still worth reading.
pub(crate) const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Reads a manifest and the config that it names, for the fuzzer.
#[cfg(any(fuzzing, debug_assertions))]
#[doc(hidden)]
pub fn read_hostile(manifest: &[u8], config: &[u8]) {
    use manifest::ManifestKind;

    let place = layer::Place::Layout("/fuzzed".into());
    let read = |contents: Result<CacheContents, crate::Error>| {
        let _ = contents.and_then(|c| RecordSet::new("fuzzed", &c.config, &c.layers));
    };
    let layers = match manifest::parse_manifest(manifest) {
        Ok(ManifestKind::Cache { layers, .. }) => layers,
        Ok(ManifestKind::Image(image)) => {
            let digest = image.config.digest;
            read(inline::read_inline(&[(*image, config.to_vec())], &place, digest));
            Vec::new()
        }
        Ok(ManifestKind::Images(_)) | Err(_) => Vec::new(),
    };
    read(CacheContents::described(config, &layers, &place));
}
