//! `kiln du`.

use serde_json::json;

use super::{ago, json_lines};
use crate::args::{DuArgs, ListFormat};
use crate::human;
use crate::render::table;

/// Something that takes disk.
#[derive(Clone, Debug)]
pub struct DiskEntry {
    /// Its name in the store: a digest, a path.
    pub id: String,
    /// What it is, as `layer`, `blob`, `cache mount`.
    pub kind: String,
    /// Bytes on disk.
    pub size: u64,
    /// Whether `prune` may remove it.
    pub reclaimable: bool,
    /// When it was last used, in seconds since 1970.
    pub last_used: Option<i64>,
    /// What it came from, as a step's name.
    pub description: String,
}

/// The table, with buildx' totals under it; `now` is in seconds since 1970.
pub fn text(entries: &[DiskEntry], args: &DuArgs, format: ListFormat, now: i64) -> String {
    if format == ListFormat::Json {
        return json_lines(entries.iter().map(|entry| {
            json!({
                "ID": entry.id, "Type": entry.kind, "Size": entry.size,
                "Reclaimable": entry.reclaimable, "LastUsedAt": entry.last_used,
                "Description": entry.description,
            })
        }));
    }
    let cells = entries.iter().map(|entry| {
        [
            entry.id.clone(),
            entry.kind.clone(),
            entry.reclaimable.to_string(),
            human::size(entry.size),
            ago(entry.last_used, now),
            entry.description.clone(),
        ]
    });
    let mut text = match args.verbose {
        true => {
            let rows: Vec<_> = cells.collect();
            table(["ID", "KIND", "RECLAIMABLE", "SIZE", "LAST USED", "DESCRIPTION"], &rows)
        }
        false => {
            let rows: Vec<_> =
                cells.map(|[id, kind, free, size, used, _]| [id, kind, free, size, used]).collect();
            table(["ID", "KIND", "RECLAIMABLE", "SIZE", "LAST USED"], &rows)
        }
    };
    let sum = |all: bool| -> u64 {
        entries.iter().filter(|entry| all || entry.reclaimable).map(|entry| entry.size).sum()
    };
    let (free, total) = (human::size(sum(false)), human::size(sum(true)));
    text.push_str(&format!("Reclaimable:\t{free}\nTotal:\t\t{total}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_under_the_table() {
        let entry = |id: &str, reclaimable| DiskEntry {
            id: id.into(),
            kind: "layer".into(),
            size: 1000,
            reclaimable,
            last_used: Some(0),
            description: "RUN x".into(),
        };
        let entries = [entry("a", true), entry("b", false)];
        let args = DuArgs::default();
        assert_eq!(
            text(&entries, &args, ListFormat::Table, 120),
            "ID   KIND    RECLAIMABLE   SIZE   LAST USED\n\
             a    layer   true          1kB    2 minutes ago\n\
             b    layer   false         1kB    2 minutes ago\n\
             Reclaimable:\t1kB\nTotal:\t\t2kB\n"
        );
        let verbose = DuArgs { verbose: true, ..DuArgs::default() };
        assert!(text(&entries, &verbose, ListFormat::Table, 120).contains("RUN x"));
        assert!(text(&entries, &args, ListFormat::Json, 0).starts_with("{\"ID\":\"a\""));
    }
}
