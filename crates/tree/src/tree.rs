//! The tree that a file system would show, as headers with references to content: the merged
//! indexes of a chain of layers, a build context, the result of a COPY that is not yet written.
//!
//! A clone is cheap: two trees share all directories that are equal, and a change copies only the
//! directories above it.

mod merge;
mod resolve;

use std::collections::HashMap;
use std::sync::Arc;

use layer::{Entry, EntryKind, Time};

use crate::content::{Content, HostFile};
use crate::path::{components, display, split_last};

/// Extended attributes of a node, sorted by name; `None` if it has none.
pub type Xattrs = Option<Arc<[(Box<[u8]>, Box<[u8]>)]>>;

/// A tree of headers.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Node,
    root_header: RootHeader,
}

/// The form of a tree's root in content digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootHeader {
    /// The root's own header.
    Own,
    /// No header, and the other headers are as BuildKit's client sends them: a local context.
    Unsent,
    /// There is no file system at all (`FROM scratch`): the digest of the whole is that of nothing.
    NoTree,
}

/// A file, directory, link or device: its header, and the place of its content.
#[derive(Clone, Debug)]
pub struct Node {
    /// The kind of file.
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`); `0o777` for links.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of its content.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// The kind of a node.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
        /// The place of its bytes.
        content: Content,
        /// True if other nodes of the tree may be names of the same file; they have the same
        /// [`Content::id`].
        linked: bool,
    },
    /// A symbolic link.
    Symlink {
        /// The target as written.
        target: Arc<[u8]>,
    },
    /// A directory with its nodes.
    Directory(Arc<Directory>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// The nodes in a directory, by name.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    children: Vec<(Arc<[u8]>, Node)>,
}

/// The error of making or reading a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Links form a loop, or there are too many of them.
    #[error("too many links in `{0}`")]
    TooManyLinks(String),
    /// A hard link of a layer leads to a file that does not exist.
    #[error("hard link `{link}` of a layer leads to `{target}`, which is no file below it")]
    HardLink {
        /// The link.
        link: String,
        /// Its target.
        target: String,
    },
    /// A node was to be put into a node that is no directory.
    #[error("`{0}` is not in a directory of the tree")]
    NoParent(String),
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Node::directory(0o755, Time::default()), root_header: RootHeader::NoTree }
    }
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the tree of a context: its root has no header of its own (BuildKit's client sends
    /// none).
    pub fn without_root_header(root: Node) -> Self {
        Self { root, root_header: RootHeader::Unsent }
    }

    /// The form of the root in content digests.
    #[inline]
    pub fn root_header(&self) -> RootHeader {
        self.root_header
    }

    /// The root.
    #[inline]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Returns the node of a path in the form of [`Entry::path`]; links are not followed.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        components(path).try_fold(&self.root, |node, name| node.as_directory()?.get(name))
    }

    /// Returns the node of a path, to change its header. Directories above it are no longer shared.
    pub fn get_mut(&mut self, path: &[u8]) -> Option<&mut Node> {
        let mut node = &mut self.root;
        for name in components(path) {
            node = node.as_directory_mut()?.get_mut(name)?;
        }
        Some(node)
    }

    /// Puts a node at a path, in place of an existing one. The root can only become a directory.
    ///
    /// # Errors
    /// If the path's parent is no directory.
    pub fn insert(&mut self, path: &[u8], node: Node) -> Result<(), TreeError> {
        let error = || TreeError::NoParent(display(path));
        if path.is_empty() {
            if node.as_directory().is_none() {
                return Err(error());
            }
            self.root = node;
            return Ok(());
        }
        let (parent, name) = split_last(path);
        let parent = self.get_mut(parent).and_then(Node::as_directory_mut).ok_or_else(error)?;
        parent.insert(name, node);
        Ok(())
    }

    /// Removes the node of a path with its content, and returns it.
    pub fn remove(&mut self, path: &[u8]) -> Option<Node> {
        self.get(path)?;
        let (parent, name) = split_last(path);
        self.get_mut(parent)?.as_directory_mut()?.remove(name)
    }

    /// Gives folders and files that their owner can execute the mode 0755, and other files 0644: a
    /// checkout has the same tree under every umask.
    pub fn normalize_modes(&mut self) {
        normalize_modes(&mut self.root, &mut HashMap::new());
    }

    /// Calls `visit` for all nodes but the root, in the order of [`Entry`].
    pub fn walk<'a>(&'a self, mut visit: impl FnMut(&[u8], &'a Node)) {
        let mut path = Vec::new();
        let Some(root) = self.root.as_directory() else { return };
        // A stack on the heap, because a context's tree can be deeper than a thread's stack allows.
        let mut stack = vec![(root.children.iter(), 0)];
        while let Some((children, length)) = stack.last_mut() {
            path.truncate(*length);
            let Some((name, node)) = children.next() else {
                stack.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            visit(&path, node);
            if let Some(directory) = node.as_directory() {
                let length = path.len();
                stack.push((directory.children.iter(), length));
            }
        }
    }
}

/// Names of one file stay names of one file: `seen` has the new files by the addresses of the old.
fn normalize_modes(node: &mut Node, seen: &mut HashMap<usize, Arc<HostFile>>) {
    match &mut node.kind {
        NodeKind::Directory(directory) => {
            node.mode = 0o755;
            for (_, child) in &mut Arc::make_mut(directory).children {
                normalize_modes(child, seen);
            }
        }
        NodeKind::File { content, .. } => {
            node.mode = if node.mode & 0o100 == 0 { 0o644 } else { 0o755 };
            if let Content::Host(file) = content {
                let mode = node.mode;
                let address = Arc::as_ptr(file).addr();
                let new = seen.entry(address).or_insert_with(|| Arc::new(file.with_mode(mode)));
                *content = Content::Host(new.clone());
            }
        }
        _ => {}
    }
}

impl Node {
    /// Returns an empty directory that belongs to root.
    pub fn directory(mode: u32, mtime: Time) -> Self {
        Self {
            kind: NodeKind::Directory(Arc::default()),
            mode,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: None,
        }
    }

    /// True if it is a directory.
    #[inline]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory(_))
    }

    /// The nodes in it, if it is a directory.
    #[inline]
    pub fn as_directory(&self) -> Option<&Directory> {
        match &self.kind {
            NodeKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The nodes in it, to change them, if it is a directory.
    #[inline]
    pub fn as_directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.kind {
            NodeKind::Directory(directory) => Some(Arc::make_mut(directory)),
            _ => None,
        }
    }

    /// Returns the header as a layer has it. A file stays a file, even if it has several names.
    pub fn to_entry(&self, path: &[u8]) -> Entry {
        let kind = match &self.kind {
            NodeKind::File { size, .. } => EntryKind::File { size: *size },
            NodeKind::Symlink { target } => EntryKind::Symlink { target: (**target).into() },
            NodeKind::Directory(_) => EntryKind::Directory,
            &NodeKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
            &NodeKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
            NodeKind::Fifo => EntryKind::Fifo,
        };
        Entry {
            path: path.into(),
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: self.xattrs.as_deref().map(<[_]>::to_vec).unwrap_or_default(),
        }
    }
}

impl Directory {
    /// Makes a directory of nodes in any order; names must differ.
    pub fn from_children(mut children: Vec<(Arc<[u8]>, Node)>) -> Self {
        children.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Self { children }
    }

    /// The nodes with their names, in the order of names.
    #[inline]
    pub fn children(&self) -> &[(Arc<[u8]>, Node)] {
        &self.children
    }

    /// Returns the node of a name.
    pub fn get(&self, name: &[u8]) -> Option<&Node> {
        self.position(name).ok().map(|position| &self.children[position].1)
    }

    /// Returns the node of a name, to change it.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Node> {
        self.position(name).ok().map(|position| &mut self.children[position].1)
    }

    /// Puts a node in, in place of one with the same name.
    pub fn insert(&mut self, name: &[u8], node: Node) {
        match self.position(name) {
            Ok(position) => self.children[position].1 = node,
            Err(position) => self.children.insert(position, (name.into(), node)),
        }
    }

    /// Removes a node and returns it.
    pub fn remove(&mut self, name: &[u8]) -> Option<Node> {
        self.position(name).ok().map(|position| self.children.remove(position).1)
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        // Names are mostly inserted in order.
        match self.children.last() {
            Some((last, _)) if **last < *name => Err(self.children.len()),
            _ => self.children.binary_search_by(|(child, _)| (**child).cmp(name)),
        }
    }
}
