//! Layer indexes beside a cache: who has them knows a base's tree without the base.
//!
//! Entries `indexes/<digest>` hold packs of indexes, and say in a note of which layers: by the first
//! digits of their diffIDs, which is enough to find them. The pack has the whole diffIDs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oci::{Annotations, Digest};
use store::{LayerIndex, Store};

use super::{Beside, Catalogue, Change, Content, Put, now};
use crate::Error;

/// First bytes of a pack; the last one is the version. Each index follows as the 32 bytes of its
/// layer's diffID, its length in four bytes, the lowest first, and what [`LayerIndex::encode`] wrote.
const MAGIC: &[u8; 5] = b"KLXP\x01";
const MEDIA_TYPE: &str = "application/vnd.kiln.indexes.v1";
const KIND: &str = "indexes/";
/// The note that says of which layers: so many hex digits of each, one after the other.
const LAYERS: &str = "vnd.kiln.layers";
const DIGITS: usize = 16;

/// A larger index does not travel: its layer has millions of files.
const LARGEST_INDEX: usize = 8 << 20;
/// The same when it is decompressed.
const LARGEST_PAYLOAD: u64 = 64 << 20;
/// A pack that has so much gets no more.
const FULL_PACK: usize = 4 << 20;
const LARGEST_PACK: u64 = (FULL_PACK + LARGEST_INDEX + 64) as u64;
/// All packs beside one cache; those that were used longest ago go first.
const MOST_BYTES: u64 = 64 << 20;
/// A use is noted when the last one is so long ago, in seconds.
const NOTED_AGAIN: i64 = 24 * 3600;

/// The indexes beside some caches.
pub struct BesideIndexes {
    besides: Vec<Beside>,
    /// What was asked for and is nowhere.
    missed: Mutex<HashSet<Digest>>,
}

impl BesideIndexes {
    /// Those that are asked first come first.
    pub fn new(besides: Vec<Beside>) -> Self {
        Self { besides, missed: Mutex::default() }
    }

    /// The layers that were fetched because no index of theirs was there, or none that could be
    /// read.
    pub fn missed(&self) -> HashSet<Digest> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn find(&self, wanted: &[Digest]) -> Vec<(Digest, LayerIndex)> {
        let mut open: BTreeSet<Digest> = wanted.iter().copied().collect();
        let mut found = Vec::new();
        for beside in &self.besides {
            let catalogue = beside.catalogue().await;
            for (_, entry) in catalogue.starting_with(KIND) {
                if open.is_empty() {
                    return found;
                }
                let Some(note) = entry.notes.get(LAYERS) else { continue };
                if !open.iter().any(|diff_id| note_has(note, diff_id)) {
                    continue;
                }
                // One that cannot be had is one that is not there: its layer comes instead.
                let Ok(pack) = beside.fetch(entry, LARGEST_PACK).await else { continue };
                let asked = open.clone();
                for (diff_id, index) in transfer::blocking(move || unpack(&pack, &asked)).await {
                    open.remove(&diff_id);
                    found.push((diff_id, index));
                }
            }
        }
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).extend(open);
        found
    }
}

impl transfer::IndexSource for BesideIndexes {
    fn indexes<'a>(&'a self, wanted: &'a [Digest]) -> BoxFuture<'a, Vec<(Digest, LayerIndex)>> {
        Box::pin(self.find(wanted))
    }
}

/// Leaves the indexes of layers beside a cache, as far as they are in the store and not there yet,
/// or were `missed`.
///
/// # Errors
/// If what is there cannot be changed.
pub async fn keep_indexes(
    beside: &Beside,
    store: &Store,
    layers: &[Digest],
    missed: &HashSet<Digest>,
) -> Result<(), Error> {
    // Read and encoded when the first look shows that they are needed, and once.
    let encoded: Mutex<BTreeMap<Digest, Option<Vec<u8>>>> = Mutex::default();
    let change = |there: &Catalogue| {
        let mut encoded = encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |diff_id: &&Digest| missed.contains(*diff_id) || !holds(there, diff_id);
        let missing: BTreeSet<Digest> = layers.iter().filter(is_wanted).copied().collect();
        for diff_id in &missing {
            encoded.entry(*diff_id).or_insert_with(|| {
                let index = store.index(diff_id).ok()?;
                Some(index.encode()).filter(|bytes| bytes.len() <= LARGEST_INDEX)
            });
        }
        let put = packs(missing.iter().filter_map(|diff_id| {
            encoded.get(diff_id).and_then(Option::as_ref).map(|bytes| (*diff_id, bytes.as_slice()))
        }));
        let mut used = Vec::new();
        for (name, entry) in there.starting_with(KIND) {
            let note = entry.notes.get(LAYERS).map_or("", String::as_str);
            let is_due = entry.used < now() - NOTED_AGAIN;
            if is_due && layers.iter().any(|diff_id| note_has(note, diff_id)) {
                used.push(name.to_owned());
            }
        }
        let forget = too_much(there, &put, &used);
        Change { put, forget, used }
    };
    beside.update(change).await.map(drop)
}

