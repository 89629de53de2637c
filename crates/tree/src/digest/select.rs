//! The nodes of a tree that a query selects, in BuildKit's order (`checksum.go`, includedPaths).

use graph::{
    ContentPath, ContentQuery, Glob, MatchInfo, PatternMatcher, clean_path, split_wildcards,
};

use super::error::DigestError;
use crate::path::components;
use crate::tree::{Node, NodeKind, RootHeader, Tree};

/// The nodes that one path of a query stands for.
pub(super) enum Choice<'a> {
    /// No node.
    Nothing,
    /// One node, whose digest is the path's.
    One(Chosen<'a>),
    /// Nodes with the keys that they are hashed with.
    List(Vec<(Vec<u8>, Chosen<'a>)>),
}

/// A selected node.
pub(super) enum Chosen<'a> {
    /// A node with all that is below it.
    Whole(&'a Node),
    /// The header alone of a directory.
    Header(&'a Node),
}

impl<'a> Choice<'a> {
    /// Calls `visit` for all nodes that are hashed.
    pub(super) fn nodes(&self, visit: &mut dyn FnMut(&'a Node)) {
        match self {
            Self::Nothing => {}
            Self::One(chosen) => chosen.nodes(visit),
            Self::List(entries) => entries.iter().for_each(|(_, chosen)| chosen.nodes(visit)),
        }
    }
}

impl<'a> Chosen<'a> {
    fn nodes(&self, visit: &mut dyn FnMut(&'a Node)) {
        match self {
            Self::Whole(node) => whole_nodes(node, visit),
            Self::Header(node) => visit(node),
        }
    }
}

fn whole_nodes<'a>(node: &'a Node, visit: &mut dyn FnMut(&'a Node)) {
    visit(node);
    for (_, child) in node.as_directory().map(|directory| directory.children()).unwrap_or_default()
    {
        whole_nodes(child, visit);
    }
}

pub(super) fn select<'a>(
    tree: &'a Tree,
    query: &ContentQuery,
) -> Result<Vec<Choice<'a>>, DigestError> {
    let whole = [ContentPath::default()];
    let paths = if query.paths.is_empty() { &whole } else { query.paths.as_slice() };
    paths.iter().map(|path| select_path(tree, path)).collect()
}

fn select_path<'a>(tree: &'a Tree, asked: &ContentPath) -> Result<Choice<'a>, DigestError> {
    let path = clean_path(&format!("/{}", asked.path));
    if tree.root_header() == RootHeader::NoTree {
        return match path.as_str() {
            "/" => Ok(Choice::Nothing),
            _ => Err(DigestError::NotFound(path)),
        };
    }
    if !asked.wildcard && asked.include.is_empty() && asked.exclude.is_empty() {
        return whole(tree, &path, asked.follow_links).map(Choice::One);
    }
    select_list(tree, asked, &path)
}

fn whole<'a>(tree: &'a Tree, path: &str, follow: bool) -> Result<Chosen<'a>, DigestError> {
    let resolved = tree.resolve(path.as_bytes(), follow)?;
    tree.get(&resolved).map(Chosen::Whole).ok_or_else(|| DigestError::NotFound(path.into()))
}

fn select_list<'a>(
    tree: &'a Tree,
    asked: &ContentPath,
    path: &str,
) -> Result<Choice<'a>, DigestError> {
    // Here paths begin with `/`, and the root is empty.
    let pattern = if path == "/" { "" } else { path };
    let (prefix, follow_prefix) = if asked.wildcard {
        let (fixed, wild) = split_wildcards(path);
        (if fixed == "/" { String::new() } else { fixed }, !wild.is_empty())
    } else {
        (pattern.to_owned(), false)
    };
    let mut selection = Selection {
        glob: if asked.wildcard && !pattern.is_empty() { Some(Glob::new(pattern)?) } else { None },
        start: pattern.len(),
        source_is_root: pattern.is_empty(),
        follow_links: asked.follow_links,
        include: matcher(&asked.include)?,
        exclude: matcher(&asked.exclude)?,
        entries: Vec::new(),
        parents: Vec::new(),
    };
    let resolved = tree.resolve(prefix.as_bytes(), follow_prefix)?;
    if let Some(node) = tree.get(&resolved) {
        let matched = (!asked.wildcard || pattern.is_empty()).then_some(selection.start);
        selection.node(&mut prefix.clone().into_bytes(), node, matched);
    }
    for required in &asked.required {
        if !selection.entries.iter().any(|entry| entry.path.starts_with(required.as_bytes())) {
            return Err(DigestError::NotFound(required.clone()));
        }
    }
    let mut chosen = Vec::with_capacity(selection.entries.len());
    for entry in selection.entries {
        let is_link = matches!(entry.node.kind, NodeKind::Symlink { .. });
        let choice = if entry.follow && is_link {
            whole(tree, &String::from_utf8_lossy(&entry.path), true)?
        } else if entry.node.is_directory() {
            Chosen::Header(entry.node)
        } else {
            Chosen::Whole(entry.node)
        };
        chosen.push((entry.path, choice));
    }
    Ok(match chosen.len() {
        0 => Choice::Nothing,
        1 if base(path.as_bytes()) == base(&chosen[0].0) => Choice::One(chosen.remove(0).1),
        _ => Choice::List(
            chosen.into_iter().map(|(path, choice)| (key(&path, &prefix), choice)).collect(),
        ),
    })
}

