//! Unpacks a layer's archive into a folder that overlayfs can use, in one pass over the stream:
//! compressed bytes are hashed and decompressed on one thread, the archive is hashed and unpacked
//! on another.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read};
use std::ops::Bound;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use oci::{Descriptor, Digest};

use crate::decompress::{Codec, Hashed, Pieces, feed};
use crate::error::shown;
use crate::folder::{FolderWriter, open_root, split};
use crate::store::{Privileges, make_folder};
use crate::tar::{Content, Limits, Mode, TarReader};
use crate::{Entry, EntryKind, Error, LayerIndex, Result, Store, Time, compare_paths};

/// Size of a blob, in bytes, below which it is decompressed on the same thread.
const SMALL: u64 = 128 << 10;
/// The number of symbolic links that are followed on the way to a file (Go's filepath-securejoin:
/// 255).
const MAX_LINKS: u32 = 255;

/// Waits until a layer is unpacked, or returns the reason why it never will be.
pub type WaitFor<'a> = dyn Fn(&Digest) -> Result<()> + Sync + 'a;

/// A layer to unpack, with its expected digests.
#[derive(Clone, Copy)]
pub struct PackedLayer<'a> {
    /// The media type, which gives the compression.
    pub media_type: &'a str,
    /// Digest of the archive.
    pub diff_id: Digest,
    /// Digest and size of the blob, if they are to be checked.
    pub blob: Option<(Digest, u64)>,
    /// The layers below, from the bottom up. They are needed if the layer has files in directories
    /// that it does not describe, or hard links to their files.
    pub parents: &'a [Digest],
    /// Called before such a parent is used: waits until it is unpacked. Without it, the parent must
    /// be unpacked already.
    pub wait_for: Option<&'a WaitFor<'a>>,
}

impl<'a> PackedLayer<'a> {
    /// Returns a layer by its descriptor, on top of others.
    pub fn new(blob: &'a Descriptor, diff_id: Digest, parents: &'a [Digest]) -> Self {
        Self {
            media_type: &blob.media_type,
            diff_id,
            blob: Some((blob.digest, blob.size)),
            parents,
            wait_for: None,
        }
    }
}

impl Store {
    /// Unpacks a layer from a stream, and stores its index. A layer that is unpacked already is not
    /// read; two processes may unpack the same one at once.
    ///
    /// # Errors
    /// If the stream does not match the digests, is no archive, or contains something that cannot
    /// be unpacked; then nothing is kept.
    pub fn unpack(
        &self,
        reader: impl Read + Send,
        layer: &PackedLayer<'_>,
    ) -> Result<Arc<LayerIndex>> {
        if self.is_unpacked(&layer.diff_id)? {
            return self.index(&layer.diff_id);
        }
        let codec = Codec::of_media_type(layer.media_type)?;
        let folder = self.temporary_folder("layer")?;
        let root_path = folder.path().join("fs");
        make_folder(&root_path, 0o755)?;
        // The umask and a setgid bit of a parent may have changed the mode.
        std::fs::set_permissions(&root_path, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::file("set mode of", &root_path))?;
        let root = open_root(&root_path)?;

        let mut blob = Hashed::new(reader, layer.blob.map(|(_, size)| size));
        let unpacked = if layer.blob.is_some_and(|(_, size)| size < SMALL) {
            let archive = codec.decode(BufReader::with_capacity(SMALL as usize, &mut blob));
            let archive = archive.map_err(|source| Error::ReadArchive { source })?;
            self.unpack_archive(archive, layer, root.as_fd())
        } else {
            self.unpack_pipelined(&mut blob, codec, layer, root.as_fd())
        };
        // An error of the blob explains an error of the archive, so the whole blob is read.
        let mut rest = Ok(0);
        if let Some((expected, size)) = layer.blob {
            rest = io::copy(&mut blob, &mut io::sink());
            let (actual, actual_size) = blob.finish();
            if rest.is_ok() && (actual, actual_size) != (expected, size) {
                return Err(Error::BlobMismatch { expected, size, actual, actual_size });
            }
        }
        let (entries, size) = unpacked?;
        rest.map_err(|source| Error::ReadArchive { source })?;
        let index = LayerIndex::from_entries(entries);
        self.put_index(&layer.diff_id, &index)?;
        if let Some((blob, _)) = layer.blob {
            self.note_seen(&blob, &layer.diff_id)?;
        }
        self.install(&root_path, &layer.diff_id, size)?;
        self.index(&layer.diff_id)
    }

    /// Unpacks a layer from its blob in this store.
    pub fn unpack_blob(
        &self,
        blob: &Descriptor,
        diff_id: Digest,
        parents: &[Digest],
    ) -> Result<Arc<LayerIndex>> {
        if self.is_unpacked(&diff_id)? {
            return self.index(&diff_id);
        }
        let file = self.open_blob(&blob.digest)?;
        self.unpack(file, &PackedLayer::new(blob, diff_id, parents))
    }

