//! Files from one tree into another, with the rules of BuildKit's copy (fsutil's `copy.Copy`):
//! each decision is taken in its order, since results depend on it.

use std::collections::HashMap;

use graph::{ChmodMode, CopyAction, Glob, MatchInfo, PatternMatcher, clean_path, split_wildcards};
use layer::Time;
use tree::{ContentId, Node, NodeKind, RootHeader, Tree, Xattrs, join, split_last};

use super::error::{FilesError, display};
use super::mode::Symbolic;
use super::mutable_tree::{Ids, MutableTree};
use super::{ActionScope, owner, unpack};

/// Runs a copy.
pub(super) fn copy(scope: &mut ActionScope<'_>, action: &CopyAction) -> Result<(), FilesError> {
    let owner = owner::resolve(scope, action.owner.as_ref())?;
    let source = scope.tree(action.from)?;
    let destination = clean_with_end(&action.destination);
    if !action.create_destination {
        let path = scope.rootfs.tree.resolve(destination.as_bytes(), true)?;
        if scope.rootfs.lstat(split_last(&path).0)?.is_none() {
            return Err(FilesError::NotFound(action.destination.clone()));
        }
    }
    let path = clean_with_end(&action.source);
    let paths = if action.wildcard {
        resolve_wildcards(&source, &path, action.follow_symlinks)?
    } else {
        vec![path.into_bytes()]
    };
    if paths.is_empty() && !action.empty_wildcard {
        return Err(FilesError::NotFound(action.source.clone()));
    }
    let copied = CopiedTree { source: &source, action, owner };
    for path in paths {
        if action.unpack && unpack::unpack(scope, &source, &path, &destination, owner)? {
            continue;
        }
        copy_one(&mut scope.rootfs, &copied, &path, &destination)?;
    }
    Ok(())
}

/// An absolute path without detours that still says whether it ended in `/` or `/.`.
fn clean_with_end(path: &str) -> String {
    let mut clean = clean_path(&format!("/{path}"));
    if path.ends_with("/.") {
        if clean != "/" {
            clean.push('/');
        }
        clean.push('.');
    } else if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

/// The paths that a source with wildcards means, in the tree's order. What matches hides what is
/// in it.
fn resolve_wildcards(tree: &Tree, path: &str, follow: bool) -> Result<Vec<Vec<u8>>, FilesError> {
    let (fixed, wild) = split_wildcards(path);
    if wild.is_empty() {
        return Ok(vec![fixed.into_bytes()]);
    }
    let base = tree.resolve(fixed.as_bytes(), follow)?;
    let node = tree.get(&base).ok_or_else(|| FilesError::NotFound(fixed.clone()))?;
    let mut found = Vec::new();
    // BuildKit takes a malformed pattern for one that matches nothing.
    if let Ok(glob) = Glob::new(&wild) {
        find_matches(&glob, node, &mut Vec::new(), &mut |path| found.push(join(&base, path)));
    }
    Ok(found)
}

fn find_matches(glob: &Glob, node: &Node, path: &mut Vec<u8>, found: &mut dyn FnMut(&[u8])) {
    let length = path.len();
    for (name, child) in node.as_directory().map(|here| here.children()).unwrap_or_default() {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if glob.matches(path) {
            found(path);
        } else {
            find_matches(glob, child, path, found);
        }
        path.truncate(length);
    }
}

/// The source of a copy, and the rules for it.
struct CopiedTree<'a> {
    source: &'a Tree,
    action: &'a CopyAction,
    owner: Option<Ids>,
}