fn matcher(patterns: &[String]) -> Result<Option<PatternMatcher>, DigestError> {
    Ok(if patterns.is_empty() { None } else { Some(PatternMatcher::new(patterns)?) })
}

fn key(path: &[u8], prefix: &str) -> Vec<u8> {
    let rest = path.strip_prefix(prefix.as_bytes()).unwrap_or(path);
    rest.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

/// Go's `path.Base`.
fn base(path: &[u8]) -> &[u8] {
    match components(path).next_back() {
        Some(name) => name,
        None if path.is_empty() => b".",
        None => b"/",
    }
}

struct Selection<'a> {
    /// The wildcard pattern that a path, or a directory above it, must match.
    glob: Option<Glob>,
    /// Length of the path that patterns are relative to, if no wildcard determines it.
    start: usize,
    source_is_root: bool,
    follow_links: bool,
    include: Option<PatternMatcher>,
    exclude: Option<PatternMatcher>,
    entries: Vec<SelectedNode<'a>>,
    /// The directories above the current node that count.
    parents: Vec<Parent<'a>>,
}

struct SelectedNode<'a> {
    path: Vec<u8>,
    node: &'a Node,
    follow: bool,
}

struct Parent<'a> {
    path: Vec<u8>,
    node: &'a Node,
    follow: bool,
    emitted: bool,
    include: MatchInfo,
    exclude: MatchInfo,
}

impl<'a> Selection<'a> {
    /// Visits a node and all below it. `matched` is the length of the path that patterns are
    /// relative to, once the wildcard has matched.
    fn node(&mut self, path: &mut Vec<u8>, node: &'a Node, matched: Option<usize>) {
        let matched = matched.or_else(|| {
            let glob = self.glob.as_ref()?;
            glob.matches(path).then_some(path.len())
        });
        let depth = self.parents.len();
        if let Some(start) = matched
            && !(self.source_is_root && path.is_empty())
        {
            self.decide(path, node, start);
        }
        if let Some(directory) = node.as_directory() {
            let length = path.len();
            for (name, child) in directory.children() {
                path.push(b'/');
                path.extend_from_slice(name);
                self.node(path, child, matched);
                path.truncate(length);
            }
        }
        self.parents.truncate(depth);
    }

    fn decide(&mut self, path: &[u8], node: &'a Node, start: usize) {
        let candidate = path.get(start..).unwrap_or_default();
        let candidate = candidate.strip_prefix(b"/").unwrap_or(candidate);
        let nothing = MatchInfo::default();
        let follow = self.parents.is_empty() && self.follow_links;
        let (above_include, above_exclude) = self
            .parents
            .last()
            .map_or((&nothing, &nothing), |parent| (&parent.include, &parent.exclude));
        let mut include = MatchInfo::default();
        let mut exclude = MatchInfo::default();
        let mut included = true;
        if let Some(matcher) = &self.include {
            (included, include) = matcher.matches_using_parent_results(candidate, above_include);
        }
        if included && let Some(matcher) = &self.exclude {
            let excluded;
            (excluded, exclude) = matcher.matches_using_parent_results(candidate, above_exclude);
            included = !excluded;
        }
        if included {
            for parent in self.parents.iter_mut().filter(|parent| !parent.emitted) {
                parent.emitted = true;
                let path = parent.path.clone();
                self.entries.push(SelectedNode { path, node: parent.node, follow: parent.follow });
            }
            self.entries.push(SelectedNode { path: path.to_vec(), node, follow });
        }
        if node.is_directory() {
            let path = path.to_vec();
            let emitted = included;
            self.parents.push(Parent { path, node, follow, emitted, include, exclude });
        }
    }
}
