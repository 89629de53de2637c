//! The entries of a layer that turn one tree into another: found, and written. One thread reads ahead
//! while another hashes and compresses.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use layer::{Entry, EntryKind};
use tree::{Content, Directory, LayerFiles, Node, NodeKind, Tree, join};

use super::error::{FilesError, display};
use super::mutable_tree::MutableTree;

/// Files of at most this many bytes are read ahead as a whole, so many at a time.
const SMALL: u64 = 128 << 10;
const AHEAD: usize = 64;
/// They are handed over in batches, of about this many bytes: a thread that is woken for each file
/// does little else.
const BATCH: usize = 16;
const BATCH_BYTES: u64 = 1 << 20;
/// With fewer files a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 16;

/// An entry of the new layer.
pub(super) enum TreeChange<'a> {
    /// Something is there; as another name of the path `link`, if there is one.
    Node { path: Vec<u8>, node: &'a Node, link: Option<Vec<u8>> },
    /// Something is gone.
    Whiteout { path: Vec<u8> },
}

impl<'a> TreeChange<'a> {
    pub(super) fn node(&self) -> Option<&'a Node> {
        match self {
            Self::Node { node, link: None, .. } => Some(node),
            _ => None,
        }
    }

    pub(super) fn to_entry(&self) -> Entry {
        match self {
            Self::Node { path, node, link } => {
                let mut entry = node.to_entry(path);
                // BuildKit's layers have no other attributes either.
                entry.xattrs.retain(|(name, _)| &**name == layer::CAPABILITY);
                if let Some(target) = link {
                    entry.kind = EntryKind::HardLink { target: target.as_slice().into() };
                }
                entry
            }
            Self::Whiteout { path } => Entry::whiteout(path.as_slice()),
        }
    }
}

/// Says whether two files of one size have the same bytes.
pub(super) type SameBytes<'a> = dyn FnMut(u64, &Content, &Content) -> bool + 'a;

/// The changes from a base to a rootfs, in a layer's order: each with the directories above it,
/// as a copy on write would have them. The root is in no layer.
///
/// A file that only its bytes can tell from the one below is asked about.
pub(super) fn difference<'a>(
    base: Option<&Tree>,
    rootfs: &'a MutableTree,
    same_bytes: &mut SameBytes<'_>,
) -> Vec<TreeChange<'a>> {
    let mut difference =
        TreeDifference { rootfs, same_bytes, changes: Vec::new(), first_names: HashMap::new() };
    let nothing = Directory::default();
    let old = base.and_then(|base| base.root().as_directory()).unwrap_or(&nothing);
    if let Some(new) = rootfs.tree.root().as_directory() {
        difference.directory(&mut Vec::new(), old, new);
    }
    difference.changes
}

struct TreeDifference<'a, 'b> {
    rootfs: &'a MutableTree,
    same_bytes: &'b mut SameBytes<'b>,
    changes: Vec<TreeChange<'a>>,
    /// The first written name of each new file that has several.
    first_names: HashMap<usize, Vec<u8>>,
}

