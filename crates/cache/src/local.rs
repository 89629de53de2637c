//! This machine's records, in the store's database.
//!
//! Tables: `cache_record` (a digest), `cache_link` (a record by which an input of another is
//! known), `cache_chain` (a layer and the chain below it), `cache_result` (an output of a record).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Descriptor, Digest, Repository};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use solve::{Found, Link, NewRecord};
use store::{Chain, Layer, Place, Store};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS cache_record(number INTEGER PRIMARY KEY, digest BLOB NOT NULL, root INTEGER NOT NULL);
    CREATE UNIQUE INDEX IF NOT EXISTS cache_record_root ON cache_record(digest) WHERE root = 1;
    CREATE TABLE IF NOT EXISTS cache_link(
        parent INTEGER NOT NULL, digest BLOB NOT NULL, input INTEGER NOT NULL, selector BLOB NOT NULL, child INTEGER NOT NULL,
        PRIMARY KEY(parent, digest, input, selector, child)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS cache_link_child ON cache_link(child, input);
    CREATE TABLE IF NOT EXISTS cache_chain(id BLOB PRIMARY KEY, below BLOB NOT NULL, layer TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS cache_result(
        record INTEGER NOT NULL, chain BLOB NOT NULL, created TEXT NOT NULL, PRIMARY KEY(record, chain)
    ) WITHOUT ROWID;";

/// The records of this machine.
pub struct LocalRecords {
    store: Store,
    name: Arc<str>,
    /// Chains that were read or written whole; most records of a build share theirs.
    chains: Mutex<HashMap<Digest, Chain>>,
    /// Chains whose layers were found to be somewhere.
    sourced: Mutex<HashMap<Digest, Chain>>,
}

impl LocalRecords {
    /// The records in a store's database; the tables are made where there are none.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn open(store: &Store) -> Result<Self, store::Error> {
        store
            .db()
            .with("make the tables of records", |connection| connection.execute_batch(TABLES))?;
        Ok(Self {
            store: store.clone(),
            name: "local".into(),
            chains: Mutex::default(),
            sourced: Mutex::default(),
        })
    }

    pub(crate) fn root(&self, digest: Digest) -> Result<Option<i64>, store::Error> {
        self.store.db().with("look up a record", |connection| root(connection, digest))
    }

    pub(crate) fn linked(
        &self,
        parent: i64,
        digest: Digest,
        input: usize,
        selector: Option<Digest>,
    ) -> Result<Vec<i64>, store::Error> {
        self.store.db().with("look up records", |connection| {
            linked(connection, parent, digest, input, selector)
        })
    }

    /// Outputs of a record, without those that were pruned since.
    pub(crate) fn results(&self, record: i64) -> Result<Vec<Found<Chain>>, store::Error> {
        let mut found = Vec::new();
        for result in self.kept_results(record)? {
            if let Some(chain) = self.with_sources(&result.chain)? {
                found.push(Found { chain, ..result });
            }
        }
        Ok(found)
    }

    /// A chain whose layers can all be had: unpacked, as a blob, or from another place.
    fn with_sources(&self, chain: &Chain) -> Result<Option<Chain>, store::Error> {
        let mut sourced = self.sourced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut above = Vec::new();
        let mut result = Chain::new();
        let mut at = chain;
        while let (Some(id), Some(layer), Some(below)) = (at.id(), at.top(), at.below()) {
            if let Some(known) = sourced.get(&id) {
                result = known.clone();
                break;
            }
            above.push((id, layer));
            at = below;
        }
        for (id, layer) in above.into_iter().rev() {
            let Some(layer) = self.with_source(layer)? else { return Ok(None) };
            result = result.with(layer);
            sourced.insert(id, result.clone());
        }
        Ok(Some(result))
    }

    fn with_source(&self, layer: &Layer) -> Result<Option<Layer>, store::Error> {
        let has_source = |blob: &Descriptor| {
            !layer.places.is_empty() || self.store.blob_path(&blob.digest).exists()
        };
        if self.store.layer_folder(&layer.diff_id).is_dir()
            || layer.blob.as_ref().is_some_and(has_source)
        {
            return Ok(Some(layer.clone()));
        }
        // It was compressed after the record was made.
        let blob = self.store.stored_blob(&layer.diff_id)?;
        Ok(blob.map(|blob| Layer { blob: Some(blob), ..layer.clone() }))
    }

    fn kept_results(&self, record: i64) -> Result<Vec<Found<Chain>>, store::Error> {
        self.store.db().with("look up outputs", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT chain, created FROM cache_result WHERE record = ?1 ORDER BY created DESC",
            )?;
            let rows = statement.query_map([record], |row| {
                Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?))
            })?;
            let rows: Vec<([u8; 32], String)> = rows.collect::<rusqlite::Result<_>>()?;
            let mut found = Vec::new();
            for (id, created) in rows {
                if let Some(chain) = self.chain(connection, Digest::from_bytes(id))? {
                    found.push(Found { chain, created, source: self.name.clone() });
                }
            }
            Ok(found)
        })
    }

    pub(crate) fn content_links(
        &self,
        record: i64,
        input: usize,
    ) -> Result<Vec<Digest>, store::Error> {
        self.store.db().with("look up contents", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT cache_record.digest FROM cache_link JOIN cache_record ON cache_record.number = cache_link.parent
                 WHERE child = ?1 AND input = ?2 AND selector = x'' AND root = 1",
            )?;
            let digests = statement.query_map(params![record, input as i64], |row| row.get(0).map(Digest::from_bytes))?;
            digests.collect()
        })
    }

    pub(crate) fn save(&self, record: &NewRecord<Chain>) -> Result<i64, store::Error> {
        self.store.db().with("keep a record", |connection| {
            if record.inputs.is_empty()
                && record.output.is_none()
                && let Some(number) = root(connection, record.digest)?
            {
                return Ok(number);
            }
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let number = self.save_in(&transaction, record)?;
            transaction.commit()?;
            Ok(number)
        })
    }

    fn save_in(&self, connection: &Connection, record: &NewRecord<Chain>) -> rusqlite::Result<i64> {
        let inputs = record
            .inputs
            .iter()
            .map(|links| links.iter().map(|link| link_parts(connection, link)).collect())
            .collect::<rusqlite::Result<Vec<Vec<(i64, Vec<u8>)>>>>()?;
        let number = match find(connection, record.digest, &inputs)? {
            Some(number) => number,
            None => insert_record(connection, record.digest, inputs.is_empty())?,
        };
        let mut statement = connection
            .prepare_cached("INSERT OR IGNORE INTO cache_link VALUES(?1, ?2, ?3, ?4, ?5)")?;
        for (input, links) in inputs.iter().enumerate() {
            for (parent, selector) in links {
                statement.execute(params![
                    parent,
                    record.digest.as_bytes(),
                    input as i64,
                    selector,
                    number
                ])?;
            }
        }
        if let Some(chain) = &record.output
            && let Some(id) = chain.id()
        {
            self.save_chain(connection, chain)?;
            let created = chain.top().and_then(|layer| layer.created.clone()).unwrap_or_default();
            connection
                .prepare_cached("INSERT OR REPLACE INTO cache_result VALUES(?1, ?2, ?3)")?
                .execute(params![number, id.as_bytes(), created])?;
        }
        Ok(number)
    }

    /// Writes the layers of a chain, from the top down to a part that is known to be written.
    fn save_chain(&self, connection: &Connection, chain: &Chain) -> rusqlite::Result<()> {
        let mut write =
            connection.prepare_cached("INSERT OR REPLACE INTO cache_chain VALUES(?1, ?2, ?3)")?;
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut above = Vec::new();
        let mut written = Chain::new();
        let mut at = chain;
        while let (Some(id), Some(layer), Some(below)) = (at.id(), at.top(), at.below()) {
            if let Some(known) = chains.get(&id)
                && known.top() == Some(layer)
            {
                written = known.clone();
                break;
            }
            let there = chain_row(connection, id)?.map(|(_, layer)| layer);
            let layer = there.as_ref().map_or_else(|| layer.clone(), |there| merged(layer, there));
            if there.as_ref() != Some(&layer) {
                let text = serde_json::to_string(&LayerText::from(&layer))
                    .expect("a layer has no map with keys that are not texts");
                let below = below.id();
                let below = below.as_ref().map_or(&[][..], |id| id.as_bytes());
                write.execute(params![id.as_bytes(), below, text])?;
            }
            above.push((id, layer));
            at = below;
        }
        for (id, layer) in above.into_iter().rev() {
            written = written.with(layer);
            chains.insert(id, written.clone());
        }
        Ok(())
    }

    /// Reads a chain from the top down; none if a part of it is missing or cannot be read.
    fn chain(&self, connection: &Connection, id: Digest) -> rusqlite::Result<Option<Chain>> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut above = Vec::new();
        let mut at = Some(id);
        let mut chain = Chain::new();
        while let Some(id) = at {
            if let Some(known) = chains.get(&id) {
                chain = known.clone();
                break;
            }
            let Some((below, layer)) = chain_row(connection, id)? else { return Ok(None) };
            above.push(layer);
            at = below;
        }
        for layer in above.into_iter().rev() {
            chain = chain.with(layer);
            if let Some(id) = chain.id() {
                chains.insert(id, chain.clone());
            }
        }
        Ok((chain.id() == Some(id)).then_some(chain))
    }
}