fn copy_one(
    rootfs: &mut MutableTree,
    &CopiedTree { source, action, owner }: &CopiedTree<'_>,
    path: &[u8],
    destination: &str,
) -> Result<(), FilesError> {
    let mut mode = None;
    let mut symbolic = None;
    match &action.mode {
        None => {}
        Some(ChmodMode::Octal(bits)) => mode = Some(bits & 0o7777),
        Some(ChmodMode::Symbolic(text)) => {
            symbolic = Some(Symbolic::new(text).ok_or_else(|| FilesError::Mode(text.clone()))?);
        }
    }
    // Octal bits are for made parents too, but not setuid and its like (Go's FileMode has those
    // elsewhere).
    let parent_mode = mode.map_or(0o755, |mode| mode & 0o777);
    // `/a/b` needs `/a`, `/a/b/` and `/a/b/.` need `/a/b`.
    let (above, last) = destination.rsplit_once('/').unwrap_or(("", destination));
    let needed = if last.is_empty() || last == "." { destination } else { above };
    let needed = rootfs.tree.resolve(needed.as_bytes(), true)?;
    rootfs.make_directories(&needed, parent_mode, owner, None)?;

    let mut target = rootfs.tree.resolve(destination.as_bytes(), true)?;
    let followed = source.resolve(path, action.follow_symlinks)?;
    let node = source.get(&followed).ok_or_else(|| FilesError::NotFound(display(&followed)))?;
    let existing = rootfs.lstat(&target)?.map(Node::is_directory);
    let whole_directory = node.is_directory() && !action.copy_dir_contents && existing.is_some();
    let into_directory = !node.is_directory() && existing == Some(true);
    if whole_directory || into_directory {
        let name = path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
        target = join(&target, name.filter(|name| *name != b".").unwrap_or_default());
    }
    let needed = if action.copy_dir_contents && node.is_directory() && existing.is_none() {
        target.clone()
    } else {
        split_last(&target).0.to_vec()
    };
    rootfs.make_directories(&needed, parent_mode, owner, None)?;

    let matcher = |patterns: &[String]| {
        (!patterns.is_empty()).then(|| PatternMatcher::new(patterns)).transpose()
    };
    let now = rootfs.now;
    let root_known =
        source.root_header() == RootHeader::Own && source.root().mtime != Time::default();
    let mut copier = Copier {
        root_time: (!root_known).then_some(now),
        root: source.root(),
        rootfs,
        owner,
        mode,
        symbolic,
        include: matcher(&action.include)?,
        exclude: matcher(&action.exclude)?,
        replace_existing: action.replace_existing,
        parents: Vec::new(),
        groups: HashMap::new(),
    };
    let top = CopyPaths { components: Vec::new(), target, overwrite: false };
    copier.copy(node, top, &MatchInfo::default(), &MatchInfo::default())
}

struct Copier<'a> {
    rootfs: &'a mut MutableTree,
    root: &'a Node,
    /// The time of the source's root where it is not known: BuildKit sees a folder that it just
    /// made.
    root_time: Option<Time>,
    owner: Option<Ids>,
    mode: Option<u32>,
    symbolic: Option<Symbolic>,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    replace_existing: bool,
    /// The directories above what is copied. One that no pattern included is only made when
    /// something in it is.
    parents: Vec<Parent<'a>>,
    /// The new files that source files with several names became, with their first name.
    groups: HashMap<ContentId, (usize, Vec<u8>)>,
}

struct Parent<'a> {
    source: &'a Node,
    target: Vec<u8>,
    copied: bool,
}

/// From where, relative to what is copied as a whole, to where; and whether the header of a
/// directory that is there is replaced.
struct CopyPaths {
    components: Vec<u8>,
    target: Vec<u8>,
    overwrite: bool,
}

impl<'a> Copier<'a> {
    fn copy(
        &mut self,
        node: &'a Node,
        paths: CopyPaths,
        include: &MatchInfo,
        exclude: &MatchInfo,
    ) -> Result<(), FilesError> {
        let mut included = true;
        let mut excluded = false;
        let mut below = (MatchInfo::default(), MatchInfo::default());
        if !paths.components.is_empty() {
            if let Some(matcher) = &self.include {
                (included, below.0) =
                    matcher.matches_using_parent_results(&paths.components, include);
            }
            if let Some(matcher) = &self.exclude {
                (excluded, below.1) =
                    matcher.matches_using_parent_results(&paths.components, exclude);
            }
            included &= !excluded;
        }
        let target = &paths.target;
        let takes_back = self.exclude.as_ref().is_some_and(PatternMatcher::has_exclusions);
        if !included && (!node.is_directory() || self.include.is_none() && !takes_back) {
            return Ok(());
        }
        let existing = self.rootfs.lstat(target)?.map(Node::is_directory);
        if included {
            let merged = node.is_directory() && existing == Some(true);
            if self.replace_existing && existing.is_some() && !merged {
                self.rootfs.remove(target);
            }
            self.make_parents(paths.overwrite)?;
        }
        if node.is_directory() {
            let enter = !excluded || takes_back;
            let created = self.directory(node, &paths, included, enter.then_some(&below))?;
            if if paths.overwrite { included } else { created } {
                self.set_header(node, target);
            } else if !paths.overwrite && existing.is_some() {
                let time = self.time(node);
                if let Some(target) = self.rootfs.tree.get_mut(target) {
                    target.mtime = time;
                }
            }
            return Ok(());
        }
        match self.rootfs.lstat(target)? {
            Some(node) if node.is_directory() => {
                return Err(FilesError::FileOverDirectory(display(target)));
            }
            _ => {}
        }
        let mut copy = node.clone();
        self.change_header(&mut copy);
        self.link(&mut copy, target);
        self.rootfs.put(target, copy)
    }

