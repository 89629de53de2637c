//! The store's database: state that the files do not show. It can be rebuilt: without it, blobs are
//! checked again and layers are compressed again; nothing more is lost.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oci::{Descriptor, Digest};
use rusqlite::{Connection, OptionalExtension as _, params};
use tree::DigestMemo;

use crate::{Error, Result};

/// The kind of the content digests among the memos.
const MEMO_KIND: &str = "content digest";

/// The file's name. Another version of the tables is another file.
const FILE: &str = "db.sqlite";
const VERSION: i64 = 1;

/// The tables. Times are in milliseconds since 1970. `boot` is the boot in which an item was
/// written or checked: see `Store`.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS blobs(
        digest BLOB PRIMARY KEY, size INTEGER NOT NULL, last_use INTEGER NOT NULL, boot TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS layers(
        diff_id BLOB PRIMARY KEY, size INTEGER NOT NULL, last_use INTEGER NOT NULL, boot TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS blob_of(
        diff_id BLOB NOT NULL, kind TEXT NOT NULL, descriptor TEXT NOT NULL,
        PRIMARY KEY(diff_id, kind)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS images(
        name TEXT PRIMARY KEY, digest BLOB NOT NULL, created INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS memo(
        kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY(kind, key)
    ) WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// Maximum time to wait for another process's statement.
const PATIENCE: Duration = Duration::from_secs(30);

/// The database of a store. Statements are prepared when they are first used.
pub struct Db {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// A name that a user gave an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedImage {
    /// The name, as it was given to [`Db::put_image`].
    pub name: String,
    /// Digest of the image's manifest or index.
    pub digest: Digest,
    /// The time when it got the name, in milliseconds since 1970.
    pub created: i64,
}

/// A row about a blob or a layer.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) last_use: i64,
}

/// One of the two tables of items with a size and a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    Blobs,
    Layers,
}

impl Db {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(PATIENCE)?;
            // In WAL mode a crash of the machine loses the last transactions, never the file.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.set_prepared_statement_cache_capacity(64);
            let version: i64 =
                connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version != VERSION {
                use_wal(&connection)?;
                connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} COMMIT;"))?;
            }
            Ok(connection)
        };
        let connection = open().map_err(Error::database("open"))?;
        Ok(Self { path, connection: Mutex::new(connection) })
    }

    /// Runs statements on the only connection, which is locked meanwhile: `body` should be short.
    /// Tables of other crates live here too, with names that begin with the crate's.
    pub fn with<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        body(&mut connection).map_err(Error::database(action))
    }

    /// The path of the database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the values that were remembered under a kind, one for each key in turn.
    pub fn memo_get(&self, kind: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.with("look up remembered values", |connection| {
            // One transaction, because thousands of keys are looked up at once.
            let transaction = connection.transaction()?;
            let values = {
                let mut statement = transaction
                    .prepare_cached("SELECT value FROM memo WHERE kind = ?1 AND key = ?2")?;
                keys.iter()
                    .map(|key| statement.query_row(params![kind, key], |row| row.get(0)).optional())
                    .collect::<rusqlite::Result<_>>()?
            };
            transaction.commit()?;
            Ok(values)
        })
    }

    /// Remembers values under a kind, in place of earlier ones.
    pub fn memo_put(&self, kind: &str, values: &[(&[u8], &[u8])]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.with("remember values", |connection| {
            let transaction = connection.transaction()?;
            {
                let mut statement = transaction.prepare_cached(
                    "INSERT INTO memo VALUES(?1, ?2, ?3)
                     ON CONFLICT(kind, key) DO UPDATE SET value = excluded.value",
                )?;
                for (key, value) in values {
                    statement.execute(params![kind, key, value])?;
                }
            }
            transaction.commit()
        })
    }

    /// Forgets all values of a kind.
    pub fn memo_clear(&self, kind: &str) -> Result<()> {
        self.with("forget values", |connection| {
            connection.execute("DELETE FROM memo WHERE kind = ?1", [kind]).map(drop)
        })
    }

    /// Returns the keys that have values of a kind.
    pub fn memo_keys(&self, kind: &str) -> Result<Vec<Vec<u8>>> {
        self.with("list remembered values", |connection| {
            connection
                .prepare_cached("SELECT key FROM memo WHERE kind = ?1 ORDER BY key")?
                .query_map([kind], |row| row.get(0))?
                .collect()
        })
    }

    /// Forgets the value of one key of a kind.
    pub fn memo_remove(&self, kind: &str, key: &[u8]) -> Result<()> {
        self.with("forget a value", |connection| {
            connection
                .execute("DELETE FROM memo WHERE kind = ?1 AND key = ?2", params![kind, key])
                .map(drop)
        })
    }

    /// Gives an image a name, which is taken from any other image that has it.
    pub fn put_image(&self, name: &str, digest: &Digest) -> Result<()> {
        self.with("name an image", |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO images VALUES(?1, ?2, ?3) ON CONFLICT(name)
                     DO UPDATE SET digest = excluded.digest, created = excluded.created",
                )?
                .execute(params![name, digest.as_bytes(), now()])
                .map(drop)
        })
    }

    /// Removes a name and returns true if it existed. The blobs stay until they are pruned.
    pub fn remove_image(&self, name: &str) -> Result<bool> {
        self.with("remove the name of an image", |connection| {
            Ok(connection.execute("DELETE FROM images WHERE name = ?1", [name])? > 0)
        })
    }

    /// Returns the digest of the image with a name.
    pub fn image(&self, name: &str) -> Result<Option<Digest>> {
        self.with("look up an image", |connection| {
            connection
                .prepare_cached("SELECT digest FROM images WHERE name = ?1")?
                .query_row([name], |row| digest(row, 0))
                .optional()
        })
    }

    /// Returns all names of images, in their order.
    pub fn images(&self) -> Result<Vec<NamedImage>> {
        self.with("list images", |connection| {
            connection
                .prepare_cached("SELECT name, digest, created FROM images ORDER BY name")?
                .query_map([], |row| {
                    Ok(NamedImage {
                        name: row.get(0)?,
                        digest: digest(row, 1)?,
                        created: row.get(2)?,
                    })
                })?
                .collect()
        })
    }

    /// Notes a use of an item now. Returns true if the item is known and was written or checked in
    /// this boot.
    pub(crate) fn touch(&self, table: Table, item: &Digest, boot: &str) -> Result<bool> {
        let sql = match table {
            Table::Blobs => "UPDATE blobs SET last_use = ?1 WHERE digest = ?2 AND boot = ?3",
            Table::Layers => "UPDATE layers SET last_use = ?1 WHERE diff_id = ?2 AND boot = ?3",
        };
        self.with("note a use", |connection| {
            Ok(connection.prepare_cached(sql)?.execute(params![now(), item.as_bytes(), boot])? > 0)
        })
    }

    /// Notes an item that was written or checked in this boot.
    pub(crate) fn put(&self, table: Table, item: &Digest, size: u64, boot: &str) -> Result<()> {
        let sql = match table {
            Table::Blobs => "INSERT OR REPLACE INTO blobs VALUES(?1, ?2, ?3, ?4)",
            Table::Layers => "INSERT OR REPLACE INTO layers VALUES(?1, ?2, ?3, ?4)",
        };
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.with("note an item", |connection| {
            connection
                .prepare_cached(sql)?
                .execute(params![item.as_bytes(), size, now(), boot])
                .map(drop)
        })
    }

    /// Returns all items of a table.
    pub(crate) fn items(&self, table: Table) -> Result<Vec<Item>> {
        let sql = match table {
            Table::Blobs => "SELECT digest, size, last_use FROM blobs",
            Table::Layers => "SELECT diff_id, size, last_use FROM layers",
        };
        self.with("list items", |connection| {
            connection
                .prepare_cached(sql)?
                .query_map([], |row| {
                    let size: i64 = row.get(1)?;
                    Ok(Item {
                        digest: digest(row, 0)?,
                        size: size.cast_unsigned(),
                        last_use: row.get(2)?,
                    })
                })?
                .collect()
        })
    }

    /// Returns the blob of a layer under a kind of compression.
    pub(crate) fn blob_of(&self, diff_id: &Digest, kind: &str) -> Result<Option<Descriptor>> {
        let found: Option<String> = self.with("look up a layer's blob", |connection| {
            connection
                .prepare_cached("SELECT descriptor FROM blob_of WHERE diff_id = ?1 AND kind = ?2")?
                .query_row(params![diff_id.as_bytes(), kind], |row| row.get(0))
                .optional()
        })?;
        Ok(found.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Returns all blobs of a layer.
    pub(crate) fn blobs_of(&self, diff_id: &Digest) -> Result<Vec<Descriptor>> {
        let found: Vec<String> = self.with("look up a layer's blobs", |connection| {
            connection
                .prepare_cached("SELECT descriptor FROM blob_of WHERE diff_id = ?1")?
                .query_map([diff_id.as_bytes()], |row| row.get(0))?
                .collect()
        })?;
        Ok(found.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Remembers the blob of a layer under a kind of compression.
    pub(crate) fn put_blob_of(
        &self,
        diff_id: &Digest,
        kind: &str,
        blob: &Descriptor,
    ) -> Result<()> {
        let text = serde_json::to_string(blob).expect("a descriptor has only text and numbers");
        self.with("remember a layer's blob", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO blob_of VALUES(?1, ?2, ?3)")?
                .execute(params![diff_id.as_bytes(), kind, text])
                .map(drop)
        })
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn digest(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    Ok(Digest::from_bytes(row.get(column)?))
}

/// Content digests. If the table cannot be used, nothing is remembered.
impl DigestMemo for Db {
    fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        let borrowed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        self.memo_get(MEMO_KIND, &borrowed).unwrap_or_else(|_| vec![None; keys.len()])
    }

    fn put_many(&self, values: Vec<(Vec<u8>, Vec<u8>)>) {
        let borrowed: Vec<(&[u8], &[u8])> =
            values.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        // A lost value is computed again.
        let _ = self.memo_put(MEMO_KIND, &borrowed);
    }
}

/// Changes a new database to a write-ahead log.
///
/// The change needs the file alone, and SQLite does not wait for that itself: of several processes
/// that find a new file, each may keep the others from it.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(rusqlite::Error::SqliteFailure(error, _))
                if error.code == rusqlite::ErrorCode::DatabaseBusy
                    && started.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_values_and_names_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path()).unwrap();
        db.memo_put("k", &[(b"a", b"1"), (b"b", b"2")]).unwrap();
        db.memo_put("k", &[(b"a", b"3")]).unwrap();
        let again = Db::open(folder.path()).unwrap();
        let values = again.memo_get("k", &[b"a", b"x", b"b"]).unwrap();
        assert_eq!(values, [Some(b"3".to_vec()), None, Some(b"2".to_vec())]);
        again.memo_remove("k", b"a").unwrap();
        assert_eq!(db.memo_keys("k").unwrap(), [b"b"]);
        again.memo_clear("k").unwrap();
        assert_eq!(db.memo_get("k", &[b"a"]).unwrap(), [None]);

        let digest = Digest::of("x");
        db.put_image("app:1", &digest).unwrap();
        assert_eq!(again.image("app:1").unwrap(), Some(digest));
        assert_eq!(again.images().unwrap()[0].name, "app:1");
        assert!(db.remove_image("app:1").unwrap() && !db.remove_image("app:1").unwrap());
    }
}