/// A layer of a chain, and the chain below it; none where there is no row, or none that can be
/// read.
fn chain_row(
    connection: &Connection,
    id: Digest,
) -> rusqlite::Result<Option<(Option<Digest>, Layer)>> {
    let mut statement =
        connection.prepare_cached("SELECT below, layer FROM cache_chain WHERE id = ?1")?;
    let row = statement.query_row([id.as_bytes()], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
    });
    let Some((below, text)) = row.optional()? else { return Ok(None) };
    let below = <[u8; 32]>::try_from(below).ok().map(Digest::from_bytes);
    Ok(serde_json::from_str::<LayerText>(&text).ok().map(|text| (below, text.layer())))
}

/// A layer with what was known of it before.
fn merged(new: &Layer, there: &Layer) -> Layer {
    let digest = |layer: &Layer| layer.blob.as_ref().map(|blob| blob.digest);
    if new.blob.is_some() && digest(new) != digest(there) {
        return new.clone();
    }
    // Places are of the blob: they stay with it.
    let mut places = there.places.clone();
    places.extend(new.places.iter().filter(|place| !there.places.contains(place)).cloned());
    let (blob, created) = (there.blob.clone(), new.created.clone().or(there.created.clone()));
    Layer { diff_id: new.diff_id, blob, created, places }
}