    fn unpack_pipelined(
        &self,
        blob: &mut Hashed<impl Read + Send>,
        codec: Codec,
        layer: &PackedLayer<'_>,
        root: BorrowedFd<'_>,
    ) -> Result<(Vec<Entry>, u64)> {
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(8);
            let (give_back, empty) = sync_channel(8);
            scope.spawn(move || match codec.decode(BufReader::with_capacity(256 << 10, blob)) {
                Ok(mut archive) => feed(&mut *archive, &send, &empty),
                Err(error) => drop(send.send(Err(error))),
            });
            self.unpack_archive(Pieces::new(receive, give_back), layer, root)
        })
    }

    /// Unpacks a tar stream and checks its digest. Returns the entries and the sum of the files'
    /// sizes.
    fn unpack_archive(
        &self,
        archive: impl Read,
        layer: &PackedLayer<'_>,
        root: BorrowedFd<'_>,
    ) -> Result<(Vec<Entry>, u64)> {
        let mut hashed = Hashed::new(archive, None);
        let mut limits = self.limits();
        if let Some((_, size)) = layer.blob {
            limits = limits.of_compressed(size);
        }
        let mut reader = TarReader::new(&mut hashed, Mode::Layer, limits)
            .with_plain_names(self.plain_names(&layer.diff_id)?);
        let mut unpacker = Unpacker::new(self, layer, (root, limits));
        while let Some((entry, mut content)) = reader.next_entry()? {
            unpacker.take(entry, &mut content)?;
        }
        drop(reader);
        // Writers pad archives to whole records; the limit applies to the padding too.
        let most = limits.max_total_bytes;
        io::copy(&mut (&mut hashed).take(most), &mut io::sink())
            .map_err(|source| Error::ReadArchive { source })?;
        let (actual, _) = hashed.finish();
        if actual != layer.diff_id {
            return Err(Error::LayerMismatch { expected: layer.diff_id, actual });
        }
        unpacker.finish()
    }
}

/// The state of a path so far. With neither field it is a directory that the archive only passed
/// through.
#[derive(Default)]
struct Node {
    entry: Option<Entry>,
    opaque: Option<Entry>,
}

impl Node {
    fn is_directory(&self) -> bool {
        self.entry.as_ref().is_none_or(|entry| entry.kind == EntryKind::Directory)
    }
}

/// A directory's path as the archive has it, and the same with its links followed.
type ResolvedParent = (Box<[u8]>, Box<[u8]>);

struct Unpacker<'a> {
    store: &'a Store,
    layer: &'a PackedLayer<'a>,
    folder: FolderWriter<'a>,
    /// In byte order, in which the content of a directory is contiguous too.
    nodes: BTreeMap<Box<[u8]>, Node>,
    limits: Limits,
    /// Bytes of the paths that were put into `nodes`.
    path_bytes: u64,
    /// Hard links by their targets, for the case that a target is replaced.
    links: HashMap<Box<[u8]>, Vec<Box<[u8]>>>,
    /// The last parent as the archive named it, and resolved; valid until a link is made or
    /// removed.
    last_parent: Option<ResolvedParent>,
    has_symlinks: bool,
}

impl<'a> Unpacker<'a> {
    fn new(
        store: &'a Store,
        layer: &'a PackedLayer<'a>,
        (root, limits): (BorrowedFd<'a>, Limits),
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
        }
    }

    fn take<R: Read>(&mut self, mut entry: Entry, content: &mut Content<'_, R>) -> Result<()> {
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
        self.insert(path, Node { entry: Some(entry), opaque: None })
    }

