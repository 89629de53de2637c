//! Layer indexes in a sidecar. With them, the tree of a base is known without reading the base.
//!
//! Entries `indexes/<digest>` are packs of indexes. An annotation lists a pack's layers by the first
//! digits of their diffIDs, which is enough to find them; the pack has the whole diffIDs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use layer::{IndexError, Layer, LayerIndex};
use oci::{Annotations, Descriptor, Digest};
use store::Store;
use transfer::{Lent, LentIndex};

use super::{BlobContent, Catalogue, CatalogueChange, NewEntry, Sidecar, now};

/// First bytes of a pack; the last one is the version. Then, for each index: the 32 bytes of its
/// layer's diffID, its length as a little-endian u32, and the bytes of [`LayerIndex::encode`].
const MAGIC: &[u8; 5] = b"KLXP\x01";
const MEDIA_TYPE: &str = "application/vnd.kiln.indexes.v1";
const KIND: &str = "indexes/";
/// The annotation that lists the layers: [`DIGITS`] hex digits of each diffID, concatenated.
const LAYERS: &str = "vnd.kiln.layers";
const DIGITS: usize = 16;

/// The largest index that is sent, in bytes. The layer of a larger one has millions of files, or is
/// gzip of others and of about a gigabyte: then its seek table is left out.
const LARGEST_INDEX: usize = 8 << 20;
/// Size from which a pack takes no further index, in bytes.
const FULL_PACK: usize = 4 << 20;
const LARGEST_PACK: u64 = (FULL_PACK + LARGEST_INDEX + 64) as u64;
/// The most bytes of all packs; the least recently used are removed first.
const MOST_BYTES: u64 = 64 << 20;
/// The age of a noted use, in seconds, from which it is noted again.
const NOTED_AGAIN: i64 = 24 * 3600;

/// Memory that the indexes of a build may take, plus an allowance for each fetched byte: a small
/// hostile pack must not fill the memory. Indexes of the largest images take about twenty bytes for
/// one.
const FREE_MEMORY: u64 = 32 << 20;
const MEMORY_OF_A_BYTE: u64 = 256;
/// The most memory of all indexes.
const MOST_MEMORY: u64 = 512 << 20;

/// The indexes in the sidecars of several caches.
pub struct SidecarIndexes {
    sidecars: Vec<NamedSidecar>,
    state: Mutex<State>,
}

/// A cache's identity and sidecar.
type NamedSidecar = (Arc<str>, Sidecar);

#[derive(Default)]
struct State {
    /// Layers whose indexes were not found.
    missed: HashSet<Digest>,
    /// Caches with a false index, by their position in the list. No index of theirs is used.
    left_aside: BTreeSet<usize>,
    memory: IndexBudget,
}

/// The memory of indexes, and the fetched bytes that entitle to it.
#[derive(Clone, Copy, Debug, Default)]
struct IndexBudget {
    fetched: u64,
    taken: u64,
}

impl IndexBudget {
    /// The memory that one more index of a number of bytes may take.
    fn left(self, bytes: u64) -> u64 {
        let paid = MEMORY_OF_A_BYTE * (self.fetched + bytes);
        (FREE_MEMORY + paid).min(MOST_MEMORY).saturating_sub(self.taken)
    }
}

impl SidecarIndexes {
    /// Takes sidecars in the order in which they are asked.
    pub fn new(sidecars: Vec<(Arc<str>, Sidecar)>) -> Self {
        Self { sidecars, state: Mutex::default() }
    }

    /// The layers that were fetched because no index, or no readable one, was found.
    pub fn missed(&self) -> HashSet<Digest> {
        self.state().missed.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, wanted: &[Layer]) -> Lent {
        let mut open: BTreeMap<Digest, &Layer> =
            wanted.iter().map(|layer| (layer.diff_id, layer)).collect();
        let mut lent = Lent::default();
        for (position, (cache, sidecar)) in self.sidecars.iter().enumerate() {
            if open.is_empty() {
                break;
            }
            let result = self.find_in(position, &mut open, &mut lent).await;
            if let Err(error) = result {
                self.state().left_aside.insert(position);
                lent.warnings.push(format!(
                    "{cache} has {error}: no index of this cache is used, and layers are read instead"
                ));
            }
            lent.warnings.extend(sidecar.take_fault());
        }
        self.state().missed.extend(open.into_keys());
        lent
    }

