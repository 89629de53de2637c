//! `kiln prune`.

use super::du::DiskEntry;
use crate::args::PruneArgs;
use crate::human;

/// The question before something is removed; none with `--force`.
pub fn question(args: &PruneArgs) -> Option<&'static str> {
    match (args.force, args.all) {
        (true, _) => None,
        (false, true) => Some(
            "WARNING! This will remove all that kiln keeps and can make again. Are you sure you want to continue? [y/N] ",
        ),
        (false, false) => Some(
            "WARNING! This will remove what no image needs. Are you sure you want to continue? [y/N] ",
        ),
    }
}

/// Whether the answer is yes.
pub fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// What was removed, with the sum.
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
