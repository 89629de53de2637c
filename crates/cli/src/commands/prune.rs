//! `kiln prune`.

use build::images::{DiskEntry, Limits, PruneRequest, prune};
use store::Store;

use super::report;
use crate::args::{PruneArgs, disk_filter};
use crate::render::Report;
use crate::{human, terminal};

/// Removes unneeded entries after a question.
///
/// # Errors
/// If a flag is wrong, there is no answer, or an entry cannot be removed.
pub fn run(args: &PruneArgs, store: &Store) -> Result<(), Report> {
    let mut filter = disk_filter(&args.entries.filter)?;
    filter.unused_for = args.until.or(filter.unused_for);
    if let Some(question) = question(args) {
        match terminal::confirm(question)? {
            Some(answer) if is_yes(&answer) => (),
            Some(_) => return Ok(()),
            None => {
                let message = "nothing was removed: there is nobody to ask; give `--force`";
                return Err(message.to_owned().into());
            }
        }
    }
    let request = PruneRequest { all: args.all, limits: limits(args), filter };
    let removed = prune(store, request).map_err(|error| report(&error))?;
    terminal::print(&text(&removed, args))
}

/// The sizes to keep. 0 counts as unset, as with buildx.
fn limits(args: &PruneArgs) -> Limits {
    let given = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0);
    Limits {
        max_used: given(args.max_used_space),
        min_free: given(args.min_free_space),
        reserved: given(args.reserved_space),
    }
}

/// The question before entries are removed; none with `--force`.
pub fn question(args: &PruneArgs) -> Option<&'static str> {
    match (args.force, args.all) {
        (true, _) => None,
        (false, true) => Some(
            "WARNING! This will remove all build cache, cache mounts too; images with names stay. Are you sure you want to continue? [y/N] ",
        ),
        (false, false) => Some(
            "WARNING! This will remove all build cache that no image with a name needs. Are you sure you want to continue? [y/N] ",
        ),
    }
}

/// True if the answer is yes.
pub fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// The removed entries and their total size.
pub fn text(removed: &[DiskEntry], args: &PruneArgs) -> String {
    let mut text = String::new();
    if args.verbose {
        for entry in removed {
            text.push_str(&format!("{}\t{}\t{}\n", entry.id, entry.kind, human::size(entry.size)));
        }
    }
    let sum: u64 = removed.iter().map(|entry| entry.size).sum();
    text.push_str(&format!("Total:\t{}\n", human::size(sum)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_asks_nothing() {
        assert!(question(&PruneArgs::default()).is_some());
        assert!(question(&PruneArgs { force: true, ..PruneArgs::default() }).is_none());
        assert!(is_yes("Y\n") && !is_yes("") && !is_yes("no"));
        assert_eq!(text(&[], &PruneArgs::default()), "Total:\t0B\n");
    }
}
