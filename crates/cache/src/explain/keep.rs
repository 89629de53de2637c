//! Storage of facts: this machine's database and caches' sidecars.

use std::collections::BTreeMap;
use std::io::Read as _;

use rusqlite::params;
use serde::{Deserialize, Serialize};
use store::Store;

use super::Fact;
use crate::Error;
use crate::sidecar::{BlobContent, Catalogue, NewEntry, Sidecar};

/// The sidecar's entry. A later form has another name.
const ENTRY: &str = "facts/1";
const MEDIA_TYPE: &str = "application/vnd.kiln.facts.v1+json+zstd";

/// The largest book that is sent, and the largest one that is read, in bytes.
const MOST_SENT: usize = 1 << 20;
const MOST_READ: u64 = 32 << 20;
/// Text that a small book may have, plus an allowance for each byte of a larger one: decompressed facts
/// are several times as large.
const FREE_TEXT: u64 = 1 << 20;
const TEXT_OF_A_BYTE: u64 = 64;
/// The most bytes that this machine keeps.
const MOST_KEPT: i64 = 32 << 20;

/// Facts by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactBook {
    facts: BTreeMap<String, Fact>,
}

#[derive(Serialize, Deserialize)]
struct FactsFile {
    facts: Vec<Fact>,
}

impl FactBook {
    /// All of them.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.values()
    }

    /// Adds facts. Of two with one name the newer one stays, and the files of either.
    pub fn add(&mut self, facts: impl IntoIterator<Item = Fact>) {
        for mut fact in facts {
            if let Some(there) = self.facts.get(&fact.id) {
                for (input, known) in std::iter::zip(&mut fact.inputs, &there.inputs) {
                    if input.files.is_empty() && input.content == known.content {
                        input.files.clone_from(&known.files);
                    }
                }
                fact.time = fact.time.max(there.time);
            }
            self.facts.insert(fact.id.clone(), fact);
        }
    }

    /// The book as it is sent: the oldest facts are left out of one that is too large.
    pub fn encoded(&self) -> Vec<u8> {
        let mut facts: Vec<&Fact> = self.facts.values().collect();
        facts.sort_by(|a, b| (b.time, &a.id).cmp(&(a.time, &b.id)));
        loop {
            let document = serde_json::json!({ "facts": facts });
            let text = serde_json::to_vec(&document).expect("all keys are texts");
            let encoded = zstd::encode_all(&text[..], 3).expect("memory can be written");
            let fits = text.len() as u64 <= most_text(encoded.len());
            if fits && encoded.len() <= MOST_SENT {
                return encoded;
            }
            facts.truncate(facts.len() / 2);
        }
    }

    /// Reads a book.
    ///
    /// # Errors
    /// If it is none, or one that is too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let failed = |what: String| Error::Damaged(format!("what is known of its steps {what}"));
        let mut text = Vec::new();
        let most = most_text(bytes.len());
        zstd::Decoder::new(bytes)
            .and_then(|decoder| decoder.take(most + 1).read_to_end(&mut text))
            .map_err(|error| failed(format!("cannot be read: {error}")))?;
        if text.len() as u64 > most {
            return Err(failed(format!("is larger than {most} bytes")));
        }
        let document: FactsFile = serde_json::from_slice(&text)
            .map_err(|error| failed(format!("cannot be read: {error}")))?;
        let mut book = Self::default();
        book.add(document.facts);
        Ok(book)
    }
}

/// The most text that a number of bytes may decompress to.
fn most_text(bytes: usize) -> u64 {
    (FREE_TEXT + TEXT_OF_A_BYTE * bytes as u64).min(MOST_READ)
}

/// The facts of a sidecar; none if there are none or they cannot be read.
pub async fn read_sidecar_facts(sidecar: &Sidecar) -> FactBook {
    let catalogue = sidecar.catalogue().await;
    read(sidecar, &catalogue).await
}

async fn read(sidecar: &Sidecar, catalogue: &Catalogue) -> FactBook {
    let Some(entry) = catalogue.get(ENTRY) else { return FactBook::default() };
    match sidecar.fetch(entry, MOST_SENT as u64).await {
        Ok(bytes) => FactBook::decode(&bytes).unwrap_or_default(),
        Err(_) => FactBook::default(),
    }
}

/// The entry that has facts with those that are there; none where nothing is new.
pub(crate) async fn addition(
    sidecar: &Sidecar,
    there: &Catalogue,
    facts: &[Fact],
) -> Option<NewEntry> {
    let mut book = read(sidecar, there).await;
    book.add(facts.iter().cloned());
    let encoded: bytes::Bytes = book.encoded().into();
    let known = there.get(ENTRY).map(|entry| entry.blob.digest);
    (known != Some(oci::Digest::of(&encoded))).then(|| NewEntry {
        name: ENTRY.into(),
        media_type: MEDIA_TYPE.into(),
        content: BlobContent::Bytes(encoded),
        notes: oci::Annotations::new(),
    })
}

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS cache_fact(id TEXT PRIMARY KEY, time INTEGER NOT NULL, fact BLOB NOT NULL) WITHOUT ROWID;";

