//! An archive that becomes a layer of a container that does not run.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::sync::Arc;

use layer::{Compression, Entry, EntryKind, Layer, compare_paths};
use store::Store;
use tree::{Content, Node, NodeKind, Tree, join, split_last};

use super::{FileOwner, absolute};
use crate::Error;

/// An archive that becomes a layer.
pub(crate) struct ArchiveLayer<'a> {
    store: &'a Store,
    /// The files of the container with those of the archive.
    tree: Tree,
    destination: UnpackDestination,
    /// The contents of the archive's files.
    spool: Arc<File>,
    /// The entries of the layer, by path.
    changed: HashMap<Vec<u8>, Changed>,
}

/// The place where an archive is unpacked, and the way.
pub(crate) struct UnpackDestination {
    /// The folder; its links are resolved.
    pub(crate) folder: Vec<u8>,
    /// True if a folder does not take the place of something else, nor the other way round.
    pub(crate) keeps_kinds: bool,
    /// The owner of everything; the archive's if unset.
    pub(crate) owner: Option<FileOwner>,
}

struct Changed {
    entry: Entry,
    content: Option<Content>,
}

impl<'a> ArchiveLayer<'a> {
    /// Begins a layer above the files of a container.
    pub(crate) fn above(
        store: &'a Store,
        tree: Tree,
        destination: UnpackDestination,
    ) -> Result<Self, Error> {
        let failed = Error::file::<io::Error>("write", "a file for an archive's content");
        let spool = Arc::new(store.spool_file().map_err(failed)?);
        Ok(Self { store, tree, destination, spool, changed: HashMap::new() })
    }

    /// True if nothing was changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// Makes a folder, whose path may have links.
    pub(crate) fn make_resolved(&mut self, path: &[u8]) -> Result<(), Error> {
        let path = self.tree.resolve(path, true)?;
        self.make_folders(&path)
    }

    /// Takes an entry of the archive.
    pub(crate) fn take(&mut self, mut entry: Entry, content: &mut dyn Read) -> Result<(), Error> {
        if entry.path.is_empty() {
            // The folder itself, which stays as it is.
            return Ok(());
        }
        let path = self.place(&entry.path)?;
        self.make_folders(split_last(&path).0)?;
        entry.path = path.as_slice().into();
        if let Some(FileOwner { uid, gid }) = self.destination.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        let is_folder = entry.kind == EntryKind::Directory;
        if let Some(there) = self.tree.get(&path)
            && there.is_directory() != is_folder
        {
            if self.destination.keeps_kinds {
                return Err(Error::Overwrite(absolute(&path)));
            }
            let start = [path.as_slice(), b"/"].concat();
            self.changed.retain(|changed, _| !changed.starts_with(&start));
            self.tree.remove(&path);
        }
        let (node, entry, content) = match entry.kind.clone() {
            EntryKind::Directory => {
                let node = match self.tree.get(&path) {
                    Some(there) => Node { kind: there.kind.clone(), ..header(&entry) },
                    None => header(&entry),
                };
                (node, entry, None)
            }
            EntryKind::File { size } => {
                let content = self.spool(content)?;
                let kind = NodeKind::File { size, content: content.clone(), linked: false };
                (Node { kind, ..header(&entry) }, entry, Some(content))
            }
            EntryKind::HardLink { target } => self.linked(entry, &target)?,
            EntryKind::Symlink { target } => {
                let kind = NodeKind::Symlink { target: (&*target).into() };
                (Node { kind, ..header(&entry) }, entry, None)
            }
            EntryKind::CharDevice { major, minor } => {
                let kind = NodeKind::CharDevice { major, minor };
                (Node { kind, ..header(&entry) }, entry, None)
            }
            EntryKind::BlockDevice { major, minor } => {
                let kind = NodeKind::BlockDevice { major, minor };
                (Node { kind, ..header(&entry) }, entry, None)
            }
            EntryKind::Fifo => (Node { kind: NodeKind::Fifo, ..header(&entry) }, entry, None),
            // An archive that is no layer has none of these.
            EntryKind::Whiteout | EntryKind::Opaque => return Ok(()),
        };
        self.tree.insert(&path, node)?;
        self.changed.insert(path, Changed { entry, content });
        Ok(())
    }

