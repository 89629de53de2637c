//! Merging of layers.

use std::borrow::Borrow;
use std::sync::Arc;

use layer::{Entry, EntryKind, LayerIndex, Time};
use oci::Digest;

use super::{Directory, Node, NodeKind, RootHeader, Tree, TreeError};
use crate::content::Content;
use crate::path::display;

/// The number of hard links that are followed to a file: layers have chains of one or two.
const MAX_HARD_LINKS: usize = 64;

impl Tree {
    /// Merges layers, from the bottom up.
    ///
    /// # Errors
    /// If a hard link's target is not found.
    pub fn from_layers<I: Borrow<LayerIndex>>(
        layers: impl IntoIterator<Item = (Digest, I)>,
    ) -> Result<Self, TreeError> {
        let mut tree = Self::new();
        for (diff_id, index) in layers {
            tree.apply_layer(diff_id, index.borrow())?;
        }
        Ok(tree)
    }

    /// Puts a layer on top. The content of its files is in the layer.
    ///
    /// # Errors
    /// If a hard link's target is not found.
    pub fn apply_layer(&mut self, diff_id: Digest, index: &LayerIndex) -> Result<(), TreeError> {
        self.root_header = RootHeader::Own;
        let entries = index.entries();
        let own = entries.iter().take_while(|entry| entry.path.is_empty()).count();
        let (own, entries) = entries.split_at(own);
        // A mount of a chain makes the root anew for each layer: if the layer does not give the
        // time, it is unknown.
        self.root.mtime = Time::default();
        let mut merge = Merge { layer: Arc::new(diff_id), hard_links: Vec::new() };
        for entry in own {
            match entry.kind {
                EntryKind::Directory => set_header(&mut self.root, entry),
                EntryKind::Opaque => self.root.kind = NodeKind::Directory(Arc::default()),
                _ => {}
            }
        }
        if let Some(root) = self.root.as_directory_mut() {
            merge.entries(root, entries, 0);
        }
        for link in merge.hard_links {
            self.place_hard_link(index, link)?;
        }
        Ok(())
    }

    fn place_hard_link(&mut self, index: &LayerIndex, link: &Entry) -> Result<(), TreeError> {
        let EntryKind::HardLink { target } = &link.kind else { return Ok(()) };
        let mut source = target;
        for _ in 0..MAX_HARD_LINKS {
            match index.get(source).map(|entry| &entry.kind) {
                Some(EntryKind::HardLink { target }) if target != source => source = target,
                _ => break,
            }
        }
        let error = || TreeError::HardLink { link: display(&link.path), target: display(target) };
        let node = self.get_mut(source).filter(|node| !node.is_directory()).ok_or_else(error)?;
        if let NodeKind::File { linked, .. } = &mut node.kind {
            *linked = true;
        }
        let node = node.clone();
        self.insert(&link.path, node).map_err(|_| error())
    }
}

struct Merge<'a> {
    layer: Arc<Digest>,
    /// Placed at the end, because their targets can come after them.
    hard_links: Vec<&'a Entry>,
}

impl<'a> Merge<'a> {
    /// Puts entries into a directory; the first `start` bytes of their paths are the directory's.
    /// The depth is limited by the rules of [`layer::is_entry_path`].
    fn entries(&mut self, directory: &mut Directory, mut entries: &'a [Entry], start: usize) {
        while let Some(first) = entries.first() {
            let rest = &first.path[start..];
            let name = &rest[..rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())];
            let end = start + name.len();
            let count = entries.partition_point(|entry| {
                entry.path[start..]
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
            });
            let (group, others) = entries.split_at(count);
            entries = others;
            let own = group.iter().take_while(|entry| entry.path.len() == end).count();
            let (own, below) = group.split_at(own);
            for entry in own {
                self.entry(directory, name, entry);
            }
            if !below.is_empty() {
                let child = implied_directory(directory, name);
                self.entries(child, below, end + 1);
            }
        }
    }

    fn entry(&mut self, directory: &mut Directory, name: &[u8], entry: &'a Entry) {
        let kind = match &entry.kind {
            EntryKind::Whiteout => {
                directory.remove(name);
                return;
            }
            EntryKind::Opaque => {
                *implied_directory(directory, name) = Directory::default();
                return;
            }
            EntryKind::HardLink { .. } => {
                directory.remove(name);
                self.hard_links.push(entry);
                return;
            }
            EntryKind::Directory => {
                if let Some(existing) = directory.get_mut(name).filter(|node| node.is_directory()) {
                    set_header(existing, entry);
                    return;
                }
                NodeKind::Directory(Arc::default())
            }
            EntryKind::File { size } => NodeKind::File {
                size: *size,
                content: Content::Layer {
                    diff_id: self.layer.clone(),
                    path: (&*entry.path).into(),
                },
                linked: false,
            },
            EntryKind::Symlink { target } => NodeKind::Symlink { target: (&**target).into() },
            &EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            &EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            EntryKind::Fifo => NodeKind::Fifo,
        };
        let mut node = Node::directory(0, Time::default());
        set_header(&mut node, entry);
        node.kind = kind;
        directory.insert(name, node);
    }
}

