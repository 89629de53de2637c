//! ADD of an archive: what is in it, with the rules of moby's `archive.Unpack`, in a tree whose
//! root is the destination (BuildKit unpacks after a chroot: links cannot lead out).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use layer::tar::{Mode, TarReader};
use layer::{Entry, EntryKind, Time, open_decoder};
use store::{Room, Store};
use tree::{Content, Node, NodeKind, Tree, join, split_last};

use super::ActionScope;
use super::error::{FilesError, display};
use super::mutable_tree::{Ids, MutableTree};

/// Unpacks a source if it is an archive: by content, not by name. Whether it was one.
pub(super) fn unpack(
    scope: &mut ActionScope<'_>,
    source: &Tree,
    path: &[u8],
    destination: &str,
    owner: Option<Ids>,
) -> Result<bool, FilesError> {
    let resolved = source.resolve(path, true)?;
    let Some(node) = source.get(&resolved) else { return Ok(false) };
    let NodeKind::File { size, content, .. } = &node.kind else { return Ok(false) };
    // Without contents it cannot be told from other files. If it is an archive, only its own layer
    // is needed.
    let Some(store) = scope.contents.archives(node) else { return Ok(true) };
    if *size == 0 {
        return Ok(false);
    }
    let name = display(&resolved);
    let failed = |source| FilesError::Read { path: name.clone(), source };
    let file = content.open(*size, store).map_err(failed)?;
    let Ok(decoder) = open_decoder(file) else { return Ok(false) };
    let limits = store.limits().of_compressed(*size);
    let mut reader = TarReader::new(decoder, Mode::Archive, limits);
    let mut next = reader.next_entry();
    match &next {
        Ok(Some(_)) => {}
        // It is an archive, and one that is too large from the beginning.
        Err(layer::Error::ArchiveLimit { .. }) => {}
        Ok(None) | Err(_) => return Ok(false),
    }

    let destination = scope.rootfs.tree.resolve(destination.as_bytes(), true)?;
    scope.rootfs.make_directories(&destination, 0o755, owner, None)?;
    let root = scope.rootfs.tree.get(&destination).cloned();
    let root = root.ok_or_else(|| FilesError::NoParent(display(&destination)))?;
    let mut unpacking = Unpacking {
        rootfs: MutableTree::new(Tree::without_root_header(root), scope.rootfs.now),
        owner,
        directories: Vec::new(),
        shared: HashMap::new(),
        spool: Spool { store, file: None, end: 0, room: Room::default() },
    };
    let broken =
        |error: layer::Error| FilesError::Unpack { path: name.clone(), source: error.into() };
    while let Some((entry, mut content)) = next.map_err(broken)? {
        let kept = match entry.kind {
            EntryKind::File { size } => Some(
                unpacking
                    .spool
                    .keep(size, &mut content)
                    .map_err(|error| spool_error(&name, error))?,
            ),
            _ => None,
        };
        if entry.path.is_empty() {
            // `.` is passed over, `/` is the destination (so reads moby).
            if content.is_absolute() {
                unpacking.root(&entry)?;
            }
        } else {
            unpacking.entry(&entry, kept)?;
        }
        // Directories that no member is for count too.
        let limit = limits.max_entries;
        if unpacking.rootfs.made > limit {
            return Err(broken(layer::Error::ArchiveLimit { unit: "entries", limit }));
        }
        next = reader.next_entry();
    }
    unpacking.finish(&mut scope.rootfs, &destination);
    Ok(true)
}

fn spool_error(path: &str, error: io::Error) -> FilesError {
    let path = path.to_owned();
    // The archive's own errors come through its content.
    let error = match error.downcast::<layer::Error>() {
        Ok(archive) => return FilesError::Unpack { path, source: archive.into() },
        Err(error) => error,
    };
    match error.downcast::<store::Error>() {
        Ok(source) => FilesError::Unpack { path, source },
        Err(source) => FilesError::Spool { path, source },
    }
}

/// Members are written in the order of their paths, but read in the archive's: until then they
/// are in a file without a name.
struct Spool<'a> {
    store: &'a Store,
    file: Option<Arc<File>>,
    end: u64,
    room: Room,
}