    /// The place of an entry. Links on its way are followed, inside the container.
    fn place(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let whole = join(&self.destination.folder, path);
        let (folder, name) = split_last(&whole);
        Ok(join(&self.tree.resolve(folder, true)?, name))
    }

    /// Makes the folders of a path that the archive does not have.
    fn make_folders(&mut self, path: &[u8]) -> Result<(), Error> {
        if path.is_empty() {
            return Ok(());
        }
        match self.tree.get(path) {
            Some(node) if node.is_directory() => return Ok(()),
            Some(_) => return Err(Error::Overwrite(absolute(path))),
            None => {}
        }
        self.make_folders(split_last(path).0)?;
        let mut entry = Entry::new(path, EntryKind::Directory, 0o755);
        if let Some(FileOwner { uid, gid }) = self.destination.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        self.tree.insert(path, header(&entry))?;
        self.changed.insert(path.to_vec(), Changed { entry, content: None });
        Ok(())
    }

    /// A further name of a file: of one that the layer has, or a copy of one below it.
    fn linked(
        &mut self,
        mut entry: Entry,
        target: &[u8],
    ) -> Result<(Node, Entry, Option<Content>), Error> {
        let target = self.place(target)?;
        let not_there =
            || tree::TreeError::HardLink { link: absolute(&entry.path), target: absolute(&target) };
        let node = self.tree.get(&target).filter(|node| !node.is_directory());
        let node = node.ok_or_else(not_there)?.clone();
        let is_in_layer = self
            .changed
            .get(&target)
            .is_some_and(|changed| matches!(changed.entry.kind, EntryKind::File { .. }));
        if is_in_layer && *target != *entry.path {
            entry.kind = EntryKind::HardLink { target: target.into() };
            return Ok((node, entry, None));
        }
        let content = match &node.kind {
            NodeKind::File { content, .. } => Some(content.clone()),
            _ => None,
        };
        let entry = node.to_entry(&entry.path);
        Ok((node, entry, content))
    }

    fn spool(&mut self, content: &mut dyn Read) -> Result<Content, Error> {
        let failed = || Error::file("write", "a file for an archive's content");
        let mut spool = &*self.spool;
        let offset = spool.stream_position().map_err(failed())?;
        io::copy(content, &mut spool).map_err(failed())?;
        Ok(Content::Slice { file: self.spool.clone(), offset })
    }

    /// Writes the layer. It is not unpacked.
    pub(crate) fn finish(self) -> Result<Layer, Error> {
        let Self { store, tree, mut changed, .. } = self;
        let names: Vec<Vec<u8>> = changed.keys().cloned().collect();
        for name in names {
            let EntryKind::HardLink { target } = &changed[&name].entry.kind else { continue };
            let Some(node) = tree.get(&name) else { continue };
            let NodeKind::File { content, .. } = &node.kind else { continue };
            let file = changed.get(&**target).and_then(|changed| changed.content.as_ref());
            // The file under the first name may have been replaced since: the name stands for the old one.
            if file.is_none_or(|file| file.id() != content.id()) {
                let (entry, content) = (node.to_entry(&name), Some(content.clone()));
                changed.insert(name, Changed { entry, content });
            }
        }
        let mut changed: Vec<Changed> = changed.into_values().collect();
        changed.sort_by(|a, b| compare_paths(&a.entry.path, &b.entry.path));
        let mut writer = store.layer_writer(Compression::None)?;
        for Changed { entry, content } in &changed {
            match (&entry.kind, content) {
                (EntryKind::File { size }, Some(content)) => {
                    let open = content.open(*size, store);
                    let mut file = open.map_err(Error::file("open", absolute(&entry.path)))?;
                    writer.append(entry, Some(&mut file))?;
                }
                _ => writer.append(entry, None)?,
            }
        }
        Ok(writer.finish()?)
    }
}

/// A folder's node with the header of an entry.
fn header(entry: &Entry) -> Node {
    let mut node = Node::directory(entry.mode, entry.mtime);
    (node.uid, node.gid) = (entry.uid, entry.gid);
    node.xattrs = (!entry.xattrs.is_empty()).then(|| entry.xattrs.as_slice().into());
    node
}
