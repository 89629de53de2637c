//! The parts of a context that have to be walked if the paths that are read are known: the paths,
//! and the targets of links in them.

use std::collections::BTreeSet;
use std::io;

use graph::{Glob, clean_path, has_wildcard};
use rustix::fs::OFlags;

use super::WalkError;
use crate::content::HostRoot;
use crate::path::display;

/// Include patterns for paths; empty if all is needed.
pub(super) fn follow_links(root: &HostRoot, paths: &[String]) -> Result<Vec<String>, WalkError> {
    let mut follow = Follow { root, resolved: BTreeSet::new() };
    for path in paths {
        follow.path(path)?;
    }
    let mut kept: Vec<String> = Vec::new();
    for path in follow.resolved {
        if path == "." {
            return Ok(Vec::new());
        }
        let inside = kept.last().is_some_and(|last| {
            path.strip_prefix(last.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
        if !inside {
            kept.push(path);
        }
    }
    Ok(kept)
}

struct Follow<'a> {
    root: &'a HostRoot,
    resolved: BTreeSet<String>,
}

impl Follow<'_> {
    fn path(&mut self, path: &str) -> Result<(), WalkError> {
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            // Resolved as if the context were the root of a file system.
            let clean = clean_path(&format!("/{path}"));
            let mut rest = &clean[1..];
            let mut current = String::new();
            loop {
                let (name, after) = rest.split_once('/').unwrap_or((rest, ""));
                let parent = current.clone();
                if !current.is_empty() {
                    current.push('/');
                }
                current.push_str(name);
                rest = after;
                let targets = self.targets(&parent, name)?;
                if rest.is_empty() || !targets.is_empty() {
                    let whole = if current.is_empty() { "." } else { &current };
                    if !self.resolved.insert(whole.to_owned()) {
                        break;
                    }
                }
                if !targets.is_empty() {
                    open.extend(targets.iter().map(|target| format!("{target}/{rest}")));
                    break;
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns the targets of a name's link, or of the links among the names that it matches.
    fn targets(&self, parent: &str, name: &str) -> Result<Vec<String>, WalkError> {
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = match self.root.open_at(parent.as_bytes(), flags) {
            Ok(directory) => directory,
            Err(_) => return Ok(Vec::new()),
        };
        let failed =
            |error: io::Error| WalkError::Read { path: display(parent.as_bytes()), source: error };
        let link = |name: &[u8]| {
            let target = rustix::fs::readlinkat(&directory, name, Vec::new()).ok()?;
            let target = target.into_string().ok()?;
            Some(if target.starts_with('/') { target } else { format!("/{parent}/{target}") })
        };
        if !has_wildcard(name) {
            return Ok(link(name.as_bytes()).into_iter().collect());
        }
        let glob = Glob::new(name)?;
        let mut targets = Vec::new();
        let entries = rustix::fs::Dir::read_from(&directory).map_err(|e| failed(e.into()))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let name = entry.file_name().to_bytes();
            if glob.matches(name) && entry.file_type().is_symlink() {
                targets.extend(link(name));
            }
        }
        Ok(targets)
    }
}
