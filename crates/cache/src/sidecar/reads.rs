//! The files that commands opened, by step: what the next run of a step needs of its root.
//!
//! Entries `reads/<digest of the step>`, each with layers and paths in them. It is a hint: a wrong one
//! costs requests and changes nothing.

use std::io::Read as _;

use layer::is_entry_path;
use oci::{Annotations, Digest};

use super::{BlobContent, Catalogue, CatalogueChange, NewEntry, Sidecar};

const KIND: &str = "reads/";
const MEDIA_TYPE: &str = "application/vnd.kiln.reads.v1+zstd";

/// The largest entry that is sent and read, in bytes, and what it may decompress to.
const MOST: usize = 256 << 10;
const MOST_TEXT: u64 = 4 << 20;
/// The most files of a set.
const MOST_FILES: usize = 20_000;

/// Files of layers that a command opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// The layers, each with paths in it.
    pub layers: Vec<(Digest, Vec<Box<[u8]>>)>,
}

impl ReadSet {
    /// The set as it is sent; none if it is empty or too large.
    fn encoded(&self) -> Option<Vec<u8>> {
        let files: usize = self.layers.iter().map(|(_, paths)| paths.len()).sum();
        if files == 0 || files > MOST_FILES {
            return None;
        }
        let mut text = Vec::new();
        for (layer, paths) in &self.layers {
            // No path has a zero byte, or is empty.
            text.extend_from_slice(layer.as_bytes());
            for path in paths {
                text.extend_from_slice(path);
                text.push(0);
            }
            text.push(0);
        }
        zstd::bulk::compress(&text, 3).ok().filter(|bytes| bytes.len() <= MOST)
    }

    /// Reads a set. The input is not trusted.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        let decoder = zstd::Decoder::new(bytes).ok()?;
        decoder.take(MOST_TEXT).read_to_end(&mut text).ok()?;
        let mut set = Self::default();
        let (mut rest, mut files) = (&text[..], 0);
        while let Some((layer, after)) = rest.split_first_chunk() {
            let mut paths = Vec::new();
            rest = after;
            loop {
                let end = rest.iter().position(|byte| *byte == 0)?;
                let (path, after) = (&rest[..end], &rest[end + 1..]);
                rest = after;
                if path.is_empty() {
                    break;
                }
                files += 1;
                if !is_entry_path(path) || files > MOST_FILES {
                    return None;
                }
                paths.push(path.into());
            }
            set.layers.push((Digest::from_bytes(*layer), paths));
        }
        rest.is_empty().then_some(set)
    }
}

/// Returns the read set of a step, if a sidecar has one.
pub async fn read_set(sidecar: &Sidecar, step: &Digest) -> Option<ReadSet> {
    let catalogue = sidecar.catalogue().await;
    let entry = catalogue.get(&name(step))?;
    let bytes = sidecar.fetch(entry, MOST as u64).await.ok()?;
    ReadSet::decode(&bytes)
}

/// The change that adds read sets.
pub(crate) fn change(sets: &[(Digest, ReadSet)], there: &Catalogue) -> CatalogueChange {
    let mut change = CatalogueChange::default();
    for (step, set) in sets {
        let (name, Some(encoded)) = (name(step), set.encoded()) else { continue };
        let known = there.get(&name).map(|entry| entry.blob.digest);
        if known != Some(Digest::of(&encoded)) {
            change.put.push(NewEntry {
                name,
                media_type: MEDIA_TYPE.into(),
                content: BlobContent::Bytes(encoded.into()),
                notes: Annotations::new(),
            });
        }
    }
    change
}

fn name(step: &Digest) -> String {
    format!("{KIND}{}", step.hex())
}

/// Reads a set, for the fuzzer.
#[cfg(any(fuzzing, debug_assertions))]
pub(super) fn read_hostile(bytes: &[u8]) {
    if let Some(set) = ReadSet::decode(bytes)
        && let Some(encoded) = set.encoded()
    {
        assert_eq!(ReadSet::decode(&encoded), Some(set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ReadSet {
        let paths = |names: &[&str]| names.iter().map(|name| name.as_bytes().into()).collect();
        let layers = vec![
            (Digest::of("one"), paths(&["usr/bin/cc", "usr/lib/x.so"])),
            (Digest::of("two"), paths(&["a"])),
        ];
        ReadSet { layers }
    }

    #[test]
    fn a_set_comes_back_and_is_bounded() {
        let encoded = set().encoded().unwrap();
        assert_eq!(ReadSet::decode(&encoded), Some(set()));
        let many = (0..=MOST_FILES).map(|number| number.to_string().into_bytes().into()).collect();
        assert_eq!(ReadSet { layers: vec![(Digest::of("one"), many)] }.encoded(), None);
        assert_eq!(ReadSet::default().encoded(), None);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let whole = zstd::bulk::decompress(&set().encoded().unwrap(), 1 << 16).unwrap();
        for end in 1..whole.len() {
            let cut = zstd::bulk::compress(&whole[..end], 1).unwrap();
            if let Some(found) = ReadSet::decode(&cut) {
                assert_eq!(found.layers.len(), 1, "{end}");
            }
            read_hostile(&cut);
        }
        let mut outside = Digest::of("one").as_bytes().to_vec();
        outside.extend_from_slice(b"../etc/passwd\0\0");
        assert_eq!(ReadSet::decode(&zstd::bulk::compress(&outside, 1).unwrap()), None);
        let bomb = zstd::encode_all(std::io::repeat(b'a').take(64 << 20), 1).unwrap();
        assert_eq!(ReadSet::decode(&bomb), None);
        assert_eq!(ReadSet::decode(b"text"), None);
    }

    #[test]
    fn what_is_known_is_not_written_again() {
        let sets = [(Digest::of("step"), set())];
        let change = change(&sets, &Catalogue::default());
        assert_eq!(change.put.len(), 1);
        assert_eq!(change.put[0].name, format!("reads/{}", Digest::of("step").hex()));
    }
}