fn digits(diff_id: &Digest) -> String {
    diff_id.hex()[..DIGITS].to_owned()
}

fn note_has(note: &str, diff_id: &Digest) -> bool {
    let digits = digits(diff_id);
    note.as_bytes().chunks(DIGITS).any(|known| known == digits.as_bytes())
}

fn holds(there: &Catalogue, diff_id: &Digest) -> bool {
    there
        .starting_with(KIND)
        .any(|(_, entry)| entry.notes.get(LAYERS).is_some_and(|note| note_has(note, diff_id)))
}

/// Packs that were used longest ago, as far as all are too much.
fn too_much(there: &Catalogue, put: &[Put], used: &[String]) -> Vec<String> {
    let size = |put: &Put| put.content.digest().1;
    let mut bytes: u64 = put.iter().map(size).sum();
    let mut packs: Vec<_> = there.starting_with(KIND).collect();
    packs.sort_by_key(|(name, entry)| {
        let is_used = used.iter().any(|used| used == name);
        std::cmp::Reverse((is_used, entry.used))
    });
    let mut forget = Vec::new();
    for (name, entry) in packs {
        bytes += entry.blob.size;
        if bytes > MOST_BYTES {
            forget.push(name.to_owned());
        }
    }
    forget
}

fn packs<'a>(indexes: impl Iterator<Item = (Digest, &'a [u8])>) -> Vec<Put> {
    let mut packs = Vec::new();
    let mut bytes = MAGIC.to_vec();
    let mut note = String::new();
    let mut flush = |bytes: &mut Vec<u8>, note: &mut String| {
        let content = Content::Bytes(Bytes::from(std::mem::replace(bytes, MAGIC.to_vec())));
        packs.push(Put {
            name: format!("{KIND}{}", content.digest().0.hex()),
            media_type: MEDIA_TYPE.into(),
            content,
            notes: Annotations::from([(LAYERS.to_owned(), std::mem::take(note))]),
        });
    };
    for (diff_id, index) in indexes {
        bytes.extend_from_slice(diff_id.as_bytes());
        // Bounded by `LARGEST_INDEX`.
        bytes.extend_from_slice(&(index.len() as u32).to_le_bytes());
        bytes.extend_from_slice(index);
        note.push_str(&digits(&diff_id));
        if bytes.len() > FULL_PACK {
            flush(&mut bytes, &mut note);
        }
    }
    if !note.is_empty() {
        flush(&mut bytes, &mut note);
    }
    packs
}

/// The indexes of a pack that are wanted. Where it is damaged there are no more.
fn unpack(pack: &[u8], wanted: &BTreeSet<Digest>) -> Vec<(Digest, LayerIndex)> {
    let mut found = Vec::new();
    let mut rest = pack.strip_prefix(MAGIC).unwrap_or_default();
    while let Some((diff_id, after)) = rest.split_first_chunk::<32>()
        && let Some((length, after)) = after.split_first_chunk::<4>()
        && let Some((index, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize)
    {
        rest = after;
        let diff_id = Digest::from_bytes(*diff_id);
        if wanted.contains(&diff_id)
            && let Ok(index) = LayerIndex::decode_within(index, LARGEST_PAYLOAD)
        {
            found.push((diff_id, index));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use store::{Entry, EntryKind, Time};

    use super::*;

    fn index(path: &str) -> LayerIndex {
        LayerIndex::from_entries(vec![Entry {
            path: path.as_bytes().into(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        }])
    }

    #[test]
    fn packs_give_back_what_is_wanted_and_survive_damage() {
        let (a, b, c) = (Digest::of("a"), Digest::of("b"), Digest::of("c"));
        let encoded = [(a, index("a").encode()), (b, index("b").encode())];
        let put = packs(encoded.iter().map(|(diff_id, bytes)| (*diff_id, bytes.as_slice())));
        let [Put { content: Content::Bytes(pack), notes, .. }] = &put[..] else { panic!("one") };
        assert!(note_has(&notes[LAYERS], &a) && note_has(&notes[LAYERS], &b));
        assert!(!note_has(&notes[LAYERS], &c));
        assert_eq!(unpack(pack, &[b, c].into()), [(b, index("b"))]);
        for end in 0..pack.len() {
            assert!(unpack(&pack[..end], &[a, b].into()).len() < 2);
            let mut changed = pack.to_vec();
            changed[end] ^= 0x55;
            unpack(&changed, &[a, b].into());
        }
    }
}