    /// Takes the indexes of one cache. The first false index is an error, since its writer may have
    /// written others.
    async fn find_in(
        &self,
        position: usize,
        open: &mut BTreeMap<Digest, &Layer>,
        lent: &mut Lent,
    ) -> Result<(), IndexError> {
        let (cache, sidecar) = &self.sidecars[position];
        if self.state().left_aside.contains(&position) {
            return Ok(());
        }
        let catalogue = sidecar.catalogue().await;
        for (_, entry) in catalogue.starting_with(KIND) {
            let Some(note) = entry.notes.get(LAYERS) else { continue };
            if !open.keys().any(|diff_id| note_has(note, diff_id)) {
                continue;
            }
            // Without the pack, the layers themselves are fetched.
            let Ok(pack) = sidecar.fetch(entry, LARGEST_PACK).await else { continue };
            let asked: BTreeMap<Digest, Option<Descriptor>> =
                open.iter().map(|(diff_id, layer)| (*diff_id, layer.blob.clone())).collect();
            let memory = self.state().memory;
            let (found, memory) = transfer::blocking(move || unpack(&pack, &asked, memory)).await?;
            self.state().memory = memory;
            for (diff_id, index) in found {
                open.remove(&diff_id);
                lent.indexes.push(LentIndex { diff_id, index, cache: cache.clone() });
            }
        }
        Ok(())
    }
}

impl transfer::IndexSource for SidecarIndexes {
    fn indexes<'a>(&'a self, wanted: &'a [Layer]) -> BoxFuture<'a, Lent> {
        Box::pin(self.find(wanted))
    }
}

/// The indexes to add to a sidecar, if this machine made them from the layers' bytes. An index from a
/// cache is unproved and is not passed on.
pub(crate) struct LeftIndexes {
    pub(crate) store: Store,
    pub(crate) layers: Vec<Digest>,
    /// Layers whose indexes this build missed: they are written even if a pack lists them.
    pub(crate) missed: HashSet<Digest>,
    /// Encoded indexes, made once they are needed.
    pub(crate) encoded: Mutex<BTreeMap<Digest, Option<Vec<u8>>>>,
    /// Names of packs that were written, so that a missed index is written again only once.
    pub(crate) written: Mutex<HashSet<String>>,
}

