//! Records that stand on a cache's unproved statements about layers, kept apart from all others.
//!
//! Tables: `cache_assumed` (each set of assumptions, once), `cache_assuming` (the records that stand
//! on one). A record that is in neither stands on nothing but what was seen here.

use layer::{Assumption, Assumptions, Claim};
use oci::Digest;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

pub(crate) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS cache_assumed(number INTEGER PRIMARY KEY, assumptions TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS cache_assuming(record INTEGER PRIMARY KEY, assumed INTEGER NOT NULL);";

/// A set of assumptions in the tables; 0 is the empty one.
pub(crate) type Number = i64;

/// The set of assumptions that a record stands on.
pub(crate) fn of_record(connection: &Connection, record: i64) -> rusqlite::Result<Number> {
    let mut statement =
        connection.prepare_cached("SELECT assumed FROM cache_assuming WHERE record = ?1")?;
    Ok(statement.query_row([record], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// The number of a set, which gets one.
pub(crate) fn number(
    connection: &Connection,
    assumptions: &Assumptions,
) -> rusqlite::Result<Number> {
    if assumptions.is_empty() {
        return Ok(0);
    }
    let text: Vec<AssumptionText> = assumptions.iter().map(AssumptionText::from).collect();
    let text = serde_json::to_string(&text).expect("it has no map");
    connection
        .prepare_cached("INSERT OR IGNORE INTO cache_assumed(assumptions) VALUES(?1)")?
        .execute([&text])?;
    connection
        .prepare_cached("SELECT number FROM cache_assumed WHERE assumptions = ?1")?
        .query_row([&text], |row| row.get(0))
}

/// Notes what a new record stands on.
pub(crate) fn note(connection: &Connection, record: i64, number: Number) -> rusqlite::Result<()> {
    let sql = match number {
        0 => return Ok(()),
        _ => "INSERT OR REPLACE INTO cache_assuming VALUES(?1, ?2)",
    };
    connection.prepare_cached(sql)?.execute(params![record, number]).map(drop)
}

/// A set by its number; none if it is not there, or cannot be read.
pub(crate) fn read(
    connection: &Connection,
    number: Number,
) -> rusqlite::Result<Option<Assumptions>> {
    if number == 0 {
        return Ok(Some(Assumptions::default()));
    }
    let mut statement =
        connection.prepare_cached("SELECT assumptions FROM cache_assumed WHERE number = ?1")?;
    let text: Option<String> = statement.query_row([number], |row| row.get(0)).optional()?;
    let texts = text.and_then(|text| serde_json::from_str::<Vec<AssumptionText>>(&text).ok());
    Ok(texts.map(|texts| texts.into_iter().map(AssumptionText::assumption).collect()))
}

/// An assumption as the table keeps it.
#[derive(Serialize, Deserialize)]
struct AssumptionText {
    cache: String,
    layer: Digest,
    digest: Digest,
    /// A file of the layer; none for its index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<Vec<u8>>,
}

impl From<&Assumption> for AssumptionText {
    fn from(assumption: &Assumption) -> Self {
        let Assumption { cache, diff_id, claim } = assumption;
        let (digest, file) = match claim {
            Claim::Index(digest) => (*digest, None),
            Claim::File { path, digest } => (*digest, Some(path.to_vec())),
        };
        Self { cache: cache.to_string(), layer: *diff_id, digest, file }
    }
}

impl AssumptionText {
    fn assumption(self) -> Assumption {
        let Self { cache, layer, digest, file } = self;
        let claim = match file {
            None => Claim::Index(digest),
            Some(path) => Claim::File { path: path.into(), digest },
        };
        Assumption { cache: cache.into(), diff_id: layer, claim }
    }
}
