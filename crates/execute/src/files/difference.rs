//! What a layer must say to make one tree of another.

use std::collections::HashMap;

use store::tree::{Directory, Node, NodeKind, Tree, join};
use store::{Entry, EntryKind, Time};

use super::world::World;

/// An entry of the new layer.
pub(super) enum Change<'a> {
    /// Something is there; as another name of the path `link`, if there is one.
    Node { path: Vec<u8>, node: &'a Node, link: Option<Vec<u8>> },
    /// Something is gone.
    Whiteout { path: Vec<u8> },
    /// All that was in a directory is gone.
    Opaque { path: Vec<u8> },
}

impl<'a> Change<'a> {
    pub(super) fn node(&self) -> Option<&'a Node> {
        match self {
            Self::Node { node, link: None, .. } => Some(node),
            _ => None,
        }
    }

    pub(super) fn to_entry(&self) -> Entry {
        let mark = |path: &[u8], kind| Entry {
            path: path.into(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        match self {
            Self::Node { path, node, link } => {
                let mut entry = node.to_entry(path);
                if let Some(target) = link {
                    entry.kind = EntryKind::HardLink { target: target.as_slice().into() };
                }
                entry
            }
            Self::Whiteout { path } => mark(path, EntryKind::Whiteout),
            Self::Opaque { path } => mark(path, EntryKind::Opaque),
        }
    }
}

/// The changes from a base to a world, in a layer's order: each with the directories above it,
/// as a copy on write would have them. The root is in no layer.
pub(super) fn difference<'a>(base: Option<&Tree>, world: &'a World) -> Vec<Change<'a>> {
    let mut difference = Difference { world, changes: Vec::new(), first_names: HashMap::new() };
    let nothing = Directory::default();
    let old = base.and_then(|base| base.root().as_directory()).unwrap_or(&nothing);
    if let Some(new) = world.tree.root().as_directory() {
        difference.directory(&mut Vec::new(), old, new);
    }
    difference.changes
}

struct Difference<'a> {
    world: &'a World,
    changes: Vec<Change<'a>>,
    /// The first written name of each new file that has several.
    first_names: HashMap<usize, Vec<u8>>,
}

/// Prefix of names that layers cannot have: they say that something is gone.
const WHITEOUT: &[u8] = b".wh.";

impl<'a> Difference<'a> {
    fn directory(&mut self, path: &mut Vec<u8>, old: &Directory, new: &'a Directory) {
        let marks = new.children().iter().any(|(name, _)| name.starts_with(WHITEOUT));
        let start = self.changes.len();
        let mut gone = old.children().iter().map(|(name, _)| name).peekable();
        let mut whiteouts = Vec::new();
        for (name, node) in new.children() {
            while let Some(name) = gone.next_if(|gone| *gone < name) {
                whiteouts.push((self.changes.len(), join(path, name)));
            }
            gone.next_if(|gone| *gone == name);
            if marks && name.starts_with(WHITEOUT) {
                continue;
            }
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            self.node(path, old.get(name), node);
            path.truncate(length);
        }
        whiteouts.extend(gone.map(|name| (self.changes.len(), join(path, name))));
        // From the end, so that places stay right.
        for (place, path) in whiteouts.into_iter().rev() {
            self.changes.insert(place, Change::Whiteout { path });
        }
        if marks {
            self.marks(path, start, new);
        }
    }

    /// A file whose name is a mark says what the mark says, for all who unpack the layer.
    fn marks(&mut self, directory: &[u8], start: usize, new: &'a Directory) {
        let mut own = self.changes.split_off(start);
        for (name, _) in new.children() {
            let Some(hidden) = name.strip_prefix(WHITEOUT) else { continue };
            if **name == *b".wh..wh..opq" {
                own.insert(0, Change::Opaque { path: directory.to_vec() });
            } else if !hidden.is_empty()
                && !hidden.starts_with(WHITEOUT)
                && new.get(hidden).is_none()
            {
                let path = join(directory, hidden);
                if !own.iter().any(
                    |change| matches!(change, Change::Whiteout { path: other } if *other == path),
                ) {
                    own.push(Change::Whiteout { path });
                }
            }
        }
        own.sort_by(|a, b| store::compare_paths(a.path(), b.path()));
        self.changes.append(&mut own);
    }

    fn node(&mut self, path: &mut Vec<u8>, old: Option<&Node>, new: &'a Node) {
        let same = old.is_some_and(|old| same_header(old, new));
        if let Some(directory) = new.as_directory() {
            let nothing = Directory::default();
            let below = old.and_then(Node::as_directory);
            if same && below.is_some_and(|below| std::ptr::eq(below, directory)) {
                return;
            }
            let place = self.changes.len();
            self.changes.push(Change::Node { path: path.clone(), node: new, link: None });
            self.directory(path, below.unwrap_or(&nothing), directory);
            if same && below.is_some() && self.changes.len() == place + 1 {
                self.changes.pop();
            }
            return;
        }
        if same && old.is_some_and(|old| same_content(old, new)) {
            return;
        }
        let link = self.link(path, new);
        self.changes.push(Change::Node { path: path.clone(), node: new, link });
    }

    /// The first name of the file, if another one was written.
    fn link(&mut self, path: &[u8], node: &Node) -> Option<Vec<u8>> {
        let NodeKind::File { linked: true, .. } = node.kind else { return None };
        let group = *self.world.links.get(path)?;
        match self.first_names.get(&group) {
            Some(first) => Some(first.clone()),
            None => {
                self.first_names.insert(group, path.to_vec());
                None
            }
        }
    }
}

impl Change<'_> {
    fn path(&self) -> &[u8] {
        match self {
            Self::Node { path, .. } | Self::Whiteout { path } | Self::Opaque { path } => path,
        }
    }
}

/// Whether a node needs no entry for its header. Of a directory the time alone is no change, as
/// in the layers that BuildKit writes; of others seconds count: the base may know no more.
fn same_header(old: &Node, new: &Node) -> bool {
    (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)
        && (new.is_directory() || old.mtime.seconds == new.mtime.seconds)
        && old.xattrs == new.xattrs
}

fn same_content(old: &Node, new: &Node) -> bool {
    match (&old.kind, &new.kind) {
        (
            NodeKind::File { size, content, .. },
            NodeKind::File { size: new_size, content: new_content, .. },
        ) => size == new_size && content.id() == new_content.id(),
        (NodeKind::Symlink { target }, NodeKind::Symlink { target: new }) => target == new,
        (NodeKind::Fifo, NodeKind::Fifo) => true,
        (
            NodeKind::CharDevice { major, minor },
            NodeKind::CharDevice { major: new_major, minor: new_minor },
        )
        | (
            NodeKind::BlockDevice { major, minor },
            NodeKind::BlockDevice { major: new_major, minor: new_minor },
        ) => (major, minor) == (new_major, new_minor),
        _ => false,
    }
}