fn root(connection: &Connection, digest: Digest) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection
        .prepare_cached("SELECT number FROM cache_record WHERE digest = ?1 AND root = 1")?;
    statement.query_row([digest.as_bytes()], |row| row.get(0)).optional()
}

fn linked(
    connection: &Connection,
    parent: i64,
    digest: Digest,
    input: usize,
    selector: Option<Digest>,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT child FROM cache_link WHERE parent = ?1 AND digest = ?2 AND input = ?3 AND selector = ?4")?;
    let selector = selector.as_ref().map_or(&[][..], |selector| selector.as_bytes());
    statement
        .query_map(params![parent, digest.as_bytes(), input as i64, selector], |row| row.get(0))?
        .collect()
}

fn insert_record(connection: &Connection, digest: Digest, root: bool) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO cache_record(digest, root) VALUES(?1, ?2)")?
        .execute(params![digest.as_bytes(), root])?;
    Ok(connection.last_insert_rowid())
}

/// The record that a link leads to, and its selector.
fn link_parts(connection: &Connection, link: &Link) -> rusqlite::Result<(i64, Vec<u8>)> {
    match link {
        Link::Record { record, selector } => Ok((
            record.number,
            selector.map(|selector| selector.as_bytes().to_vec()).unwrap_or_default(),
        )),
        Link::Content(digest) => match root(connection, *digest)? {
            Some(number) => Ok((number, Vec::new())),
            None => Ok((insert_record(connection, *digest, true)?, Vec::new())),
        },
    }
}

