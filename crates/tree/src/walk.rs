//! A build context as a tree: the files that BuildKit's client would send of a folder.
//!
//! Headers are those of `lstat`, but all owned by root; extended attributes are left out (in
//! BuildKit they do not reach the image either), and a socket is sent as an empty file. The rules
//! for directories are those of fsutil's filter: one that is not excluded itself is present even if
//! all in it is excluded; an excluded one is present if something in it is included again by a `!`
//! pattern.

mod follow;

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use graph::{MatchInfo, Pattern, PatternError, PatternMatcher, clean_path, split_wildcards};
use layer::Time;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;

use crate::content::{Content, HostFile, HostRoot};
use crate::path::{display, join};
use crate::tree::{Directory, Node, NodeKind, Tree};

/// The error of walking a context.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The folder cannot be opened.
    #[error("open context `{}`: {source}", path.display())]
    Root {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file in it cannot be read.
    #[error("read `{path}` of the context: {source}")]
    Read {
        /// Path in the context.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// A line of an ignore file, or a path that a step reads, is invalid.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Walks a folder. `excludes` are the patterns of its ignore file; `follow_paths` are the paths
/// that will be read (links in them are followed), empty for all.
///
/// # Errors
/// If a pattern is invalid, or a file that is not excluded cannot be read.
pub fn walk_context(
    path: &Path,
    excludes: &[String],
    follow_paths: &[String],
) -> Result<Tree, WalkError> {
    let root =
        HostRoot::open(path).map_err(|source| WalkError::Root { path: path.into(), source })?;
    let includes = follow::follow_links(&root, follow_paths)?;
    let walker = Walker {
        root: Arc::new(root),
        includes: Filter::new(&includes)?,
        excludes: Filter::new(excludes)?,
        queue: Mutex::default(),
        wake: Condvar::new(),
    };
    let listings = walker.run()?;
    Ok(Tree::without_root_header(Assembly { listings, linked: HashMap::new() }.root()))
}

/// Patterns, with the places in which they can match.
struct Filter {
    matcher: PatternMatcher,
    /// For the patterns that can match below a directory although they do not match it: the path
    /// before the first wildcard, and true if there is a wildcard.
    below: Vec<(String, bool)>,
    /// The same for `!` patterns.
    back: Vec<(String, bool)>,
}

impl Filter {
    fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let matcher = PatternMatcher::new(patterns)?;
        let (back, below): (Vec<_>, Vec<_>) =
            matcher.patterns().iter().partition(|pattern| pattern.is_exclusion());
        let reach = |patterns: Vec<&Pattern>| patterns.into_iter().map(pattern_reach).collect();
        Ok(Self { below: reach(below), back: reach(back), matcher })
    }
}

fn pattern_reach(pattern: &Pattern) -> (String, bool) {
    let text = pattern.text();
    let text = text.strip_suffix("/**").unwrap_or(text);
    let text = text.strip_suffix("/*").unwrap_or(text);
    if text.contains(['*', '[', ']', '?', '^', '\\']) {
        let (fixed, _) = split_wildcards(text);
        let fixed = if fixed.contains(['\\', ']', '^']) { "" } else { &fixed };
        (if fixed == "." { "" } else { fixed }.to_owned(), true)
    } else {
        (clean_path(text), false)
    }
}

/// True if one of these patterns can match something below a directory for which the decision was
/// different.
fn reaches_into(patterns: &[(String, bool)], directory: &[u8]) -> bool {
    let below = |path: &[u8], directory: &[u8]| {
        path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    patterns.iter().any(|(fixed, wildcard)| {
        let fixed = fixed.as_bytes();
        below(fixed, directory) || *wildcard && (fixed.is_empty() || below(directory, fixed))
    })
}

/// A directory that is to be read.
struct Task {
    id: usize,
    path: Vec<u8>,
    include: MatchInfo,
    exclude: MatchInfo,
    /// True if it is present only if something in it is.
    skipped: bool,
}

/// A directory that was read.
#[derive(Default)]
struct Listing {
    children: Vec<(Arc<[u8]>, Child)>,
}

enum Child {
    Leaf(Node),
    Directory { header: Node, id: usize, skipped: bool },
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    listings: Vec<Listing>,
    /// Directories that are known but not yet read.
    open: usize,
    failed: Option<WalkError>,
}

struct Walker {
    root: Arc<HostRoot>,
    includes: Filter,
    excludes: Filter,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// The number of waiting directories from which on more threads help.
const WORTH_A_THREAD: usize = 16;

impl Walker {
    fn run(&self) -> Result<Vec<Listing>, WalkError> {
        {
            let mut queue = self.queue();
            queue.listings.push(Listing::default());
            queue.open = 1;
            queue.tasks.push(Task {
                id: 0,
                path: Vec::new(),
                include: MatchInfo::default(),
                exclude: MatchInfo::default(),
                skipped: false,
            });
        }
        let helpers = std::thread::available_parallelism().map_or(1, usize::from).min(4) - 1;
        std::thread::scope(|scope| self.work(Some((scope, helpers))));
        let mut queue = self.queue();
        match queue.failed.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut queue.listings)),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads directories until none is left. The first thread starts helpers when that pays.
    fn work<'scope>(
        &'scope self,
        mut helpers: Option<(&'scope std::thread::Scope<'scope, '_>, usize)>,
    ) {
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        loop {
            let task = {
                let mut queue = self.queue();
                loop {
                    if queue.failed.is_some() || queue.open == 0 {
                        return;
                    }
                    if let Some(task) = queue.tasks.pop() {
                        break task;
                    }
                    queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let result = self.read(&task, &mut buffer);
            let mut queue = self.queue();
            match result {
                Ok(children) => self.finish(&mut queue, &task, children),
                Err(error) => queue.failed = Some(error),
            }
            queue.open -= 1;
            if queue.tasks.len() >= WORTH_A_THREAD
                && let Some((scope, count)) = helpers.take()
            {
                for _ in 0..count {
                    scope.spawn(|| self.work(None));
                }
            }
            self.wake.notify_all();
        }
    }

    fn finish(&self, queue: &mut Queue, task: &Task, found: Vec<WalkedNode>) {
        let mut children = Vec::with_capacity(found.len());
        for found in found {
            let child = match found.below {
                None => Child::Leaf(found.node),
                Some((path, include, exclude, skipped)) => {
                    let id = queue.listings.len();
                    queue.listings.push(Listing::default());
                    queue.tasks.push(Task { id, path, include, exclude, skipped });
                    queue.open += 1;
                    Child::Directory { header: found.node, id, skipped }
                }
            };
            children.push((found.name, child));
        }
        queue.listings[task.id].children = children;
    }

    fn read(
        &self,
        task: &Task,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<Vec<WalkedNode>, WalkError> {
        let failed =
            |error: io::Error| WalkError::Read { path: display(&task.path), source: error };
        let directory = match self.root.open_at(&task.path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            // Removed since its parent was read, or not needed anyway.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if task.skipped && error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        let mut entries = RawDir::new(&directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match self.entry(task, &directory, name, entry.file_type()) {
                Ok(entry) => found.extend(entry),
                Err(Errno::NOENT) => {}
                Err(error) => {
                    let path = display(&join(&task.path, name.to_bytes()));
                    return Err(WalkError::Read { path, source: error.into() });
                }
            }
        }
        Ok(found)
    }

    fn entry(
        &self,
        task: &Task,
        directory: &OwnedFd,
        name: &CStr,
        kind: FileType,
    ) -> Result<Option<WalkedNode>, Errno> {
        let path = join(&task.path, name.to_bytes());
        // Most excluded files need no stat.
        if kind != FileType::Directory && kind != FileType::Unknown && self.skips_leaf(task, &path)
        {
            return Ok(None);
        }
        let stat = rustix::fs::statx(
            directory,
            name,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
            StatxFlags::BASIC_STATS,
        )?;
        let actual = FileType::from_raw_mode(stat.stx_mode.into());
        let mut node = Node {
            kind: NodeKind::Fifo,
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: 0,
            gid: 0,
            mtime: time(&stat.stx_mtime),
            xattrs: None,
        };
        if actual == FileType::Directory {
            node.kind = NodeKind::Directory(Arc::default());
            return Ok(self.directory(task, name, path, node));
        }
        if kind != actual && self.skips_leaf(task, &path) {
            return Ok(None);
        }
        node.kind = match actual {
            FileType::RegularFile => NodeKind::File {
                size: stat.stx_size,
                linked: stat.stx_nlink > 1,
                content: Content::Host(Arc::new(HostFile {
                    root: self.root.clone(),
                    path: path.into(),
                    mode: node.mode,
                    inode: (
                        u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
                        stat.stx_ino,
                    ),
                    size: stat.stx_size,
                    mtime: node.mtime,
                    ctime: time(&stat.stx_ctime),
                    digest: OnceLock::new(),
                })),
            },
            FileType::Symlink => {
                node.mode = 0o777;
                let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
                NodeKind::Symlink { target: target.into_bytes().into() }
            }
            FileType::Fifo => NodeKind::Fifo,
            FileType::CharacterDevice => {
                NodeKind::CharDevice { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }
            }
            FileType::BlockDevice => {
                NodeKind::BlockDevice { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }
            }
            FileType::Socket => {
                NodeKind::File { size: 0, linked: false, content: Content::Bytes(Arc::default()) }
            }
            _ => return Ok(None),
        };
        Ok(Some(WalkedNode { name: name.to_bytes().into(), node, below: None }))
    }

    fn skips_leaf(&self, task: &Task, path: &[u8]) -> bool {
        !self.includes.matcher.is_empty()
            && !self.includes.matcher.matches_leaf(path, &task.include)
            || self.excludes.matcher.matches_leaf(path, &task.exclude)
    }

    fn directory(&self, task: &Task, name: &CStr, path: Vec<u8>, node: Node) -> Option<WalkedNode> {
        let (included, include) =
            self.includes.matcher.matches_using_parent_results(&path, &task.include);
        let included = included || self.includes.matcher.is_empty();
        if !included && !reaches_into(&self.includes.below, &path) {
            return None;
        }
        let (excluded, exclude) =
            self.excludes.matcher.matches_using_parent_results(&path, &task.exclude);
        if excluded && !reaches_into(&self.excludes.back, &path) {
            return None;
        }
        let skipped = !included || excluded;
        Some(WalkedNode {
            name: name.to_bytes().into(),
            node,
            below: Some((path, include, exclude, skipped)),
        })
    }
}

/// An entry of a directory. For a directory, `below` has the data of its own task.
struct WalkedNode {
    name: Arc<[u8]>,
    node: Node,
    below: Option<(Vec<u8>, MatchInfo, MatchInfo, bool)>,
}

fn time(stamp: &rustix::fs::StatxTimestamp) -> Time {
    Time { seconds: stamp.tv_sec, nanos: stamp.tv_nsec }
}

/// Puts listings together into a tree.
struct Assembly {
    listings: Vec<Listing>,
    /// The first name, in the tree's order, of files that have several.
    linked: HashMap<(u64, u64), Content>,
}

impl Assembly {
    fn root(mut self) -> Node {
        let mut root = Node::directory(0o755, Time::default());
        let children = self.children(0);
        root.kind = NodeKind::Directory(Arc::new(Directory::from_children(children)));
        root
    }

    /// Recursion is as deep as the context; the kernel opens no path of more than 4096 bytes.
    fn children(&mut self, id: usize) -> Vec<(Arc<[u8]>, Node)> {
        let mut listing = std::mem::take(&mut self.listings[id].children);
        listing.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut children = Vec::with_capacity(listing.len());
        for (name, child) in listing {
            let node = match child {
                Child::Leaf(mut node) => {
                    self.link(&mut node);
                    node
                }
                Child::Directory { mut header, id, skipped } => {
                    let below = self.children(id);
                    if skipped && below.is_empty() {
                        continue;
                    }
                    header.kind = NodeKind::Directory(Arc::new(Directory::from_children(below)));
                    header
                }
            };
            children.push((name, node));
        }
        children
    }

    fn link(&mut self, node: &mut Node) {
        if let NodeKind::File { content, linked: true, .. } = &mut node.kind
            && let Content::Host(file) = content
        {
            *content = self.linked.entry(file.inode).or_insert_with(|| content.clone()).clone();
        }
    }
}

#[cfg(test)]
mod tests;
