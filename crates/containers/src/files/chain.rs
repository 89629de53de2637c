//! The files of a container that does not run: entries of its layers.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};

use layer::tar::{Mode, TarReader, TarWriter};
use layer::{Entry, EntryKind, Layer, Time, compare_paths};
use oci::Digest;
use store::Store;
use tree::{ContentId, Node, NodeKind, Tree, join, split_last};

use super::archive_layer::{ArchiveLayer, UnpackDestination};
use super::{
    FileOwner, PathFacts, RequestedPath, UnpackOptions, absolute, below, file_type, find_owner,
    system_time,
};
use crate::{ContainerId, Error};

/// The largest `/etc/passwd` that is read.
const LARGEST_USERS: u64 = 4 << 20;

/// The files that a chain of layers shows.
pub(crate) struct ChainFiles {
    store: Store,
    tree: Tree,
    id: ContainerId,
}

/// A path that differs between a container and its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPath {
    /// The absolute path.
    pub path: String,
    /// The difference.
    pub change: FileChange,
}

/// The difference of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// Its content or its header is another, or something in it is.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

impl ChainFiles {
    /// Reads the indexes of layers, which are unpacked.
    pub(crate) fn open(store: Store, layers: &[Digest], id: &ContainerId) -> Result<Self, Error> {
        let mut tree = Tree::new();
        for diff_id in layers {
            tree.apply_layer(*diff_id, &*store.index(diff_id)?)?;
        }
        Ok(Self { store, tree, id: id.clone() })
    }

    /// The facts about a path.
    pub(crate) fn facts(&self, path: &RequestedPath) -> Result<PathFacts, Error> {
        let (_, node) = self.find(path)?;
        let (kind, size) = match &node.kind {
            NodeKind::File { size, .. } => (file_type::REGULAR, *size),
            NodeKind::Symlink { target } => (file_type::LINK, target.len() as u64),
            NodeKind::Directory(_) => (file_type::DIRECTORY, 0),
            NodeKind::CharDevice { .. } => (file_type::CHARACTER_DEVICE, 0),
            NodeKind::BlockDevice { .. } => (file_type::BLOCK_DEVICE, 0),
            NodeKind::Fifo => (file_type::FIFO, 0),
        };
        let link_target = match &node.kind {
            NodeKind::Symlink { .. } => absolute(&self.tree.resolve(&path.clean, true)?),
            _ => String::new(),
        };
        Ok(PathFacts {
            name: path.shown_name(),
            size,
            mode: kind | node.mode,
            modified: system_time(node.mtime),
            link_target,
        })
    }

    /// Writes a path as an archive.
    pub(crate) fn copy_out(&self, path: &RequestedPath, out: &mut dyn Write) -> Result<(), Error> {
        let (_, node) = self.find(path)?;
        let mut copy = CopyOut {
            archive: TarWriter::new(out),
            store: &self.store,
            seen: HashMap::new(),
            top: Some(&path.name),
        };
        copy.node(b"", node)?;
        copy.archive.finish()?;
        Ok(())
    }

    /// Writes all files as an archive, with paths from the root.
    pub(crate) fn export(&self, out: &mut dyn Write) -> Result<(), Error> {
        let archive = TarWriter::new(out);
        let mut copy = CopyOut { archive, store: &self.store, seen: HashMap::new(), top: None };
        let root = self.tree.root();
        for (name, child) in root.as_directory().iter().flat_map(|folder| folder.children()) {
            copy.node(name, child)?;
        }
        copy.archive.finish()?;
        Ok(())
    }

    /// Bytes of the files in some of the layers.
    pub(crate) fn bytes_of(&self, layers: &[Digest]) -> Result<u64, Error> {
        let mut bytes = 0;
        for diff_id in layers {
            for entry in self.store.index(diff_id)?.entries() {
                if let EntryKind::File { size } = entry.kind {
                    bytes += size;
                }
            }
        }
        Ok(bytes)
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        let mut size = 0;
        self.tree.walk(|_, node| {
            if let NodeKind::File { size: file, .. } = node.kind {
                size += file;
            }
        });
        size
    }

    /// The paths that differ from those of another chain.
    pub(crate) fn changes_since(&self, image: &Self) -> Vec<ChangedPath> {
        let mut changes = Vec::new();
        let mut push = |path: &[u8], change| changes.push((path.to_vec(), change));
        self.tree.walk(|path, node| match image.tree.get(path) {
            None => push(path, FileChange::Added),
            Some(other) if is_other(path, node, other) => push(path, FileChange::Modified),
            Some(_) => {}
        });
        image.tree.walk(|path, _| {
            let is_highest = self.tree.get(split_last(path).0).is_some();
            if is_highest && self.tree.get(path).is_none() {
                push(path, FileChange::Deleted);
            }
        });
        with_folders(changes)
    }