/// The facts that this machine keeps.
pub struct LocalFacts {
    store: Store,
}

impl LocalFacts {
    /// The facts in a store's database; the table is made where there is none.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn open(store: &Store) -> Result<Self, store::Error> {
        store.db().with("make the table of facts", |connection| connection.execute_batch(TABLE))?;
        Ok(Self { store: store.clone() })
    }

    /// All of them. One that cannot be read is left out.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn book(&self) -> Result<FactBook, store::Error> {
        let rows: Vec<Vec<u8>> = self.store.db().with("read facts", |connection| {
            let mut statement = connection.prepare_cached("SELECT fact FROM cache_fact")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })?;
        let mut book = FactBook::default();
        book.add(
            rows.iter()
                .filter_map(|bytes| FactBook::decode(bytes).ok())
                .flat_map(|book| book.facts.into_values()),
        );
        Ok(book)
    }

    /// Keeps facts; the oldest make room.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn keep(&self, facts: &[Fact]) -> Result<(), store::Error> {
        let encoded: Vec<(&Fact, Vec<u8>)> = facts
            .iter()
            .map(|fact| {
                let mut book = FactBook::default();
                book.add([fact.clone()]);
                (fact, book.encoded())
            })
            .collect();
        self.store.db().with("keep facts", |connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            {
                let mut insert = transaction
                    .prepare_cached("INSERT OR REPLACE INTO cache_fact VALUES(?1, ?2, ?3)")?;
                for (fact, bytes) in &encoded {
                    insert.execute(params![fact.id, fact.time, bytes])?;
                }
            }
            transaction.execute(
                "DELETE FROM cache_fact WHERE id IN (SELECT id FROM
                 (SELECT id, SUM(length(fact)) OVER (ORDER BY time DESC, id) AS total FROM cache_fact)
                 WHERE total > ?1)",
                [MOST_KEPT],
            )?;
            transaction.commit()
        })
    }
}

#[cfg(test)]
mod tests {
    use store::{OpenOptions, Privileges};

    use super::*;
    use crate::explain::{FileFact, InputFact};

    fn fact(id: usize, files: usize) -> Fact {
        let file = |at: usize| FileFact {
            path: format!("/folder/file-{id}-{at}"),
            mode: 0o644,
            size: 1,
            digest: oci::Digest::of(format!("{id} {at}")).hex()[..16].into(),
        };
        let input = InputFact {
            content: Some("content".into()),
            files: (0..files).map(file).collect(),
            ..InputFact::default()
        };
        Fact {
            id: id.to_string(),
            record: String::new(),
            step: format!("[{id}/9] COPY"),
            kind: "files".into(),
            parts: BTreeMap::new(),
            inputs: vec![input],
            time: id as i64,
        }
    }

    #[test]
    fn a_book_comes_back_and_is_bounded() {
        let mut book = FactBook::default();
        book.add([fact(1, 2), fact(2, 0)]);
        assert_eq!(FactBook::decode(&book.encoded()).unwrap(), book);
        // A build that did not look at the files does not erase them from the fact.
        book.add([fact(1, 0)]);
        assert_eq!(book.facts().next().unwrap().inputs[0].files.len(), 2);

        let mut large = FactBook::default();
        large.add((0..100).map(|id| fact(id, 2000)));
        let encoded = large.encoded();
        assert!(encoded.len() <= MOST_SENT);
        let kept: Vec<i64> =
            FactBook::decode(&encoded).unwrap().facts().map(|fact| fact.time).collect();
        assert!(!kept.is_empty() && kept.len() < 100 && kept.iter().all(|time| *time >= 50));
    }

    #[test]
    fn what_is_no_book_is_refused() {
        let bomb = zstd::encode_all(std::io::repeat(b' ').take(64 << 20), 1).unwrap();
        assert!(bomb.len() < 1 << 20);
        for bytes in [&b""[..], b"{}", &zstd::encode_all(&b"[]"[..], 1).unwrap(), &bomb] {
            assert!(matches!(FactBook::decode(bytes), Err(Error::Damaged(_))));
        }
    }

    #[test]
    fn this_machine_keeps_facts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), OpenOptions::new(Privileges::None)).unwrap();
        let facts = LocalFacts::open(&store).unwrap();
        facts.keep(&[fact(1, 3), fact(2, 0)]).unwrap();
        facts.keep(&[fact(2, 1)]).unwrap();
        let book = LocalFacts::open(&store).unwrap().book().unwrap();
        let kept: Vec<usize> = book.facts().map(|fact| fact.inputs[0].files.len()).collect();
        assert_eq!(kept, [3, 1]);
    }
}