    /// Records the node of a path. Directories without an entry count too.
    fn insert(&mut self, path: Box<[u8]>, node: Node) -> Result<()> {
        self.path_bytes += path.len() as u64;
        let limit = self.limits.max_path_bytes();
        if self.path_bytes > limit {
            return Err(Error::ArchiveLimit { unit: "bytes of paths", limit });
        }
        self.nodes.insert(path, node);
        let limit = self.limits.max_entries;
        if self.nodes.len() as u64 > limit {
            return Err(Error::ArchiveLimit { unit: "entries", limit });
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
        self.insert(path, Node { entry: Some(entry), opaque })
    }

    fn take_whiteout(&mut self, entry: Entry) -> Result<()> {
        match self.nodes.get_mut(entry.path.as_ref()) {
            None => {
                self.folder.whiteout(&entry.path)?;
                let path = entry.path.clone();
                self.insert(path, Node { entry: Some(entry), opaque: None })?;
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

    /// Copies a file of a lower layer that the archive has a hard link to.
    fn copy_lower(&mut self, entry: &Entry, target: &[u8]) -> Result<()> {
        let missing = || {
            let problem = format!("a hard link to `{}`, which is nowhere", shown(target));
            Error::entry(&entry.path, problem)
        };
        let (diff_id, lower) = self.find_lower(target)?.ok_or_else(missing)?;
        // A hard link there is another name of a file there; the layer's folder has its content
        // too.
        let is_file = matches!(lower.kind, EntryKind::File { .. } | EntryKind::HardLink { .. });
        if !is_file {
            return Err(missing());
        }
        if let Some(wait_for) = self.layer.wait_for {
            wait_for(&diff_id)?;
        }
        let root = self.store.layer_root(&diff_id)?;
        let mut file = crate::folder::open_regular(&root, target)
            .map_err(Error::file("open", shown(target)))?;
        let copy = Entry { path: entry.path.clone(), ..lower };
        self.folder.file(&copy, &mut file, false)
    }

    /// Returns the entry that lower layers have for a path, by their indexes.
    fn find_lower(&self, path: &[u8]) -> Result<Option<(Digest, Entry)>> {
        for diff_id in self.layer.parents.iter().rev() {
            if let Some(wait_for) = self.layer.wait_for
                && !self.store.has_own_index(diff_id)
            {
                wait_for(diff_id)?;
            }
            let index = self.store.own_index(diff_id)?;
            if let Some(entry) = index.get(path) {
                match entry.kind {
                    EntryKind::Whiteout => return Ok(None),
                    EntryKind::Opaque => {}
                    _ => return Ok(Some((*diff_id, entry.clone()))),
                }
            }
            let ends = prefixes(path).any(|prefix| {
                let entries = index.entries();
                let first = entries
                    .partition_point(|entry| compare_paths(&entry.path, prefix) == Ordering::Less);
                let mut same = entries[first..].iter().take_while(|entry| &*entry.path == prefix);
                same.any(|entry| entry.kind != EntryKind::Directory)
            });
            if ends {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Resolves a path through the links that this archive has made, inside the root. The last name
    /// is not followed.
    fn resolve(&mut self, path: &[u8]) -> Result<Box<[u8]>> {
        if !self.has_symlinks {
            return Ok(path.into());
        }
        let (parent, name) = split(path);
        let resolved = match &self.last_parent {
            Some((named, resolved)) if **named == *parent => resolved.clone(),
            _ => {
                let resolved = self.resolve_parent(parent)?;
                self.last_parent = Some((parent.into(), resolved.clone()));
                resolved
            }
        };
        Ok(join(&resolved, name).into())
    }

    fn resolve_parent(&self, parent: &[u8]) -> Result<Box<[u8]>> {
        let mut resolved = Vec::new();
        // The remaining names, the next one last.
        let mut names: Vec<Box<[u8]>> =
            parent.rsplit(|byte| *byte == b'/').map(Into::into).collect();
        let mut links = 0;
        while let Some(name) = names.pop() {
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    resolved = split(&resolved).0.to_vec();
                    continue;
                }
                _ => {}
            }
            let next = join(&resolved, &name);
            let node = self.nodes.get(&next[..]);
            let Some(EntryKind::Symlink { target }) =
                node.and_then(|node| node.entry.as_ref()).map(|entry| &entry.kind)
            else {
                resolved = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS || names.len() > 64 << 10 {
                return Err(Error::entry(parent, "too many symbolic links on the way"));
            }
            if target.first() == Some(&b'/') {
                resolved.clear();
            }
            names.extend(target.rsplit(|byte| *byte == b'/').map(Into::into));
        }
        Ok(resolved.into())
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<()> {
        let parent = split(path).0;
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
            self.hand_over(entry);
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
            if let Some(Node { entry: Some(entry), .. }) = self.nodes.remove(&path) {
                self.hand_over(entry);
            }
        }
        Ok(())
    }

    /// Handles the removal of a file that has other names: the first of them becomes the file.
    fn hand_over(&mut self, gone: Entry) {
        let Some(links) = self.links.remove(&gone.path) else { return };
        let mut heir: Option<Box<[u8]>> = None;
        for link in links {
            let Some(entry) = self.nodes.get_mut(&link).and_then(|node| node.entry.as_mut()) else {
                continue;
            };
            let EntryKind::HardLink { target } = &mut entry.kind else { continue };
            if *target != gone.path {
                continue;
            }
            match &heir {
                None => {
                    *entry = Entry { path: link.clone(), ..gone.clone() };
                    heir = Some(link);
                }
                Some(heir) => {
                    target.clone_from(heir);
                    self.links.entry(heir.clone()).or_default().push(link);
                }
            }
        }
    }

    /// Sets the metadata of directories. Returns the entries and the sum of the files' sizes.
    fn finish(mut self) -> Result<(Vec<Entry>, u64)> {
        let nodes = std::mem::take(&mut self.nodes);
        let mut size = 0;
        let mut entries = Vec::with_capacity(nodes.len());
        for (path, node) in nodes {
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
        Ok((entries, size))
    }

    /// Returns the metadata of a directory that the archive does not describe: that of the layers
    /// below, because in an overlay the uppermost directory's metadata counts.
    fn passed_directory(&self, path: Box<[u8]>) -> Result<Entry> {
        let mut found = None;
        if self.store.privileges() != Privileges::None {
            found = self.find_lower(&path)?;
        }
        let lower = found.map(|(_, entry)| entry);
        Ok(lower.filter(|entry| entry.kind == EntryKind::Directory).unwrap_or_else(|| Entry {
            path,
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        }))
    }
}

/// The directories on the way to a path, from the top, without the root.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    [folder, name].join(&b'/')
}
