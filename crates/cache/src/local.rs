//! This machine's records, in the store's database.
//!
//! Tables: `cache_record` (a digest), `cache_link` (a record by which an input of another is
//! known), `cache_chain` (a layer and the chain below it), `cache_result` (an output of a record).
//! Chains are known by what they are and when their layers were made ([`Chain::dated_id`]): a step
//! keeps its time, whatever other step or base has the same layers.

mod text;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use layer::{Assumptions, Chain, Layer};
use oci::{Descriptor, Digest};
use rusqlite::{Connection, OptionalExtension as _, params};
use solve::{FoundOutput, Link, NewRecord};
use store::Store;

use crate::assumed::{self, Number};
use text::LayerText;

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
    /// Caches on whose word records may stand.
    named: BTreeSet<Arc<str>>,
    /// Sets of assumptions that were read, by their numbers.
    assumed: Mutex<HashMap<Number, Assumptions>>,
}

impl LocalRecords {
    /// The records in a store's database; the tables are made where there are none.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn open(store: &Store) -> Result<Self, store::Error> {
        store.db().with("make the tables of records", |connection| {
            connection.execute_batch(TABLES)?;
            connection.execute_batch(assumed::TABLES)
        })?;
        Ok(Self {
            store: store.clone(),
            name: "local".into(),
            chains: Mutex::default(),
            sourced: Mutex::default(),
            named: BTreeSet::new(),
            assumed: Mutex::default(),
        })
    }

    /// For a build that names some caches: what stands on their word serves it too.
    #[must_use]
    pub fn naming(self, caches: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { named: caches.into_iter().collect(), ..self }
    }

    /// The unproved assumptions of a record; none if this build cannot use the record because one is
    /// false, or is of a cache that the build does not name.
    fn standing(&self, number: Number) -> Result<Option<Assumptions>, store::Error> {
        if number == 0 {
            return Ok(Some(Assumptions::default()));
        }
        let known = self.lock_assumed().get(&number).cloned();
        let assumptions = match known {
            Some(known) => known,
            None => {
                let read = |connection: &mut Connection| assumed::read(connection, number);
                let read = self.store.db().with("look up what a record stands on", read)?;
                let Some(read) = read else { return Ok(None) };
                self.lock_assumed().insert(number, read.clone());
                read
            }
        };
        let may_be = |assumption: &layer::Assumption| match self.store.proof(assumption) {
            Some(is_true) => is_true,
            None => self.named.contains(&assumption.cache),
        };
        let stands = assumptions.iter().all(may_be);
        Ok(stands.then(|| self.store.unproved(&assumptions)))
    }

    /// The blobs of a chain's layers that are those layers: their bytes were here.
    fn seen(&self, chain: &Chain) -> Result<BTreeSet<Digest>, store::Error> {
        let mut layers: Vec<Layer> = Vec::new();
        let chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = chain;
        while let (Some(id), Some(layer), Some(below)) = (at.dated_id(), at.top(), at.below())
            && chains.get(&id).is_none_or(|known| known.top() != Some(layer))
        {
            layers.push(layer.clone());
            at = below;
        }
        drop(chains);
        let blob = |layer: &Layer| Some((layer.blob.as_ref()?.digest, layer.diff_id));
        let claimed: Vec<(Digest, Digest)> = layers.iter().filter_map(blob).collect();
        let blobs: Vec<Digest> = claimed.iter().map(|(blob, _)| *blob).collect();
        let seen = self.store.seen_layers(&blobs)?;
        let is_true = |((blob, diff_id), seen): ((Digest, Digest), Option<Digest>)| {
            (seen == Some(diff_id)).then_some(blob)
        };
        Ok(claimed.into_iter().zip(seen).filter_map(is_true).collect())
    }

    /// The assumptions of a new record: those of its output and of the contents that it is known by.
    fn assumptions(&self, record: &NewRecord<Chain>) -> Assumptions {
        let output = record.output.as_ref().map(|output| output.assumed().clone());
        let contents = record.inputs.iter().flatten().filter_map(|link| match link {
            Link::Content(digest) => Some(self.store.content_assumptions(digest)),
            Link::Record { .. } => None,
        });
        let all = contents.fold(output.unwrap_or_default(), |all, more| all.and(&more));
        self.store.unproved(&all)
    }

    fn lock_assumed(&self) -> std::sync::MutexGuard<'_, HashMap<Number, Assumptions>> {
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner)
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
        let linked = self.store.db().with("look up records", |connection| {
            linked(connection, parent, digest, input, selector)
        })?;
        let mut usable = Vec::with_capacity(linked.len());
        for (record, number) in linked {
            if self.standing(number)?.is_some() {
                usable.push(record);
            }
        }
        Ok(usable)
    }

    /// Outputs of a record, without those that were pruned since.
    pub(crate) fn results(&self, record: i64) -> Result<Vec<FoundOutput<Chain>>, store::Error> {
        let Some(assumed) = self.standing_of(record)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for result in self.kept_results(record)? {
            if let Some(chain) = self.with_sources(&result.chain)? {
                found.push(FoundOutput { chain: chain.only_assuming(assumed.clone()), ..result });
            }
        }
        Ok(found)
    }

    fn standing_of(&self, record: i64) -> Result<Option<Assumptions>, store::Error> {
        let number = |connection: &mut Connection| assumed::of_record(connection, record);
        self.standing(self.store.db().with("look up what a record stands on", number)?)
    }

    /// A chain whose layers can all be had: unpacked, as a blob, or from another place.
    fn with_sources(&self, chain: &Chain) -> Result<Option<Chain>, store::Error> {
        let mut sourced = self.sourced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut above = Vec::new();
        let mut result = Chain::new();
        let mut at = chain;
        while let (Some(id), Some(layer), Some(below)) = (at.dated_id(), at.top(), at.below()) {
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

    fn kept_results(&self, record: i64) -> Result<Vec<FoundOutput<Chain>>, store::Error> {
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
                    found.push(FoundOutput { chain, created, source: self.name.clone() });
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
        let digests = self.store.db().with("look up contents", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT cache_record.digest FROM cache_link JOIN cache_record ON cache_record.number = cache_link.parent
                 WHERE child = ?1 AND input = ?2 AND selector = x'' AND root = 1",
            )?;
            let digests = statement.query_map(params![record, input as i64], |row| row.get(0).map(Digest::from_bytes))?;
            digests.collect::<rusqlite::Result<Vec<Digest>>>()
        })?;
        // A step known by these contents stands on the assumptions of the record.
        if let Some(assumed) = self.standing_of(record)? {
            digests.iter().for_each(|digest| self.store.note_content(*digest, &assumed));
        }
        Ok(digests)
    }

    pub(crate) fn save(&self, record: &NewRecord<Chain>) -> Result<i64, store::Error> {
        let assumed = self.assumptions(record);
        let seen = record.output.as_ref().map_or(Ok(BTreeSet::new()), |chain| self.seen(chain))?;
        self.store.db().with("keep a record", |connection| {
            if record.inputs.is_empty()
                && record.output.is_none()
                && let Some(number) = root(connection, record.digest)?
            {
                return Ok(number);
            }
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let assumed = assumed::number(&transaction, &assumed)?;
            let number = self.save_in(&transaction, record, (assumed, &seen))?;
            transaction.commit()?;
            Ok(number)
        })
    }

    fn save_in(
        &self,
        connection: &Connection,
        record: &NewRecord<Chain>,
        (assumed, seen): (Number, &BTreeSet<Digest>),
    ) -> rusqlite::Result<i64> {
        let inputs = record
            .inputs
            .iter()
            .map(|links| links.iter().map(|link| link_parts(connection, link)).collect())
            .collect::<rusqlite::Result<Vec<Vec<(i64, Vec<u8>)>>>>()?;
        // A record without inputs is a name, of which nothing can be false.
        let assumed = if inputs.is_empty() { 0 } else { assumed };
        let number = match find(connection, record.digest, &inputs, assumed)? {
            Some(number) => number,
            None => {
                let number = insert_record(connection, record.digest, inputs.is_empty())?;
                assumed::note(connection, number, assumed)?;
                number
            }
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
            && let Some(id) = chain.dated_id()
        {
            self.save_chain(connection, (chain, seen))?;
            self.forget_equal(connection, number, chain)?;
            let created = chain.top().and_then(|layer| layer.created.clone()).unwrap_or_default();
            connection
                .prepare_cached("INSERT OR REPLACE INTO cache_result VALUES(?1, ?2, ?3)")?
                .execute(params![number, id.as_bytes(), created])?;
        }
        Ok(number)
    }

    /// Forgets the outputs of a record that are the same as a new one but for their times.
    fn forget_equal(
        &self,
        connection: &Connection,
        record: i64,
        chain: &Chain,
    ) -> rusqlite::Result<()> {
        let mut known =
            connection.prepare_cached("SELECT chain FROM cache_result WHERE record = ?1")?;
        let known: Vec<[u8; 32]> =
            known.query_map([record], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut forget = connection
            .prepare_cached("DELETE FROM cache_result WHERE record = ?1 AND chain = ?2")?;
        for id in known.into_iter().map(Digest::from_bytes) {
            let there = self.chain(connection, id)?;
            if there.is_some_and(|there| is_remake(chain, &there)) {
                forget.execute(params![record, id.as_bytes()])?;
            }
        }
        Ok(())
    }

    /// Writes the layers of a chain, from the top down to a part that is known to be written.
    fn save_chain(
        &self,
        connection: &Connection,
        (chain, seen): (&Chain, &BTreeSet<Digest>),
    ) -> rusqlite::Result<()> {
        let mut write =
            connection.prepare_cached("INSERT OR REPLACE INTO cache_chain VALUES(?1, ?2, ?3)")?;
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut above = Vec::new();
        let mut written = Chain::new();
        let mut at = chain;
        while let (Some(id), Some(layer), Some(below)) = (at.dated_id(), at.top(), at.below()) {
            if let Some(known) = chains.get(&id)
                && known.top() == Some(layer)
            {
                written = known.clone();
                break;
            }
            let there = chain_row(connection, id)?.map(|(_, layer)| layer);
            let layer = match &there {
                Some(there) if is_hearsay(layer, there, seen) => there.clone(),
                Some(there) => merged(layer, there),
                None => layer.clone(),
            };
            if there.as_ref() != Some(&layer) {
                let text = serde_json::to_string(&LayerText::from(&layer))
                    .expect("a layer has no map with keys that are not texts");
                let below = below.dated_id();
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
            above.push((id, layer));
            at = below;
        }
        for (id, layer) in above.into_iter().rev() {
            chain = chain.with(layer);
            // Rows of earlier versions have the id without times.
            if chain.dated_id() != Some(id) && chain.id() != Some(id) {
                return Ok(None);
            }
            chains.insert(id, chain.clone());
        }
        Ok((!chain.is_empty()).then_some(chain))
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

/// True if a layer is claimed to be another blob than the known one, and this machine has not seen the
/// bytes of that blob. A cache's claim must not change layers that other records stand on.
fn is_hearsay(new: &Layer, there: &Layer, seen: &BTreeSet<Digest>) -> bool {
    match (&new.blob, &there.blob) {
        (Some(new), Some(there)) => new.digest != there.digest && !seen.contains(&new.digest),
        _ => false,
    }
}

/// True if a chain is another one made again: the same layers and no other blobs.
fn is_remake(new: &Chain, there: &Chain) -> bool {
    let same_blob = |(new, there): (Layer, Layer)| match (new.blob, there.blob) {
        (Some(new), Some(there)) => new.digest == there.digest,
        _ => true,
    };
    new.id() == there.id() && new.layers().into_iter().zip(there.layers()).all(same_blob)
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
    Layer { diff_id: new.diff_id, blob: there.blob.clone(), created: new.created.clone(), places }
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
) -> rusqlite::Result<Vec<(i64, Number)>> {
    let mut statement = connection.prepare_cached(
        "SELECT child, COALESCE(assumed, 0) FROM cache_link LEFT JOIN cache_assuming ON record = child
         WHERE parent = ?1 AND digest = ?2 AND input = ?3 AND selector = ?4",
    )?;
    let selector = selector.as_ref().map_or(&[][..], |selector| selector.as_bytes());
    let found = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    statement
        .query_map(params![parent, digest.as_bytes(), input as i64, selector], found)?
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

/// The record with this digest that shares, for each input, a link with the new one, read nothing
/// else, and stands on the same assumptions.
fn find(
    connection: &Connection,
    digest: Digest,
    inputs: &[Vec<(i64, Vec<u8>)>],
    assumed: Number,
) -> rusqlite::Result<Option<i64>> {
    if inputs.is_empty() {
        return root(connection, digest);
    }
    let mut common: Option<BTreeSet<i64>> = None;
    for (input, links) in inputs.iter().enumerate() {
        let mut children = BTreeSet::new();
        for (parent, selector) in links {
            let selector = <[u8; 32]>::try_from(selector.as_slice()).ok().map(Digest::from_bytes);
            let linked = linked(connection, *parent, digest, input, selector)?.into_iter();
            children
                .extend(linked.filter(|(_, number)| *number == assumed).map(|(child, _)| child));
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

/// True if a record read the same as a new one, as far as both list what they read. A command can have
/// another result each time it runs, and a step that reads one result must not get an output that was
/// made of the other.
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

#[cfg(test)]
mod tests;
