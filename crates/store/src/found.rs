//! The results of a walk over a changed tree, and the layer's entries that are made of them.

use layer::{Entry, EntryKind};
use std::collections::{HashMap, HashSet};

/// A file of a changed tree, or a removed name. A walk finds them in the order of [`Entry`].
pub(crate) struct FoundFile {
    /// The layer's entry, except that names of one file are not yet links.
    pub(crate) entry: Entry,
    /// The inode, for a file with several names.
    pub(crate) inode: Option<u64>,
    /// True if it differs from the layers below. An unchanged file is an entry only if it is a
    /// directory on the way to a change, or another name of a changed file.
    pub(crate) changed: bool,
}

impl FoundFile {
    /// Returns a removed name of lower layers.
    pub(crate) fn gone(path: &[u8]) -> Self {
        Self { entry: Entry::whiteout(path), inode: None, changed: true }
    }
}

/// The entries of a layer, and the paths that were found but are no entries.
pub(crate) struct Settled {
    pub(crate) entries: Vec<Entry>,
    pub(crate) left_out: Vec<Box<[u8]>>,
}

/// Selects the entries. Further names of a file become links to the first.
pub(crate) fn settle(mut found: Vec<FoundFile>) -> Settled {
    let changed: HashSet<u64> =
        found.iter().filter(|found| found.changed).filter_map(|found| found.inode).collect();
    for found in &mut found {
        found.changed |= found.inode.is_some_and(|inode| changed.contains(&inode));
    }
    // From the end, because the content of a directory comes right after it.
    let mut last: &[u8] = b"";
    let mut kept = vec![false; found.len()];
    for (found, kept) in found.iter().zip(&mut kept).rev() {
        let path = &found.entry.path;
        *kept = found.changed || is_in(last, path);
        if *kept {
            last = path;
        }
    }
    let mut settled = Settled { entries: Vec::with_capacity(found.len()), left_out: Vec::new() };
    let mut first: HashMap<u64, Box<[u8]>> = HashMap::new();
    for (FoundFile { mut entry, inode, .. }, kept) in found.into_iter().zip(kept) {
        if !kept {
            settled.left_out.push(entry.path);
            continue;
        }
        if let Some(inode) = inode {
            match first.get(&inode) {
                Some(target) => entry.kind = EntryKind::HardLink { target: target.clone() },
                None => _ = first.insert(inode, entry.path.clone()),
            }
        }
        settled.entries.push(entry);
    }
    settled
}

fn is_in(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, kind: EntryKind, inode: Option<u64>, changed: bool) -> FoundFile {
        let entry = Entry { kind, ..FoundFile::gone(path.as_bytes()).entry };
        FoundFile { entry, inode, changed }
    }

    #[test]
    fn names_of_a_changed_file_and_ways_to_changes_are_kept() {
        let file = || EntryKind::File { size: 1 };
        let settled = settle(vec![
            found("a", EntryKind::Directory, None, false),
            found("a/b", EntryKind::Directory, None, false),
            found("a/b/one", file(), Some(7), false),
            found("a/c", EntryKind::Directory, None, false),
            found("a/c/other", file(), Some(8), false),
            found("a/d", EntryKind::Directory, None, true),
            FoundFile::gone(b"a/d.x"),
            found("two", file(), Some(7), true),
        ]);
        let text = |entry: &Entry| match &entry.kind {
            EntryKind::HardLink { target } => format!(
                "{}={}",
                String::from_utf8_lossy(&entry.path),
                String::from_utf8_lossy(target)
            ),
            _ => String::from_utf8_lossy(&entry.path).into_owned(),
        };
        let entries: Vec<String> = settled.entries.iter().map(text).collect();
        assert_eq!(entries, ["a", "a/b", "a/b/one", "a/d", "a/d.x", "two=a/b/one"]);
        assert_eq!(settled.left_out, [(*b"a/c").into(), (*b"a/c/other").into()] as [Box<[u8]>; 2]);
    }
}
