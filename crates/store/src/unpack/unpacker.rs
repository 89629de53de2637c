//! The state of an archive that is unpacked: later entries replace, hide and link earlier ones.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::fd::BorrowedFd;

use layer::tar::{Content, Limits};
use layer::{Entry, EntryKind, shown};
use tree::split_last;

use super::PackedLayer;
use super::parents::{ResolvedParent, prefixes};
use crate::folder::FolderWriter;
use crate::{Error, Result, Store};

/// The state of a path so far. With neither field it is a directory that the archive only passed
/// through.
#[derive(Default)]
pub(super) struct Node {
    pub(super) entry: Option<Entry>,
    pub(super) opaque: Option<Entry>,
    /// The place of a regular file's content in the archive.
    place: Option<u64>,
}

impl Node {
    fn is_directory(&self) -> bool {
        self.entry.as_ref().is_none_or(|entry| entry.kind == EntryKind::Directory)
    }
}

/// The result of unpacking an archive.
pub(super) struct Unpacked {
    pub(super) entries: Vec<Entry>,
    /// The places of the contents of regular files in the archive, as far as they are in one piece.
    pub(super) places: HashMap<Box<[u8]>, u64>,
    /// The sum of the files' sizes.
    pub(super) size: u64,
    /// True if headers of folders are those of a lent index.
    pub(super) rests_on_loan: bool,
}

