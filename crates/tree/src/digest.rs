//! Content digests, byte for byte as BuildKit's `contenthash` makes them: the names of the bytes
//! that a step reads of a tree (interop reference, 2.6).
//!
//! First the nodes that count are chosen, then their files are hashed by several threads, then the
//! digests are combined.

pub(crate) mod error;
pub(crate) mod listing;
pub(crate) mod memo;
mod select;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use graph::ContentQuery;
use oci::{Digest, Hasher};
use rustix::fs::{fgetxattr, flistxattr};
use rustix::io::Errno;

use self::error::DigestError;
use self::select::{Choice, Chosen};
use crate::content::{Content, HostFile, LayerFiles};
use crate::path::display;
use crate::tree::{Node, NodeKind, RootHeader, Tree};

/// The kernel's limit for a list of attribute names, and for a value, in bytes.
const MOST_OF_ATTRIBUTES: usize = 64 << 10;

/// Returns the content digest of the part of a tree that a query names.
///
/// # Errors
/// If a path does not exist or a file cannot be read.
pub fn content_digest(
    tree: &Tree,
    query: &ContentQuery,
    layers: &dyn LayerFiles,
) -> Result<Digest, DigestError> {
    let choices = select::select(tree, query)?;
    let mut files = FileDigests { local: is_local(tree), known: HashMap::new() };
    files.hash_all(&choices, layers)?;
    let digests: Vec<String> =
        choices.iter().map(|choice| files.choice(tree, choice).to_string()).collect();
    Ok(Digest::of(digests.join("\0")))
}

/// Paths of files, as indexes have them, by the layer's diffID.
pub type LayerPaths = BTreeMap<Digest, BTreeSet<Arc<[u8]>>>;

/// Returns the files of layers that must be in the store before [`content_digest`] is called.
///
/// # Errors
/// If a path does not exist.
pub fn content_files(tree: &Tree, query: &ContentQuery) -> Result<LayerPaths, DigestError> {
    let mut files = LayerPaths::new();
    for choice in select::select(tree, query)? {
        choice.nodes(&mut |node| {
            if let NodeKind::File { content: Content::Layer { diff_id, path }, .. } = &node.kind {
                files.entry(**diff_id).or_default().insert(path.clone());
            }
        });
    }
    Ok(files)
}

fn is_local(tree: &Tree) -> bool {
    tree.root_header() == RootHeader::Unsent
}

/// Digests of regular files, by the address of their node: the tree is borrowed meanwhile.
struct FileDigests {
    local: bool,
    known: HashMap<usize, Digest>,
}

/// Bytes below which a second thread costs more than it saves.
const WORTH_A_THREAD: u64 = 256 << 10;
const BUFFER: usize = 128 << 10;