impl Spool<'_> {
    fn keep(&mut self, size: u64, content: &mut impl io::Read) -> io::Result<Content> {
        if size == 0 {
            return Ok(Content::Bytes(Arc::from([])));
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let file = Arc::new(self.store.spool_file()?);
                self.file.insert(file).clone()
            }
        };
        let offset = self.end;
        self.end += size;
        let mut buffer = vec![0; 64 << 10];
        let mut at = offset;
        while at < self.end {
            let wanted =
                usize::try_from(self.end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = content.read(&mut buffer[..wanted])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Zeros stay a hole: a small archive must not fill a disk with them.
            if buffer[..read].iter().any(|byte| *byte != 0) {
                self.room.take(&*file, read as u64).map_err(io::Error::other)?;
                file.write_all_at(&buffer[..read], at)?;
            }
            at += read as u64;
        }
        file.set_len(self.end)?;
        Ok(Content::Slice { file, offset })
    }
}

struct Unpacking<'a> {
    /// The destination as the root.
    rootfs: MutableTree,
    owner: Option<Ids>,
    /// Times of directories, which are set when all is in them.
    directories: Vec<(Vec<u8>, Time)>,
    /// The last header of files with several names, by group.
    shared: HashMap<usize, Node>,
    spool: Spool<'a>,
}

impl Unpacking<'_> {
    /// The destination gets a header.
    fn root(&mut self, entry: &Entry) -> Result<(), FilesError> {
        if entry.kind != EntryKind::Directory {
            return Err(FilesError::FileOverDirectory("/".into()));
        }
        self.directories.push((Vec::new(), bounded(entry.mtime)));
        if let Some(root) = self.rootfs.tree.get_mut(b"") {
            set_header(root, entry, self.owner);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, content: Option<Content>) -> Result<(), FilesError> {
        let (parent, name) = split_last(&entry.path);
        let parent = self.parent(parent)?;
        let path = join(&parent, name);
        let is_directory = entry.kind == EntryKind::Directory;
        match self.rootfs.lstat(&path)? {
            Some(existing) if existing.is_directory() && is_directory => {}
            Some(_) => self.rootfs.remove(&path),
            None => {}
        }
        let no_parent = || FilesError::NoParent(display(&entry.path));
        if !self.rootfs.tree.get(&parent).is_some_and(Node::is_directory) {
            return Err(no_parent());
        }
        let kind = match &entry.kind {
            EntryKind::Directory => {
                if self.rootfs.lstat(&path)?.is_none() {
                    self.rootfs.make_directory(&path, 0o755, None, None)?;
                }
                self.directories.push((path.clone(), bounded(entry.mtime)));
                if let Some(node) = self.rootfs.tree.get_mut(&path) {
                    set_header(node, entry, self.owner);
                }
                return Ok(());
            }
            EntryKind::HardLink { target } => return self.hard_link(entry, target, &path),
            EntryKind::File { size } => NodeKind::File {
                size: *size,
                content: content.unwrap_or_else(|| Content::Bytes(Arc::from([]))),
                linked: false,
            },
            EntryKind::Symlink { target } => NodeKind::Symlink { target: (&**target).into() },
            &EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            &EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            EntryKind::Fifo => NodeKind::Fifo,
            // An archive that is not read as a layer has none.
            EntryKind::Whiteout | EntryKind::Opaque => return Ok(()),
        };
        let mut node = Node::directory(0, Time::default());
        node.kind = kind;
        set_header(&mut node, entry, self.owner);
        self.rootfs.put(&path, node)
    }

    /// A member's directory; one that the archive omits is made.
    fn parent(&mut self, path: &[u8]) -> Result<Vec<u8>, FilesError> {
        let itself = self.rootfs.tree.resolve(path, false)?;
        let followed = self.rootfs.tree.resolve(path, true)?;
        if self.rootfs.lstat(&itself)?.is_none() {
            self.rootfs.make_directories(&followed, 0o755, None, None)?;
        }
        Ok(followed)
    }

    /// Another name: the header that comes with it is the file's from now on.
    fn hard_link(&mut self, entry: &Entry, target: &[u8], path: &[u8]) -> Result<(), FilesError> {
        let missing = || FilesError::NoParent(display(target));
        let target = self.rootfs.tree.resolve(target, false)?;
        let mut node = self.rootfs.tree.get(&target).cloned().ok_or_else(missing)?;
        if node.is_directory() {
            return Err(missing());
        }
        set_header(&mut node, entry, self.owner);
        if let NodeKind::File { linked, .. } = &mut node.kind {
            *linked = true;
            let group = match self.rootfs.links.get(&target) {
                Some(group) => *group,
                None => self.rootfs.new_group(),
            };
            self.rootfs.links.insert(target.clone(), group);
            self.rootfs.links.insert(path.to_vec(), group);
            if let Some(first) = self.rootfs.tree.get_mut(&target) {
                *first = node.clone();
            }
            self.shared.insert(group, node.clone());
        }
        self.rootfs.put(path, node)
    }

    /// Puts the destination back into the tree that it was taken from.
    fn finish(mut self, rootfs: &mut MutableTree, destination: &[u8]) {
        for (path, time) in self.directories {
            if let Some(node) = self.rootfs.tree.get_mut(&path).filter(|node| node.is_directory()) {
                node.mtime = time;
            }
        }
        for (path, group) in &self.rootfs.links {
            if let Some(shared) = self.shared.get(group)
                && let Some(node) = self.rootfs.tree.get_mut(path)
                && is_same_file(node, shared)
            {
                *node = shared.clone();
            }
        }
        let mut groups = HashMap::new();
        for (path, group) in self.rootfs.links {
            let group = *groups.entry(group).or_insert_with(|| rootfs.new_group());
            rootfs.links.insert(join(destination, &path), group);
        }
        if let Some(node) = rootfs.tree.get_mut(destination) {
            *node = self.rootfs.tree.root().clone();
        }
    }
}