fn set_header(node: &mut Node, entry: &Entry) {
    node.mode = entry.mode;
    node.uid = entry.uid;
    node.gid = entry.gid;
    node.mtime = entry.mtime;
    node.xattrs = (!entry.xattrs.is_empty()).then(|| entry.xattrs.as_slice().into());
}

/// Returns a directory that a layer has no entry for: the existing one, else a new one.
fn implied_directory<'a>(directory: &'a mut Directory, name: &[u8]) -> &'a mut Directory {
    if directory.get(name).and_then(Node::as_directory).is_none() {
        directory.insert(name, Node::directory(0o755, Time::default()));
    }
    directory
        .get_mut(name)
        .and_then(Node::as_directory_mut)
        .expect("a directory of this name was found or put in")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.as_bytes().into(),
            kind,
            mode: 0o711,
            uid: 5,
            gid: 6,
            mtime: Time { seconds: 9, nanos: 0 },
            xattrs: Vec::new(),
        }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { size: 1 })
    }

    fn symlink(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::Symlink { target: target.as_bytes().into() })
    }

    fn tree(layers: Vec<Vec<Entry>>) -> Tree {
        let layers = layers.into_iter().enumerate();
        Tree::from_layers(layers.map(|(number, entries)| {
            (Digest::of([number as u8]), LayerIndex::from_entries(entries))
        }))
        .unwrap()
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let mut paths = Vec::new();
        tree.walk(|path, _| paths.push(String::from_utf8(path.to_vec()).unwrap()));
        paths
    }

    #[test]
    fn upper_layers_hide_and_replace() {
        let merged = tree(vec![
            vec![
                entry("a", EntryKind::Directory),
                file("a/gone"),
                file("a/kept"),
                entry("o", EntryKind::Directory),
                file("o/gone"),
                entry("d", EntryKind::Directory),
                file("d/x"),
                file("f"),
            ],
            vec![
                entry("a/gone", EntryKind::Whiteout),
                file("a/new"),
                entry("o", EntryKind::Directory),
                entry("o", EntryKind::Opaque),
                file("o/new"),
                file("d"),
                entry("f", EntryKind::Directory),
                file("f/y"),
                file("implied/z"),
            ],
        ]);
        assert_eq!(
            paths(&merged),
            ["a", "a/kept", "a/new", "d", "f", "f/y", "implied", "implied/z", "o", "o/new"]
        );
        assert_eq!(merged.get(b"a").unwrap().mode, 0o711);
        assert_eq!(merged.get(b"implied").unwrap().mode, 0o755);
    }

    #[test]
    fn hard_links_are_names_of_one_file() {
        let merged = tree(vec![
            vec![file("low")],
            vec![
                entry("a", EntryKind::HardLink { target: (*b"z").into() }),
                entry("b", EntryKind::HardLink { target: (*b"a").into() }),
                entry("c", EntryKind::HardLink { target: (*b"low").into() }),
                file("z"),
            ],
        ]);
        let id = |path: &str| match &merged.get(path.as_bytes()).unwrap().kind {
            NodeKind::File { content, linked: true, .. } => content.id(),
            other => panic!("{other:?}"),
        };
        assert_eq!(id("a"), id("z"));
        assert_eq!(id("b"), id("z"));
        assert_eq!(id("c"), id("low"));
        let broken = entry("a", EntryKind::HardLink { target: (*b"no").into() });
        assert!(
            Tree::new()
                .apply_layer(Digest::of(""), &LayerIndex::from_entries(vec![broken]))
                .is_err()
        );
    }

    #[test]
    fn a_change_leaves_clones_alone() {
        let base = tree(vec![vec![file("a/b/c")]]);
        let mut changed = base.clone();
        changed.remove(b"a/b/c").unwrap();
        changed.insert(b"a/x", Node::directory(0o700, Time::default())).unwrap();
        assert!(changed.insert(b"no/x", Node::directory(0o700, Time::default())).is_err());
        assert_eq!(paths(&base), ["a", "a/b", "a/b/c"]);
        assert_eq!(paths(&changed), ["a", "a/b", "a/x"]);
    }

    #[test]
    fn links_stay_inside() {
        let merged = tree(vec![vec![
            symlink("lib", "usr/lib"),
            file("usr/lib/x"),
            symlink("usr/up", "../../../usr/lib"),
            symlink("abs", "/usr"),
            symlink("loop", "loop"),
            symlink("dangling", "/no/where"),
        ]]);
        for (path, follow, expected) in [
            ("/lib/x", true, "usr/lib/x"),
            ("lib", false, "lib"),
            ("lib/", true, "usr/lib"),
            ("abs/up/x", true, "usr/lib/x"),
            ("/../../lib/../new", true, "usr/new"),
            ("dangling/y", true, "no/where/y"),
            ("/", true, ""),
        ] {
            let resolved = merged.resolve(path.as_bytes(), follow).unwrap();
            assert_eq!(String::from_utf8(resolved).unwrap(), expected, "{path}");
        }
        assert!(merged.resolve(b"loop", true).is_err());
    }
}
