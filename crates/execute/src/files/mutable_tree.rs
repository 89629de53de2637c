//! A tree that is changed as a file system would be: entries that come and go change the time of
//! their directory.

use std::collections::HashMap;
use std::sync::Arc;

use layer::Time;
use tree::{Content, Node, NodeKind, Tree, join, split_last};

use super::error::{FilesError, display};

/// User and group.
pub(super) type Ids = (u32, u32);

/// Linux's limits: bytes of a path with its leading `/`, and of a name.
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// Refuses names that no Linux file system could unpack.
fn fits(path: &[u8]) -> Result<(), FilesError> {
    let is_long = |name: &[u8]| name.len() > LONGEST_NAME;
    match path.len() >= LONGEST_PATH || path.split(|byte| *byte == b'/').any(is_long) {
        true => Err(too_long(path)),
        false => Ok(()),
    }
}

fn too_long(path: &[u8]) -> FilesError {
    FilesError::NameTooLong(display(path))
}

/// The set-group-ID bit.
const SET_GROUP: u32 = 0o2000;

/// A tree, with the facts that a disk would keep about it.
#[derive(Clone)]
pub(super) struct MutableTree {
    pub(super) tree: Tree,
    /// The time of everything that happens.
    pub(super) now: Time,
    /// Groups new names of one new file. A name whose node is not `linked` does not count.
    pub(super) links: HashMap<Vec<u8>, usize>,
    /// The number of nodes added.
    pub(super) made: u64,
    groups: usize,
}

impl MutableTree {
    pub(super) fn new(tree: Tree, now: Time) -> Self {
        Self { tree, now, links: HashMap::new(), made: 0, groups: 0 }
    }

    /// A tree that is there, in which names of one file stay names of one file.
    pub(super) fn found(tree: &Tree) -> Self {
        let mut rootfs = Self::new(tree.clone(), Time::default());
        let mut groups = HashMap::new();
        tree.walk(|path, node| {
            if let NodeKind::File { linked: true, content, .. } = &node.kind {
                let next = groups.len();
                rootfs.links.insert(path.to_vec(), *groups.entry(content.id()).or_insert(next));
            }
        });
        rootfs
    }

    /// A number for a file with several names.
    pub(super) fn new_group(&mut self) -> usize {
        self.groups += 1;
        self.groups
    }

    /// The node of a path whose parents are no links.
    pub(super) fn lstat(&self, path: &[u8]) -> Result<Option<&Node>, FilesError> {
        if let Some(node) = self.tree.get(path) {
            return Ok(Some(node));
        }
        let mut parent = path;
        while !parent.is_empty() {
            (parent, _) = split_last(parent);
            if let Some(node) = self.tree.get(parent) {
                if !node.is_directory() {
                    return Err(FilesError::NotDirectory(display(parent)));
                }
                break;
            }
        }
        Ok(None)
    }

    /// Puts a node at a path whose parent exists.
    pub(super) fn put(&mut self, path: &[u8], node: Node) -> Result<(), FilesError> {
        fits(path)?;
        if let NodeKind::Symlink { target } = &node.kind
            && target.len() > LONGEST_PATH
        {
            return Err(too_long(path));
        }
        let now = self.now;
        let (parent, name) = split_last(path);
        let parent = self.tree.get_mut(parent).filter(|parent| parent.is_directory());
        let parent = parent.ok_or_else(|| FilesError::NoParent(display(path)))?;
        parent.mtime = now;
        if let Some(directory) = parent.as_directory_mut() {
            directory.insert(name, node);
        }
        self.made += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &[u8]) {
        if self.tree.remove(path).is_some() {
            let now = self.now;
            if let Some(parent) = self.tree.get_mut(split_last(path).0) {
                parent.mtime = now;
            }
        }
    }

    /// Makes one directory where nothing is. As `mkdir` has it, one in a directory with the
    /// set-group-ID bit gets the bit and, unless an owner is asked for, the group.
    pub(super) fn make_directory(
        &mut self,
        path: &[u8],
        mode: u32,
        owner: Option<Ids>,
        time: Option<Time>,
    ) -> Result<(), FilesError> {
        let mut node = Node::directory(mode, time.unwrap_or(self.now));
        let heir = self.tree.get(split_last(path).0).filter(|parent| parent.mode & SET_GROUP != 0);
        node.mode |= heir.map_or(0, |_| SET_GROUP);
        (node.uid, node.gid) = owner.unwrap_or((0, heir.map_or(0, |parent| parent.gid)));
        self.put(path, node)
    }

    /// Makes a directory and those above it, as far as they are not there. The path has no links
    /// in it.
    pub(super) fn make_directories(
        &mut self,
        path: &[u8],
        mode: u32,
        owner: Option<Ids>,
        time: Option<Time>,
    ) -> Result<(), FilesError> {
        fits(path)?;
        let mut made = Vec::new();
        for name in tree::components(path) {
            made = join(&made, name);
            match self.tree.get(&made) {
                Some(node) if node.is_directory() => {}
                Some(_) => return Err(FilesError::NotDirectory(display(&made))),
                None => self.make_directory(&made, mode, owner, time)?,
            }
        }
        Ok(())
    }

    /// Writes a file. Of one that is there, only the content changes.
    pub(super) fn make_file(
        &mut self,
        path: &[u8],
        mode: u32,
        data: &[u8],
    ) -> Result<(), FilesError> {
        let path = self.tree.resolve(path, true)?;
        let mode = match self.lstat(&path)? {
            Some(node) if node.is_directory() => {
                return Err(FilesError::FileOverDirectory(display(&path)));
            }
            Some(node) => node.mode,
            None => mode,
        };
        let mut node = Node::directory(mode, self.now);
        node.kind = NodeKind::File {
            size: data.len() as u64,
            content: Content::Bytes(Arc::from(data)),
            linked: false,
        };
        self.put(&path, node)
    }
}