/// True if a name still belongs to a shared file.
fn is_same_file(node: &Node, shared: &Node) -> bool {
    match (&node.kind, &shared.kind) {
        (NodeKind::File { linked: true, content, .. }, NodeKind::File { content: shared, .. }) => {
            content.id() == shared.id()
        }
        _ => false,
    }
}

fn set_header(node: &mut Node, entry: &Entry, owner: Option<Ids>) {
    (node.uid, node.gid) = owner.unwrap_or((entry.uid, entry.gid));
    node.mode = if matches!(node.kind, NodeKind::Symlink { .. }) { 0o777 } else { entry.mode };
    node.mtime = bounded(entry.mtime);
    if !entry.xattrs.is_empty() {
        let mut all: std::collections::BTreeMap<_, _> =
            node.xattrs.iter().flat_map(|xattrs| xattrs.iter().cloned()).collect();
        all.extend(entry.xattrs.iter().cloned());
        node.xattrs = Some(all.into_iter().collect());
    }
}

/// moby takes times before 1970 for none.
fn bounded(time: Time) -> Time {
    if time.seconds < 0 { Time::default() } else { time }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn zeros_take_no_room() {
        let place = tempfile::tempdir().unwrap();
        let options = store::OpenOptions::new(store::Privileges::None);
        let store = Store::open(place.path(), options).unwrap();
        let mut spool = Spool { store: &store, file: None, end: 0, room: Room::default() };
        let mut first = vec![0; 5 << 20];
        first[3 << 20] = b'x';
        let read = |content: &Content, size: usize| {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut content.open(size as u64, &store).unwrap(), &mut bytes)
                .unwrap();
            bytes
        };
        let zeros = vec![0; 1 << 20];
        for bytes in [&first[..], b"small", &zeros] {
            let content = spool.keep(bytes.len() as u64, &mut &*bytes).unwrap();
            assert!(read(&content, bytes.len()) == bytes, "{} bytes", bytes.len());
        }
        let metadata = spool.file.unwrap().metadata().unwrap();
        assert_eq!(metadata.len(), (6 << 20) + 5);
        assert!(metadata.blocks() * 512 <= 256 << 10, "{} blocks", metadata.blocks());
        let short = Spool { store: &store, file: None, end: 0, room: Room::default() }
            .keep(2, &mut &b"1"[..]);
        assert_eq!(short.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