/// Unpacks the entries of one archive.
pub(super) struct Unpacker<'a> {
    pub(super) store: &'a Store,
    pub(super) layer: &'a PackedLayer<'a>,
    pub(super) folder: FolderWriter<'a>,
    /// In byte order, in which the content of a directory is contiguous too.
    pub(super) nodes: BTreeMap<Box<[u8]>, Node>,
    limits: Limits,
    /// Bytes of the paths that were put into `nodes`.
    path_bytes: u64,
    /// Hard links by their targets, for the case that a target is replaced.
    links: HashMap<Box<[u8]>, Vec<Box<[u8]>>>,
    /// The last parent as the archive named it, and resolved; valid until a link is made or
    /// removed.
    pub(super) last_parent: Option<ResolvedParent>,
    pub(super) has_symlinks: bool,
    /// True once a lent index was looked at.
    pub(super) rests_on_loan: Cell<bool>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(
        store: &'a Store,
        layer: &'a PackedLayer<'a>,
        root: BorrowedFd<'a>,
        limits: Limits,
    ) -> Self {
        Self {
            store,
            layer,
            folder: FolderWriter::new(root, store.inner.options),
            nodes: BTreeMap::new(),
            limits,
            path_bytes: 0,
            links: HashMap::new(),
            last_parent: None,
            has_symlinks: false,
            rests_on_loan: Cell::new(false),
        }
    }

    /// Unpacks an entry.
    pub(super) fn take<R: Read>(
        &mut self,
        mut entry: Entry,
        place: Option<u64>,
        content: &mut Content<'_, R>,
    ) -> Result<()> {
        if entry.path.is_empty() {
            return self.take_root(entry);
        }
        entry.path = self.resolve(&entry.path)?;
        let path = entry.path.clone();
        self.make_parents(&path)?;
        match entry.kind {
            EntryKind::Whiteout => return self.take_whiteout(entry),
            EntryKind::Opaque => return self.take_opaque(entry),
            EntryKind::Directory => return self.take_directory(entry),
            _ => {}
        }
        if let EntryKind::HardLink { target } = &mut entry.kind {
            *target = self.resolve(target)?;
            if *target == path {
                // A link to the file itself: nothing to do, as in link(2).
                return Ok(());
            }
        }
        self.remove(&path)?;
        let sparse = content.is_sparse();
        match &entry.kind {
            EntryKind::File { .. } => self.folder.file(&entry, content, sparse)?,
            EntryKind::Symlink { target } => {
                self.folder.symlink(&entry, target)?;
                self.has_symlinks = true;
                self.last_parent = None;
            }
            EntryKind::HardLink { target } => self.link(&entry, target)?,
            _ => self.folder.special(&entry)?,
        }
        let place = place.filter(|_| matches!(entry.kind, EntryKind::File { .. }));
        self.insert(path, Node { entry: Some(entry), opaque: None, place })
    }

    /// Records the node of a path. Directories without an entry count too.
    fn insert(&mut self, path: Box<[u8]>, node: Node) -> Result<()> {
        self.path_bytes += path.len() as u64;
        let limit = self.limits.max_path_bytes();
        if self.path_bytes > limit {
            return Err(layer::Error::ArchiveLimit { unit: "bytes of paths", limit }.into());
        }
        self.nodes.insert(path, node);
        let limit = self.limits.max_entries;
        if self.nodes.len() as u64 > limit {
            return Err(layer::Error::ArchiveLimit { unit: "entries", limit }.into());
        }
        Ok(())
    }

    /// The root's own metadata is ignored (as in containerd); a mark on it counts.
    fn take_root(&mut self, entry: Entry) -> Result<()> {
        match entry.kind {
            EntryKind::Directory => {}
            EntryKind::Opaque => {
                // For `Store::snapshot`: overlayfs itself ignores it on a layer's root.
                self.folder.opaque(b"")?;
                self.nodes.entry(Box::default()).or_default().opaque = Some(entry);
            }
            _ => return Err(Error::entry(b"/", "the root is not a directory")),
        }
        Ok(())
    }

    fn take_directory(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.clone();
        let mut opaque = None;
        match self.nodes.get_mut(path.as_ref()) {
            Some(node) if node.is_directory() => {
                node.entry = Some(entry);
                return Ok(());
            }
            // A whiteout and a directory of one name: the content below is hidden, and the
            // directory is new.
            Some(Node { entry: Some(old), .. }) if old.kind == EntryKind::Whiteout => {
                opaque = Some(Entry { kind: EntryKind::Opaque, ..old.clone() });
            }
            _ => {}
        }
        self.remove(&path)?;
        self.folder.directory(&path)?;
        if opaque.is_some() {
            self.folder.opaque(&path)?;
        }
        self.insert(path, Node { entry: Some(entry), opaque, place: None })
    }

    fn take_whiteout(&mut self, entry: Entry) -> Result<()> {
        match self.nodes.get_mut(entry.path.as_ref()) {
            None => {
                self.folder.whiteout(&entry.path)?;
                let path = entry.path.clone();
                self.insert(path, Node { entry: Some(entry), opaque: None, place: None })?;
            }
            Some(node) if node.is_directory() => {
                let path = entry.path.clone();
                node.opaque = Some(Entry { kind: EntryKind::Opaque, ..entry });
                self.folder.opaque(&path)?;
            }
            // A whiteout is about lower layers, where the file hides the path anyway.
            Some(_) => {}
        }
        Ok(())
    }

    fn take_opaque(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.clone();
        let is_whiteout = |node: &Node| {
            node.entry.as_ref().is_some_and(|entry| entry.kind == EntryKind::Whiteout)
        };
        if self.nodes.get(path.as_ref()).is_some_and(is_whiteout) {
            self.remove(&path)?;
        }
        self.make_directory(&path)?;
        self.folder.opaque(&path)?;
        self.nodes.entry(path).or_default().opaque = Some(entry);
        Ok(())
    }

    /// Links to a file of this archive, or copies one of a lower layer.
    fn link(&mut self, entry: &Entry, target: &[u8]) -> Result<()> {
        let path = &entry.path;
        let target_node = self.nodes.get(target);
        match target_node.map(|node| node.entry.as_ref().map(|entry| &entry.kind)) {
            Some(None | Some(EntryKind::Directory | EntryKind::Whiteout | EntryKind::Opaque)) => {
                let problem = format!("a hard link to `{}`, which is no file", shown(target));
                return Err(Error::entry(path, problem));
            }
            Some(Some(kind)) => {
                let is_special = matches!(
                    kind,
                    EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo
                );
                match self.folder.hard_link(path, target) {
                    // A device that could not be made, so there is nothing to link to.
                    Err(Error::File { source, .. })
                        if is_special && source.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
                self.share_header(entry, target)?;
            }
            None => self.copy_lower(entry, target)?,
        }
        self.links.entry(target.into()).or_default().push(path.clone());
        Ok(())
    }

    /// Gives a file with several names the header of the last one.
    fn share_header(&mut self, link: &Entry, target: &[u8]) -> Result<()> {
        let mut first = target;
        while let Some(EntryKind::HardLink { target }) =
            self.nodes.get(first).and_then(|node| node.entry.as_ref()).map(|entry| &entry.kind)
        {
            first = target;
        }
        let first: Box<[u8]> = first.into();
        let Some(file) = self.nodes.get_mut(&first).and_then(|node| node.entry.as_mut()) else {
            return Ok(());
        };
        let mut xattrs: BTreeMap<_, _> = file.xattrs.drain(..).collect();
        xattrs.extend(link.xattrs.iter().cloned());
        file.xattrs = xattrs.into_iter().collect();
        (file.uid, file.gid, file.mtime) = (link.uid, link.gid, link.mtime);
        if !matches!(file.kind, EntryKind::Symlink { .. }) {
            file.mode = link.mode;
        }
        self.folder.set_metadata(file)
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<()> {
        let parent = split_last(path).0;
        if parent.is_empty() || self.is_own_directory(parent) {
            return Ok(());
        }
        for prefix in prefixes(path).collect::<Vec<_>>() {
            self.make_directory(prefix)?;
        }
        Ok(())
    }

    fn is_own_directory(&self, path: &[u8]) -> bool {
        self.nodes.get(path).is_some_and(Node::is_directory)
    }

    /// Makes a directory that the archive passes through, if there is none.
    fn make_directory(&mut self, path: &[u8]) -> Result<()> {
        match self.nodes.get(path) {
            Some(node) if node.is_directory() => Ok(()),
            Some(Node { entry: Some(old), .. }) if old.kind == EntryKind::Whiteout => {
                let old = old.clone();
                self.take_directory(Entry { kind: EntryKind::Directory, mode: 0o755, ..old })
            }
            Some(_) => Err(Error::entry(path, "a file that other entries are in")),
            None => {
                self.folder.directory(path)?;
                self.insert(path.into(), Node::default())
            }
        }
    }

    /// Removes the node of a path, to make room for another: the last entry counts.
    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let Some(node) = self.nodes.remove(path) else { return Ok(()) };
        self.last_parent = None;
        self.folder.remove(path)?;
        if let Some(entry) = node.entry
            && entry.kind != EntryKind::Directory
        {
            self.hand_over(entry, node.place);
            return Ok(());
        }
        let start = [path, b"/"].concat();
        let below: Vec<Box<[u8]>> = self
            .nodes
            .range::<[u8], _>((Bound::Included(&start[..]), Bound::Unbounded))
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&start))
            .cloned()
            .collect();
        for path in below {
            if let Some(Node { entry: Some(entry), place, .. }) = self.nodes.remove(&path) {
                self.hand_over(entry, place);
            }
        }
        Ok(())
    }

    /// Handles the removal of a file that has other names: the first of them becomes the file.
    fn hand_over(&mut self, gone: Entry, place: Option<u64>) {
        let Some(links) = self.links.remove(&gone.path) else { return };
        let mut heir: Option<Box<[u8]>> = None;
        for link in links {
            let Some(Node { entry: Some(entry), place: own, .. }) = self.nodes.get_mut(&link)
            else {
                continue;
            };
            let EntryKind::HardLink { target } = &mut entry.kind else { continue };
            if *target != gone.path {
                continue;
            }
            match &heir {
                None => {
                    *entry = Entry { path: link.clone(), ..gone.clone() };
                    *own = place;
                    heir = Some(link);
                }
                Some(heir) => {
                    target.clone_from(heir);
                    self.links.entry(heir.clone()).or_default().push(link);
                }
            }
        }
    }

    /// Sets the metadata of directories.
    pub(super) fn finish(mut self) -> Result<Unpacked> {
        let nodes = std::mem::take(&mut self.nodes);
        let mut size = 0;
        let mut entries = Vec::with_capacity(nodes.len());
        let mut places = HashMap::new();
        for (path, node) in nodes {
            places.extend(node.place.map(|place| (path.clone(), place)));
            match node.entry {
                Some(entry) => {
                    match entry.kind {
                        EntryKind::Directory => self.folder.finish_directory(&entry)?,
                        EntryKind::File { size: file } => size += file,
                        _ => {}
                    }
                    entries.push(entry);
                }
                None if path.is_empty() => {}
                None => {
                    let entry = self.passed_directory(path)?;
                    self.folder.finish_directory(&entry)?;
                }
            }
            entries.extend(node.opaque);
        }
        Ok(Unpacked { entries, places, size, rests_on_loan: self.rests_on_loan.get() })
    }
}
