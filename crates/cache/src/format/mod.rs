//! BuildKit's cache format: its documents, and the records that they hold.
//!
//! Nothing here does I/O or knows a back end. Reading goes from bytes to [`CacheContents`]
//! ([`manifest`], [`inline`], [`contents`]) to [`RecordSet`]; writing from [`Export`] by way of
//! [`CachePlan`], where the records of several builds are merged, to [`CacheContents`] ([`order`])
//! and [`Documents`].

pub(crate) mod config;
pub(crate) mod contents;
mod export;
pub(crate) mod inline;
pub(crate) mod manifest;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod prune;
mod records;

pub use export::{Export, Mode};
pub use inline::{INLINE_FIELD, inline_cache};
pub use manifest::Form;
pub use prune::Pruned;
pub use records::{RecordSet, SidecarRef};

pub(crate) use contents::CacheContents;
pub(crate) use manifest::Documents;
pub(crate) use plan::CachePlan;

use serde::Deserialize;

use crate::Error;

/// The largest document that is read. BuildKit stops at 1 MiB ([`prune::BUILDKIT_LIMIT`]); larger
/// caches that other tools wrote are still worth reading.
pub(crate) const DOCUMENT_LIMIT: u64 = 16 << 20;

pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Damaged(format!("its {what} cannot be read: {error}")))
}

/// Reads a manifest and the config that it names, for the fuzzer.
#[cfg(fuzzing)]
pub fn read_hostile(manifest: &[u8], config: &[u8]) {
    use manifest::ManifestKind;

    let place = store::Place::Layout("/fuzzed".into());
    let read = |contents: Result<CacheContents, Error>| {
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