impl LeftIndexes {
    pub(crate) fn change(&self, there: &Catalogue) -> CatalogueChange {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted =
            |diff_id: &&Digest| self.missed.contains(*diff_id) || !holds(there, diff_id);
        let missing: BTreeSet<Digest> = self.layers.iter().filter(is_wanted).copied().collect();
        for diff_id in &missing {
            encoded.entry(*diff_id).or_insert_with(|| {
                let index = self.store.own_index(diff_id).ok()?;
                // Of a layer of a gigabyte the headers alone, which are of more use than nothing.
                let fits = |bytes: &Vec<u8>| bytes.len() <= LARGEST_INDEX;
                let whole = Some(index.encode()).filter(fits);
                whole.or_else(|| Some(index.without_seek_tables().encode()).filter(fits))
            });
        }
        let mut put = packs(missing.iter().filter_map(|diff_id| {
            encoded.get(diff_id).and_then(Option::as_ref).map(|bytes| (*diff_id, bytes.as_slice()))
        }));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        put.retain(|put| !written.contains(&put.name) || there.get(&put.name).is_none());
        written.extend(put.iter().map(|put| put.name.clone()));
        let mut used = Vec::new();
        for (name, entry) in there.starting_with(KIND) {
            let note = entry.notes.get(LAYERS).map_or("", String::as_str);
            let is_due = entry.used < now() - NOTED_AGAIN;
            if is_due && self.layers.iter().any(|diff_id| note_has(note, diff_id)) {
                used.push(name.to_owned());
            }
        }
        let forget = too_much(there, &put, &used);
        CatalogueChange { put, forget, used }
    }
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

/// The least recently used packs beyond [`MOST_BYTES`].
fn too_much(there: &Catalogue, put: &[NewEntry], used: &[String]) -> Vec<String> {
    let size = |put: &NewEntry| put.content.digest().1;
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

fn packs<'a>(indexes: impl Iterator<Item = (Digest, &'a [u8])>) -> Vec<NewEntry> {
    let mut packs = Vec::new();
    let mut bytes = MAGIC.to_vec();
    let mut note = String::new();
    let mut flush = |bytes: &mut Vec<u8>, note: &mut String| {
        let content = BlobContent::Bytes(Bytes::from(std::mem::replace(bytes, MAGIC.to_vec())));
        packs.push(NewEntry {
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

/// The wanted indexes of a pack, checked against the blobs of their layers, and the memory that they
/// take. A truncated pack ends early.
fn unpack(
    pack: &[u8],
    wanted: &BTreeMap<Digest, Option<Descriptor>>,
    mut memory: IndexBudget,
) -> Result<(Vec<(Digest, LayerIndex)>, IndexBudget), IndexError> {
    let mut found: BTreeMap<Digest, LayerIndex> = BTreeMap::new();
    // A pack of another version is skipped; it is not a fault.
    let mut rest = pack.strip_prefix(MAGIC).unwrap_or_default();
    while let Some((diff_id, after)) = rest.split_first_chunk::<32>()
        && let Some((length, after)) = after.split_first_chunk::<4>()
        && let Some((index, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize)
    {
        rest = after;
        let diff_id = Digest::from_bytes(*diff_id);
        let Some(blob) = wanted.get(&diff_id).filter(|_| !found.contains_key(&diff_id)) else {
            continue;
        };
        let bytes = index.len() as u64;
        let index = match LayerIndex::decode_within(index, memory.left(bytes)) {
            Err(IndexError::Format) => continue,
            result => result?,
        };
        index.check(blob.as_ref())?;
        memory.fetched += bytes;
        memory.taken += index.memory();
        found.insert(diff_id, index);
    }
    Ok((found.into_iter().collect(), memory))
}

/// Reads a pack, of which every index is wanted.
#[cfg(any(fuzzing, debug_assertions))]
pub(super) fn read_hostile(pack: &[u8]) {
    let wanted = pack.windows(32).take(64).filter_map(|bytes| bytes.try_into().ok());
    let wanted = wanted.map(|bytes| (Digest::from_bytes(bytes), None)).collect();
    if let Ok((found, memory)) = unpack(pack, &wanted, IndexBudget::default()) {
        assert!(memory.taken <= MOST_MEMORY && found.len() <= wanted.len());
    }
}

#[cfg(test)]
mod tests {
    use layer::{Entry, EntryKind, Time};

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
        let [NewEntry { content: BlobContent::Bytes(pack), notes, .. }] = &put[..] else {
            panic!("one")
        };
        assert!(note_has(&notes[LAYERS], &a) && note_has(&notes[LAYERS], &b));
        assert!(!note_has(&notes[LAYERS], &c));
        let wanted = |layers: &[Digest]| layers.iter().map(|layer| (*layer, None)).collect();
        let read = |pack: &[u8], layers: &[Digest]| {
            unpack(pack, &wanted(layers), IndexBudget::default()).map(|(found, _)| found)
        };
        assert_eq!(read(pack, &[b, c]).unwrap(), [(b, index("b"))]);
        for end in 0..pack.len() {
            assert!(read(&pack[..end], &[a, b]).map_or(0, |found| found.len()) < 2);
            let mut changed = pack.to_vec();
            changed[end] ^= 0x55;
            let _ = read(&changed, &[a, b]);
        }
    }

    /// A few kilobytes that decode to long paths, each of which shares all but its end with the one
    /// before.
    fn long_paths() -> Vec<u8> {
        let deep = vec!["d".repeat(250); 15].join("/");
        let entry = |number| Entry {
            path: format!("{deep}/{number:06}").into_bytes().into(),
            kind: EntryKind::Fifo,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        LayerIndex::from_entries((0..16_000).map(entry).collect()).encode()
    }

    #[test]
    fn memory_is_bounded_by_what_was_fetched() {
        let bytes = long_paths();
        assert!(LayerIndex::decode(&bytes).unwrap().memory() > 56 << 20);
        assert!(bytes.len() < 64 << 10, "{}", bytes.len());
        let a = Digest::of("a");
        let put = packs([(a, bytes.as_slice())].into_iter());
        let BlobContent::Bytes(pack) = &put[0].content else { panic!("bytes") };
        let refused = unpack(pack, &[(a, None)].into(), IndexBudget::default());
        assert!(matches!(refused, Err(IndexError::TooLarge)), "{refused:?}");

        // Many small indexes entitle to no more memory than one.
        let mut memory = IndexBudget::default();
        let small = LayerIndex::from_entries(vec![]).encode().len() as u64;
        while memory.left(small) > 1 << 20 {
            memory.fetched += small;
            memory.taken += 1 << 20;
        }
        assert!(memory.taken <= 33 << 20, "{memory:?}");
    }

    #[test]
    fn an_index_that_cannot_be_the_layers_is_refused() {
        let file =
            Entry { kind: EntryKind::File { size: 5000 }, ..index("f").into_entries().remove(0) };
        let lie = LayerIndex::from_entries(vec![file]).encode();
        let a = Digest::of("a");
        let put = packs([(a, lie.as_slice())].into_iter());
        let BlobContent::Bytes(pack) = &put[0].content else { panic!("bytes") };
        let blob = |size| Some(Descriptor::new(oci::media_type::OCI_LAYER, a, size));
        assert!(unpack(pack, &[(a, blob(8192))].into(), IndexBudget::default()).is_ok());
        let refused = unpack(pack, &[(a, blob(2048))].into(), IndexBudget::default());
        assert!(matches!(refused, Err(IndexError::Impossible(_))), "{refused:?}");
    }
}