impl FileDigests {
    fn hash_all(
        &mut self,
        choices: &[Choice<'_>],
        layers: &dyn LayerFiles,
    ) -> Result<(), DigestError> {
        // The tree's order is mostly the disk's. A file can be in several choices.
        let mut files: Vec<&Node> = Vec::new();
        let mut seen = HashSet::new();
        for choice in choices {
            choice.nodes(&mut |node| {
                if matches!(node.kind, NodeKind::File { .. })
                    && remembered(node).is_none()
                    && (choices.len() == 1 || seen.insert(std::ptr::from_ref(node).addr()))
                {
                    files.push(node);
                }
            });
        }
        let bytes: u64 = files
            .iter()
            .map(|node| match node.kind {
                NodeKind::File { size, .. } => size + 4096,
                _ => 0,
            })
            .sum();
        let threads = match bytes {
            0..WORTH_A_THREAD => 1,
            _ => std::thread::available_parallelism().map_or(1, usize::from).min(files.len()),
        };
        let work =
            Work { files: &files, layers, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
        let results = Mutex::new(Ok(Vec::with_capacity(files.len())));
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| work.run(&results, self.local));
            }
            work.run(&results, self.local);
        });
        let digests = results.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        self.known.extend(digests);
        Ok(())
    }

    fn choice(&self, tree: &Tree, choice: &Choice<'_>) -> Digest {
        match choice {
            Choice::Nothing => Digest::of(""),
            Choice::One(chosen) => self.chosen(tree, chosen),
            Choice::List(entries) => {
                let mut hasher = Hasher::new();
                for (key, chosen) in entries {
                    hasher.update(if key.is_empty() { b"\0" } else { key.as_slice() });
                    hasher.update(self.chosen(tree, chosen).to_string());
                }
                hasher.finish()
            }
        }
    }

    fn chosen(&self, tree: &Tree, chosen: &Chosen<'_>) -> Digest {
        match chosen {
            Chosen::Whole(node) => self.whole(tree, node),
            Chosen::Header(node) => self.header(tree, node),
        }
    }

    fn header(&self, tree: &Tree, node: &Node) -> Digest {
        if self.local && std::ptr::eq(node, tree.root()) {
            return Digest::of("");
        }
        Digest::of(header_text(node, self.local))
    }

    fn whole(&self, tree: &Tree, node: &Node) -> Digest {
        match &node.kind {
            NodeKind::Directory(directory) => {
                let mut hasher = Hasher::new();
                hasher.update(b"\0");
                hasher.update(self.header(tree, node).to_string());
                for (name, child) in directory.children() {
                    hasher.update(b"\0");
                    hasher.update(name);
                    hasher.update(self.whole(tree, child).to_string());
                }
                hasher.finish()
            }
            NodeKind::File { .. } => remembered(node)
                .or_else(|| self.known.get(&std::ptr::from_ref(node).addr()).copied())
                .expect("all files of the choices were hashed"),
            _ => self.header(tree, node),
        }
    }
}

struct Work<'a> {
    files: &'a [&'a Node],
    layers: &'a dyn LayerFiles,
    next: AtomicUsize,
    stop: AtomicBool,
}

type Hashed = Result<Vec<(usize, Digest)>, DigestError>;

impl Work<'_> {
    fn run(&self, results: &Mutex<Hashed>, local: bool) {
        let mut buffer = vec![0; BUFFER];
        let mut digests = Vec::new();
        let mut failed = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(node) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            match hash_file(node, local, self.layers, &mut buffer) {
                Ok(digest) => digests.push((std::ptr::from_ref(*node).addr(), digest)),
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    failed = Some(error);
                }
            }
        }
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            Some(error) => *results = Err(error),
            None => {
                if let Ok(results) = &mut *results {
                    results.extend(digests);
                }
            }
        }
    }
}

/// Returns a context's file if its node has the header that the file was found with: only then the
/// digest kept with the file is the node's.
fn host_file(node: &Node) -> Option<&HostFile> {
    match &node.kind {
        NodeKind::File { content: Content::Host(file), size, .. }
            if file.mode == node.mode
                && file.size == *size
                && (node.uid, node.gid) == (0, 0)
                && node.xattrs.is_none() =>
        {
            Some(file)
        }
        _ => None,
    }
}

fn remembered(node: &Node) -> Option<Digest> {
    host_file(node)?.digest.get().copied()
}

fn hash_file(
    node: &Node,
    local: bool,
    layers: &dyn LayerFiles,
    buffer: &mut [u8],
) -> Result<Digest, DigestError> {
    let NodeKind::File { size, content, .. } = &node.kind else { return Ok(Digest::of("")) };
    let digest = hash_content(header_text(node, local), content, *size, layers, buffer)
        .map_err(|source| DigestError::Read { path: content_name(content), source })?;
    if let Some(file) = host_file(node) {
        // Another thread can only have computed the same digest.
        let _ = file.digest.set(digest);
    }
    Ok(digest)
}