/// The record with this digest that shares, for each input, a link with the new one, and read
/// nothing else.
fn find(
    connection: &Connection,
    digest: Digest,
    inputs: &[Vec<(i64, Vec<u8>)>],
) -> rusqlite::Result<Option<i64>> {
    if inputs.is_empty() {
        return root(connection, digest);
    }
    let mut common: Option<BTreeSet<i64>> = None;
    for (input, links) in inputs.iter().enumerate() {
        let mut children = BTreeSet::new();
        for (parent, selector) in links {
            let selector = <[u8; 32]>::try_from(selector.as_slice()).ok().map(Digest::from_bytes);
            children.extend(linked(connection, *parent, digest, input, selector)?);
        }
        common = Some(match common {
            None => children,
            Some(common) => common.intersection(&children).copied().collect(),
        });
    }
    for candidate in common.into_iter().flatten() {
        if agrees(connection, candidate, inputs)? {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// Whether a record read the same as a new one, as far as both say what they read. A command can
/// make something else each time that it runs: who reads the one is not to get what was made of
/// the other.
fn agrees(
    connection: &Connection,
    candidate: i64,
    inputs: &[Vec<(i64, Vec<u8>)>],
) -> rusqlite::Result<bool> {
    let mut known = connection.prepare_cached(
        "SELECT parent FROM cache_link JOIN cache_record ON cache_record.number = cache_link.parent
         WHERE child = ?1 AND input = ?2 AND selector = x'' AND root = 1",
    )?;
    let mut is_root =
        connection.prepare_cached("SELECT root FROM cache_record WHERE number = ?1")?;
    for (input, links) in inputs.iter().enumerate() {
        let known: BTreeSet<i64> = known
            .query_map(params![candidate, input as i64], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut read = BTreeSet::new();
        for (parent, selector) in links {
            if selector.is_empty() && is_root.query_row([parent], |row| row.get::<_, bool>(0))? {
                read.insert(*parent);
            }
        }
        if !known.is_empty() && !read.is_empty() && known.is_disjoint(&read) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A layer as the table keeps it.
#[derive(Serialize, Deserialize)]
struct LayerText {
    diff_id: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    places: Vec<PlaceText>,
}

#[derive(Serialize, Deserialize)]
enum PlaceText {
    Registry { host: String, path: String, insecure: bool },
    Layout(std::path::PathBuf),
    Remote(String),
}

impl From<&Layer> for LayerText {
    fn from(layer: &Layer) -> Self {
        let place = |place: &Place| match place {
            Place::Registry { repository, insecure } => PlaceText::Registry {
                host: repository.host().into(),
                path: repository.path().into(),
                insecure: *insecure,
            },
            Place::Layout(folder) => PlaceText::Layout(folder.clone()),
            Place::Remote(name) => PlaceText::Remote(name.to_string()),
        };
        Self {
            diff_id: layer.diff_id,
            blob: layer.blob.clone(),
            created: layer.created.clone(),
            places: layer.places.iter().map(place).collect(),
        }
    }
}

impl LayerText {
    fn layer(self) -> Layer {
        let place = |place| match place {
            PlaceText::Registry { host, path, insecure } => {
                Place::Registry { repository: Repository::new(host, path), insecure }
            }
            PlaceText::Layout(folder) => Place::Layout(folder),
            PlaceText::Remote(name) => Place::Remote(name.into()),
        };
        Layer {
            diff_id: self.diff_id,
            blob: self.blob,
            created: self.created,
            places: self.places.into_iter().map(place).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
