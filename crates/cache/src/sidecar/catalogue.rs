//! The manifest of a sidecar: entries by name.

use std::collections::BTreeMap;

use oci::{Annotations, Descriptor, Manifest, media_type};

use crate::Error;

/// The artifact type. The words in it are fixed by the sidecars in use; a later form has another type
/// and is ignored.
pub(super) const ARTIFACT: &str = "application/vnd.kiln.beside.v1+json";

/// Annotations of an entry's descriptor: its name, and the times of writing and last use, in seconds
/// since 1970.
const NAME: &str = "vnd.kiln.name";
const WRITTEN: &str = "vnd.kiln.written";
const USED: &str = "vnd.kiln.used";

/// The most entries that are kept; the least recently used are removed first. With short notes their
/// manifest is far smaller than [`MOST_BYTES`].
const MOST_ENTRIES: usize = 2000;
/// The largest manifest that registries must take (distribution-spec).
const MOST_BYTES: usize = 4 << 20;

/// The entries of a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    entries: BTreeMap<String, CatalogueEntry>,
}

/// An entry: its blob and annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The blob.
    pub blob: Descriptor,
    /// Time of writing, in seconds since 1970.
    pub written: i64,
    /// Time of the last known use, in seconds since 1970.
    pub used: i64,
    /// Further annotations.
    pub notes: Annotations,
}

impl Catalogue {
    /// Reads a manifest. Unreadable entries are left out; future times become `now`.
    pub(super) fn parse(bytes: &[u8], now: i64) -> Result<Self, Error> {
        let damaged = |what: String| Error::Damaged(format!("its sidecar {what}"));
        if bytes.len() > MOST_BYTES {
            return Err(damaged("is larger than 4 MiB".into()));
        }
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|error| damaged(format!("cannot be read: {error}")))?;
        if manifest.artifact_type.as_deref() != Some(ARTIFACT) {
            return Err(damaged("is not kiln's, or of another version".into()));
        }
        let entries = manifest.layers.into_iter().filter_map(|mut blob| {
            let mut notes = std::mem::take(&mut blob.annotations);
            let name = notes.remove(NAME)?;
            let written = time(notes.remove(WRITTEN), now);
            let used = time(notes.remove(USED), now).max(written);
            Some((name, CatalogueEntry { blob, written, used, notes }))
        });
        Ok(Self { entries: entries.take(2 * MOST_ENTRIES).collect() })
    }

    /// An entry by its name.
    pub fn get(&self, name: &str) -> Option<&CatalogueEntry> {
        self.entries.get(name)
    }

    /// The entries whose names begin with a text, by name.
    pub fn starting_with<'a>(
        &'a self,
        start: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a CatalogueEntry)> {
        self.entries
            .range(start.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(start))
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all blobs, each counted once.
    pub fn bytes(&self) -> u64 {
        let blobs: BTreeMap<_, _> =
            self.entries.values().map(|entry| (entry.blob.digest, entry.blob.size)).collect();
        blobs.values().sum()
    }

    /// Adds and removes entries, notes uses, and removes the least recently used entries if there are
    /// too many.
    pub(super) fn apply(
        &mut self,
        put: Vec<(String, Descriptor, Annotations)>,
        forget: &[String],
        used: &[String],
        now: i64,
    ) {
        for name in forget {
            self.entries.remove(name);
        }
        for name in used {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.used = now;
            }
        }
        for (name, blob, notes) in put {
            self.entries.insert(name, CatalogueEntry { blob, written: now, used: now, notes });
        }
        while self.entries.len() > MOST_ENTRIES || self.document_size() > MOST_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            self.entries.remove(&oldest);
        }
    }

    /// An upper bound of the document's size, cheaper than writing it.
    fn document_size(&self) -> usize {
        let entry = |(name, entry): (&String, &CatalogueEntry)| {
            let notes = entry.notes.iter().map(|(key, value)| key.len() + value.len() + 8);
            320 + name.len() + entry.blob.media_type.len() + notes.sum::<usize>()
        };
        1024 + self.entries.iter().map(entry).sum::<usize>()
    }

    /// True if it has all entries of another one, with their blobs.
    #[cfg(any(test, fuzzing, debug_assertions))]
    pub(super) fn has_all_of(&self, other: &Self) -> bool {
        let has = |(name, entry): (&String, &CatalogueEntry)| {
            self.entries.get(name).is_some_and(|own| own.blob == entry.blob)
        };
        other.entries.iter().all(has)
    }

    /// The manifest: an image manifest whose layers are the entries (image-spec, manifest.md,
    /// guidelines for artifact usage).
    pub(super) fn document(&self) -> Vec<u8> {
        let layer = |(name, entry): (&String, &CatalogueEntry)| {
            let mut blob = entry.blob.clone();
            blob.annotations.clone_from(&entry.notes);
            blob.annotations.insert(NAME.into(), name.clone());
            blob.annotations.insert(WRITTEN.into(), entry.written.to_string());
            blob.annotations.insert(USED.into(), entry.used.to_string());
            blob
        };
        let mut layers: Vec<Descriptor> = self.entries.iter().map(layer).collect();
        if layers.is_empty() {
            // Some registries refuse a manifest without layers. Without a name, it is ignored.
            layers.push(empty_config());
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: Some(ARTIFACT.into()),
            config: empty_config(),
            layers,
            subject: None,
            annotations: Annotations::new(),
        };
        serde_json::to_vec(&manifest).expect("a manifest has no map with keys that are not texts")
    }
}