impl<'a> TreeDifference<'a, '_> {
    fn directory(&mut self, path: &mut Vec<u8>, old: &Directory, new: &'a Directory) {
        let mut gone = old.children().iter().map(|(name, _)| name).peekable();
        for (name, node) in new.children() {
            while let Some(name) = gone.next_if(|gone| *gone < name) {
                self.changes.push(TreeChange::Whiteout { path: join(path, name) });
            }
            gone.next_if(|gone| *gone == name);
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            self.node(path, old.get(name), node);
            path.truncate(length);
        }
        self.changes.extend(gone.map(|name| TreeChange::Whiteout { path: join(path, name) }));
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
            self.changes.push(TreeChange::Node { path: path.clone(), node: new, link: None });
            self.directory(path, below.unwrap_or(&nothing), directory);
            if same && below.is_some() && self.changes.len() == place + 1 {
                self.changes.pop();
            }
            return;
        }
        if same && old.is_some_and(|old| self.same_content(old, new)) {
            return;
        }
        let link = self.link(path, new);
        self.changes.push(TreeChange::Node { path: path.clone(), node: new, link });
    }

    fn same_content(&mut self, old: &Node, new: &Node) -> bool {
        match (&old.kind, &new.kind) {
            (
                NodeKind::File { size, content, .. },
                NodeKind::File { size: new_size, content: new_content, .. },
            ) => {
                size == new_size
                    && (*size == 0
                        || content.id() == new_content.id()
                        || (self.same_bytes)(*size, content, new_content))
            }
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

    /// The first name of the file, if another one was written.
    fn link(&mut self, path: &[u8], node: &Node) -> Option<Vec<u8>> {
        let NodeKind::File { linked: true, .. } = node.kind else { return None };
        let group = *self.rootfs.links.get(path)?;
        match self.first_names.get(&group) {
            Some(first) => Some(first.clone()),
            None => {
                self.first_names.insert(group, path.to_vec());
                None
            }
        }
    }
}

/// True if a node needs no entry for its header. A directory's time alone is not a change, as in
/// BuildKit's layers; other times are compared in seconds, because the base may not be more
/// precise.
fn same_header(old: &Node, new: &Node) -> bool {
    (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)
        && (new.is_directory() || old.mtime.seconds == new.mtime.seconds)
        && capability(old) == capability(new)
}

/// The only attribute that layers have.
fn capability(node: &Node) -> Option<&[u8]> {
    let mut all = node.xattrs.as_deref().unwrap_or_default().iter();
    all.find(|(name, _)| &**name == layer::CAPABILITY).map(|(_, value)| &**value)
}

/// Takes an entry with its content.
pub(super) type Append<'a> = dyn FnMut(Entry, Option<&mut dyn Read>) -> Result<(), FilesError> + 'a;

/// Content that was read or opened ahead.
enum Ahead {
    Read(Vec<u8>),
    Open(Box<dyn Read + Send>),
}

/// Writes changes as the entries of a layer, with the content of new files.
pub(super) fn write(
    changes: &[TreeChange<'_>],
    layers: &dyn LayerFiles,
    append: &mut Append<'_>,
) -> Result<(), FilesError> {
    let files = changes.iter().filter(|change| file(change).is_some()).count();
    if files < WORTH_A_THREAD {
        for change in changes {
            append_one(change, || fetch(change, layers), append)?;
        }
        return Ok(());
    }
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD / BATCH);
        scope.spawn(move || read_ahead(changes, layers, &send));
        // Dropped at the end of this closure, before the thread is waited for.
        let receive: Receiver<Batch> = receive;
        let mut batch = Vec::new().into_iter();
        for change in changes {
            let next = || {
                if batch.len() == 0 {
                    batch = receive.recv().unwrap_or_default().into_iter();
                }
                batch.next().unwrap_or_else(|| Err(gone(change)))
            };
            append_one(change, next, append)?;
        }
        Ok(())
    })
}

/// Contents in the order of their files.
type Batch = Vec<Result<Ahead, FilesError>>;

/// Reads the contents of changes until none is left, or the receiver is gone, as after an error.
fn read_ahead(changes: &[TreeChange<'_>], layers: &dyn LayerFiles, send: &SyncSender<Batch>) {
    let (mut batch, mut bytes) = (Batch::new(), 0);
    for change in changes {
        let Some((size, _)) = file(change) else { continue };
        batch.push(fetch(change, layers));
        bytes += size;
        if batch.len() == BATCH || bytes >= BATCH_BYTES {
            if send.send(std::mem::take(&mut batch)).is_err() {
                return;
            }
            bytes = 0;
        }
    }
    let _ = send.send(batch);
}

fn gone(change: &TreeChange<'_>) -> FilesError {
    let source = io::Error::other("reading ahead stopped");
    FilesError::Read { path: path(change), source }
}

fn path(change: &TreeChange<'_>) -> String {
    display(&change.to_entry().path)
}

/// The content of a change that has one.
fn file<'a>(change: &TreeChange<'a>) -> Option<(u64, &'a Content)> {
    match &change.node()?.kind {
        NodeKind::File { size, content, .. } => Some((*size, content)),
        _ => None,
    }
}

fn fetch(change: &TreeChange<'_>, layers: &dyn LayerFiles) -> Result<Ahead, FilesError> {
    let Some((size, content)) = file(change) else { return Ok(Ahead::Read(Vec::new())) };
    let failed = |source| FilesError::Read { path: path(change), source };
    if size == 0 {
        return Ok(Ahead::Read(Vec::new()));
    }
    let reader = content.open(size, layers).map_err(failed)?;
    if size > SMALL {
        return Ok(Ahead::Open(reader));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    reader.take(size).read_to_end(&mut bytes).map_err(failed)?;
    if (bytes.len() as u64) < size {
        return Err(failed(io::Error::other("it became shorter while it was read")));
    }
    Ok(Ahead::Read(bytes))
}

fn append_one(
    change: &TreeChange<'_>,
    fetch: impl FnOnce() -> Result<Ahead, FilesError>,
    append: &mut Append<'_>,
) -> Result<(), FilesError> {
    let entry = change.to_entry();
    let Some((size, _)) = file(change) else { return append(entry, None) };
    match fetch()? {
        Ahead::Read(bytes) => append(entry, Some(&mut bytes.as_slice())),
        Ahead::Open(reader) => append(entry, Some(&mut reader.take(size))),
    }
}