fn hash_content(
    mut header: Vec<u8>,
    content: &Content,
    size: u64,
    layers: &dyn LayerFiles,
    buffer: &mut [u8],
) -> io::Result<Digest> {
    let mut reader: Box<dyn Read> = match content {
        // Attributes of the user's files are hashed although they are not copied: BuildKit's client
        // sends them, and its copy leaves them out.
        Content::Host(file) => match file.open() {
            Ok(file) => {
                header.extend(attributes_text(&file));
                Box::new(file)
            }
            Err(_) if size == 0 => Box::new(io::empty()),
            Err(error) => return Err(error),
        },
        content if size > 0 => content.open(size, layers)?,
        _ => Box::new(io::empty()),
    };
    let mut hasher = Hasher::new();
    hasher.update(header);
    read_all(&mut *reader, size, buffer, |bytes| hasher.update(bytes))?;
    Ok(hasher.finish())
}

/// The hashed text of an open file's extended attributes. One that cannot be read is left out, as
/// in BuildKit's client.
fn attributes_text(file: &File) -> Vec<u8> {
    let mut names = vec![0; 1024];
    let listed = match flistxattr(file, &mut names[..]) {
        Err(Errno::RANGE) => {
            names.resize(MOST_OF_ATTRIBUTES, 0);
            flistxattr(file, &mut names[..])
        }
        listed => listed,
    };
    names.truncate(listed.unwrap_or(0));
    let mut names: Vec<&[u8]> = names.split(|byte| *byte == 0).collect();
    names.retain(|name| !name.is_empty() && is_hashed(name) && !name.starts_with(b"com.apple."));
    names.sort_unstable();
    let mut text = Vec::new();
    for name in names {
        let mut value = vec![0; MOST_OF_ATTRIBUTES];
        if let Ok(size) = fgetxattr(file, name, &mut value[..]) {
            text.extend_from_slice(name);
            text.extend_from_slice(&value[..size]);
        }
    }
    text
}

/// True if an attribute is hashed: labels and access lists of a machine are not.
fn is_hashed(name: &[u8]) -> bool {
    let hidden = name.starts_with(b"security.") || name.starts_with(b"system.");
    !hidden || name == b"security.capability"
}

fn read_all(
    reader: &mut dyn Read,
    size: u64,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match reader.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(io::Error::other("it became shorter while it was read")),
            Ok(read) => {
                take(&buffer[..read]);
                left -= read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn content_name(content: &Content) -> String {
    match content {
        Content::Layer { path, .. } => display(path),
        Content::Host(file) => display(&file.path),
        Content::Bytes(_) => "inline file".into(),
        Content::Slice { .. } => "archive member".into(),
    }
}

/// The hashed text of a header: the fields of old Docker's tarsum, without name and time.
fn header_text(node: &Node, local: bool) -> Vec<u8> {
    let nothing = [].as_slice();
    let (size, typeflag, target, device) = match &node.kind {
        NodeKind::File { size, .. } => (*size, '0', nothing, (0, 0)),
        NodeKind::Symlink { target } => (0, '2', &**target, (0, 0)),
        NodeKind::Directory(_) => (0, '5', nothing, (0, 0)),
        NodeKind::CharDevice { major, minor } => (0, '3', nothing, (*major, *minor)),
        NodeKind::BlockDevice { major, minor } => (0, '4', nothing, (*major, *minor)),
        NodeKind::Fifo => (0, '6', nothing, (0, 0)),
    };
    // BuildKit's test for devices in a snapshot is never true (`filehash_unix.go`, setUnixOpt).
    let (major, minor) = if local { device } else { (0, 0) };
    let mode = if typeflag == '2' { 0o777 } else { node.mode };
    let mut text =
        format!("namemode{mode}uid{}gid{}size{size}typeflag{typeflag}linkname", node.uid, node.gid)
            .into_bytes();
    text.extend_from_slice(target);
    text.extend_from_slice(format!("unamegnamedevmajor{major}devminor{minor}").as_bytes());
    for (name, value) in node.xattrs.as_deref().unwrap_or_default() {
        if is_hashed(name) {
            text.extend_from_slice(name);
            text.extend_from_slice(value);
        }
    }
    text
}

#[cfg(test)]
mod tests;