/// The config of an artifact without a config (image-spec, manifest.md).
pub(super) const EMPTY: &[u8] = b"{}";

pub(super) fn empty_config() -> Descriptor {
    Descriptor::of(media_type::OCI_EMPTY, EMPTY)
}

fn time(text: Option<String>, now: i64) -> i64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0).clamp(0, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, text: &str) -> (String, Descriptor, Annotations) {
        (name.into(), Descriptor::of("text/plain", text.as_bytes()), Annotations::new())
    }

    #[test]
    fn entries_come_back() {
        let mut catalogue = Catalogue::default();
        let notes = Annotations::from([("vnd.kiln.test".to_owned(), "x".to_owned())]);
        let mut first = put("a/1", "one");
        first.2 = notes.clone();
        catalogue.apply(vec![first, put("a/2", "two"), put("b/1", "one")], &[], &[], 100);
        let read = Catalogue::parse(&catalogue.document(), 200).unwrap();
        assert_eq!(read, catalogue);
        assert_eq!(read.get("a/1").unwrap().notes, notes);
        assert_eq!(read.starting_with("a/").count(), 2);
        assert_eq!((read.len(), read.bytes()), (3, 6));
        // A writer whose clock was ahead does not make an entry younger than now.
        assert_eq!(
            Catalogue::parse(&catalogue.document(), 50).unwrap().get("a/1").unwrap().used,
            50
        );

        catalogue.apply(vec![put("a/1", "three")], &["a/2".into()], &["b/1".into()], 300);
        assert_eq!(catalogue.get("b/1").unwrap().used, 300);
        assert_eq!(catalogue.get("b/1").unwrap().written, 100);
        assert_eq!(catalogue.get("a/2"), None);
        assert!(!read.has_all_of(&catalogue) && catalogue.has_all_of(&catalogue));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut catalogue = Catalogue::default();
        let many = (0..MOST_ENTRIES).map(|number| put(&format!("n/{number}"), "x")).collect();
        catalogue.apply(many, &[], &[], 100);
        catalogue.apply(Vec::new(), &[], &["n/0".into()], 200);
        catalogue.apply(vec![put("new", "y")], &[], &[], 300);
        assert_eq!(catalogue.len(), MOST_ENTRIES);
        assert!(catalogue.get("n/0").is_some() && catalogue.get("new").is_some());
        let mut large = put("large", "z");
        large.2.insert("k".into(), "v".repeat(3 << 20));
        catalogue.apply(vec![large], &[], &[], 400);
        assert!(catalogue.document().len() < MOST_BYTES);
        assert!(catalogue.get("large").is_some());
    }

    #[test]
    fn what_is_not_kilns_is_an_error() {
        let mut other = Catalogue::default();
        other.apply(vec![put("a", "b")], &[], &[], 1);
        let text = String::from_utf8(other.document()).unwrap();
        for bytes in [
            text.replace("beside.v1", "beside.v2"),
            text.replace("artifactType", "artifactKind"),
            text[..text.len() / 2].to_owned(),
            "[]".into(),
            String::new(),
        ] {
            assert!(Catalogue::parse(bytes.as_bytes(), 1).is_err(), "{bytes}");
        }
        // An entry without a name is ignored; an unreadable time counts as the oldest.
        let text = text.replace("vnd.kiln.written\":\"1", "vnd.kiln.written\":\"soon");
        assert_eq!(Catalogue::parse(text.as_bytes(), 1).unwrap().get("a").unwrap().written, 0);
        let text = text.replace("vnd.kiln.name", "vnd.kiln.title");
        assert!(Catalogue::parse(text.as_bytes(), 1).unwrap().is_empty());
    }
}