    /// Makes a layer of an archive that is unpacked in a folder. The archive is not trusted.
    pub(crate) fn copy_in(
        &self,
        options: &UnpackOptions,
        user: &str,
        archive: impl Read + Send,
    ) -> Result<Layer, Error> {
        let requested = RequestedPath::parse(&options.path);
        let folder = self.tree.resolve(&requested.clean, true)?;
        match self.tree.get(&folder) {
            Some(node) if node.is_directory() => {}
            Some(_) => return Err(Error::NoFolder(options.path.clone())),
            None => return Err(self.no_path(&requested)),
        }
        let owner = if options.owner_is_user { self.owner(user) } else { None };
        let destination = UnpackDestination { folder, keeps_kinds: options.keeps_kinds, owner };
        let mut copy = ArchiveLayer::above(&self.store, self.tree.clone(), destination)?;
        let archive = layer::open_decoder(archive).map_err(Error::file("read", "the archive"))?;
        let mut reader = TarReader::new(archive, Mode::Archive, self.store.limits());
        while let Some((entry, mut content)) = reader.next_entry()? {
            copy.take(entry, &mut content)?;
        }
        copy.finish()
    }

    /// Makes a layer with folders, as far as they are missing; none if all are there.
    pub(crate) fn with_folders(&self, paths: &BTreeSet<String>) -> Result<Option<Layer>, Error> {
        let destination = UnpackDestination { folder: Vec::new(), keeps_kinds: true, owner: None };
        let mut layer = ArchiveLayer::above(&self.store, self.tree.clone(), destination)?;
        for path in paths {
            layer.make_resolved(&RequestedPath::parse(path).clean)?;
        }
        if layer.is_empty() { Ok(None) } else { layer.finish().map(Some) }
    }

    fn owner(&self, user: &str) -> Option<FileOwner> {
        let text = |path: &[u8]| {
            let node = self.tree.get(&self.tree.resolve(path, true).ok()?)?;
            let NodeKind::File { size, content, .. } = &node.kind else { return None };
            let mut text = Vec::new();
            let file = content.open(*size, &self.store).ok()?;
            file.take(LARGEST_USERS).read_to_end(&mut text).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        let passwd = text(b"etc/passwd").unwrap_or_default();
        find_owner(user, &passwd, &text(b"etc/group").unwrap_or_default())
    }

    /// The path that a request means, and the file there.
    fn find(&self, path: &RequestedPath) -> Result<(Vec<u8>, &Node), Error> {
        let found = if path.is_folder {
            self.tree.resolve(&path.clean, true)?
        } else {
            let (folder, name) = split_last(&path.clean);
            join(&self.tree.resolve(folder, true)?, name)
        };
        match self.tree.get(&found) {
            Some(node) if !path.is_folder || node.is_directory() => Ok((found, node)),
            _ => Err(self.no_path(path)),
        }
    }

    fn no_path(&self, path: &RequestedPath) -> Error {
        Error::NoPath { path: absolute(&path.clean), id: self.id.clone() }
    }
}

/// Adds the folders around changes, as docker shows them, and sorts by path.
fn with_folders(changes: Vec<(Vec<u8>, FileChange)>) -> Vec<ChangedPath> {
    let mut all: HashMap<Vec<u8>, FileChange> = HashMap::new();
    for (path, _) in &changes {
        let mut folder = split_last(path).0;
        while !folder.is_empty() {
            all.entry(folder.to_vec()).or_insert(FileChange::Modified);
            folder = split_last(folder).0;
        }
    }
    all.extend(changes);
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by(|a, b| compare_paths(&a.0, &b.0));
    let changed = |(path, change): (Vec<u8>, _)| ChangedPath { path: absolute(&path), change };
    all.into_iter().map(changed).collect()
}

fn is_other(path: &[u8], node: &Node, other: &Node) -> bool {
    let content = |node: &Node| match &node.kind {
        NodeKind::File { content, .. } => Some(content.id()),
        _ => None,
    };
    let header = |node: &Node| {
        let entry = node.to_entry(path);
        // A folder's time changes with its content.
        if node.is_directory() { Entry { mtime: Time::default(), ..entry } } else { entry }
    };
    content(node) != content(other) || header(node) != header(other)
}

/// An archive that is written.
struct CopyOut<'a, W> {
    archive: TarWriter<W>,
    store: &'a Store,
    /// Files that have several names, by the first in the archive.
    seen: HashMap<ContentId, Vec<u8>>,
    /// The name that stands for the copied path; none where paths are from the root.
    top: Option<&'a [u8]>,
}

impl<W: Write> CopyOut<'_, W> {
    fn node(&mut self, path: &[u8], node: &Node) -> Result<(), Error> {
        let name = self.top.map_or_else(|| path.to_vec(), |top| below(top, path));
        let mut entry = node.to_entry(&name);
        if let NodeKind::File { size, content, linked } = &node.kind {
            if *linked && let Some(first) = self.seen.get(&content.id()) {
                entry.kind = EntryKind::HardLink { target: first.as_slice().into() };
                return Ok(self.archive.append(&entry, &mut io::empty())?);
            }
            if *linked {
                self.seen.insert(content.id(), name);
            }
            let mut file =
                content.open(*size, self.store).map_err(Error::file("open", absolute(path)))?;
            return Ok(self.archive.append(&entry, &mut file)?);
        }
        // The root has no name of its own.
        if !name.is_empty() {
            self.archive.append(&entry, &mut io::empty())?;
        }
        for (name, child) in node.as_directory().iter().flat_map(|folder| folder.children()) {
            self.node(&join(path, name), child)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
