//! `kiln du`.

use build::images::{DiskEntry, usage};
use serde_json::json;
use store::Store;

use super::{ago, json_lines, now, report};
use crate::args::{DuArgs, ListFormat, disk_filter, list_format};
use crate::render::{Report, table};
use crate::{human, terminal};

/// Prints the disk usage of each entry.
///
/// # Errors
/// If a flag is wrong or the store cannot be read.
pub fn run(args: &DuArgs, store: &Store) -> Result<(), Report> {
    let filter = disk_filter(&args.entries.filter)?;
    let format = list_format(args.format.as_deref())?;
    let mut entries = usage(store).map_err(|error| report(&error))?;
    entries.retain(|entry| filter.fits(entry, 1000 * now()));
    terminal::print(&text(&entries, args, format, now()))
}

/// The table, with buildx' totals under it; `now` is in seconds since 1970.
pub fn text(entries: &[DiskEntry], args: &DuArgs, format: ListFormat, now: i64) -> String {
    if format == ListFormat::Json {
        return json_lines(entries.iter().map(|entry| {
            json!({
                "ID": entry.id, "Type": entry.kind.to_string(), "Size": entry.size,
                "Reclaimable": entry.reclaimable, "LastUsedAt": time(entry.last_used),
                "Description": entry.description,
            })
        }));
    }
    let cells = entries.iter().map(|entry| {
        [
            entry.id.clone(),
            entry.kind.to_string(),
            entry.reclaimable.to_string(),
            human::size(entry.size),
            ago(Some(entry.last_used.div_euclid(1000)), now),
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

/// A time in RFC 3339, from milliseconds since 1970.
fn time(millis: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(millis).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use build::images::DiskKind;

    use super::*;

    #[test]
    fn totals_are_under_the_table() {
        let entry = |id: &str, reclaimable| DiskEntry {
            id: id.into(),
            kind: DiskKind::Layer,
            size: 1000,
            reclaimable,
            last_used: 0,
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