    /// Copies a directory; `below` are the results of the filters for it, `None` if nothing in
    /// it is wanted. Whether it was made.
    fn directory(
        &mut self,
        node: &'a Node,
        paths: &CopyPaths,
        included: bool,
        below: Option<&(MatchInfo, MatchInfo)>,
    ) -> Result<bool, FilesError> {
        let created = included && self.make_directory(node, &paths.target, paths.overwrite)?;
        let Some((include, exclude)) = below else { return Ok(false) };
        self.parents.push(Parent { source: node, target: paths.target.clone(), copied: included });
        for (name, child) in node.as_directory().map(|here| here.children()).unwrap_or_default() {
            let paths = CopyPaths {
                components: join(&paths.components, name),
                target: join(&paths.target, name),
                overwrite: true,
            };
            self.copy(child, paths, include, exclude)?;
        }
        self.parents.pop();
        Ok(created)
    }

    /// Makes a directory, or gives an existing one the permission bits. Whether it was made.
    fn make_directory(
        &mut self,
        source: &Node,
        target: &[u8],
        overwrite: bool,
    ) -> Result<bool, FilesError> {
        match self.rootfs.lstat(target)? {
            None => {
                self.rootfs.make_directory(target, source.mode, None, None)?;
                return Ok(true);
            }
            Some(node) if !node.is_directory() => {
                return Err(FilesError::DirectoryOverFile(display(target)));
            }
            Some(_) => {}
        }
        if overwrite && let Some(existing) = self.rootfs.tree.get_mut(target) {
            existing.mode = source.mode;
        }
        Ok(false)
    }

    fn make_parents(&mut self, overwrite: bool) -> Result<(), FilesError> {
        for index in 0..self.parents.len() {
            if self.parents[index].copied {
                continue;
            }
            self.parents[index].copied = true;
            let source = self.parents[index].source;
            let target = self.parents[index].target.clone();
            if self.make_directory(source, &target, overwrite)? {
                self.set_header(source, &target);
            }
        }
        Ok(())
    }

    /// Gives a directory the header of its source.
    fn set_header(&mut self, source: &Node, target: &[u8]) {
        let mut header = Node {
            kind: NodeKind::Fifo,
            mode: source.mode,
            uid: source.uid,
            gid: source.gid,
            mtime: self.time(source),
            xattrs: None,
        };
        if let Some(symbolic) = &self.symbolic {
            header.mode = symbolic.apply(header.mode, true);
        }
        self.change_header_but_symbolic(&mut header);
        if let Some(target) = self.rootfs.tree.get_mut(target) {
            target.mode = header.mode;
            (target.uid, target.gid) = (header.uid, header.gid);
            target.mtime = header.mtime;
            target.xattrs = union(&target.xattrs, &source.xattrs);
        }
    }

    /// Changes the header of a copied file as the options say.
    fn change_header(&self, copy: &mut Node) {
        if matches!(copy.kind, NodeKind::Symlink { .. }) {
            if let Some(owner) = self.owner {
                (copy.uid, copy.gid) = owner;
            }
            return;
        }
        if let Some(symbolic) = &self.symbolic {
            copy.mode = symbolic.apply(copy.mode, false);
        }
        self.change_header_but_symbolic(copy);
    }

    fn change_header_but_symbolic(&self, copy: &mut Node) {
        if let Some(mode) = self.mode {
            copy.mode = mode;
        }
        if let Some(owner) = self.owner {
            (copy.uid, copy.gid) = owner;
        }
    }

    /// Keeps names of one file together, among those that one copy brings.
    fn link(&mut self, copy: &mut Node, target: &[u8]) {
        let NodeKind::File { content, linked, .. } = &mut copy.kind else { return };
        if !*linked {
            return;
        }
        *linked = false;
        let group = match self.groups.get(&content.id()) {
            Some((group, first)) => {
                if let Some(NodeKind::File { linked, .. }) =
                    self.rootfs.tree.get_mut(first).map(|node| &mut node.kind)
                {
                    *linked = true;
                }
                self.rootfs.links.insert(first.clone(), *group);
                *linked = true;
                *group
            }
            None => {
                let group = self.rootfs.new_group();
                self.groups.insert(content.id(), (group, target.to_vec()));
                return;
            }
        };
        self.rootfs.links.insert(target.to_vec(), group);
    }

    fn time(&self, source: &Node) -> Time {
        match self.root_time {
            Some(time) if std::ptr::eq(source, self.root) => time,
            _ => source.mtime,
        }
    }
}

/// All attributes, where a name is in both those of the second.
fn union(below: &Xattrs, above: &Xattrs) -> Xattrs {
    match (below, above) {
        (_, None) => below.clone(),
        (None, Some(_)) => above.clone(),
        (Some(below), Some(above)) => {
            let mut all: std::collections::BTreeMap<_, _> = below.iter().cloned().collect();
            all.extend(above.iter().cloned());
            Some(all.into_iter().collect())
        }
    }
}
