//! Resolution of paths with links, inside the tree, as by a process with that root.

use super::{Node, NodeKind, Tree, TreeError};
use crate::path::display;

/// The number of links that BuildKit follows.
const MAX_LINKS: usize = 255;

impl Tree {
    /// Returns the path that `path` leads to when its links are followed; that of the last
    /// component only if `follow_last`. Absolute links begin at the root, and `..` stops there.
    /// Components that do not exist are kept as they are.
    ///
    /// # Errors
    /// If there are too many links, such as in a loop.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Vec<u8>, TreeError> {
        let mut left: Vec<Box<[u8]>> = Vec::new();
        push_components(&mut left, path);
        // The directories from the root to here, each with the end of its name in `current`.
        let mut current: Vec<u8> = Vec::new();
        let mut above: Vec<(usize, Option<&Node>)> = vec![(0, Some(self.root()))];
        let mut links = 0;
        while let Some(name) = left.pop() {
            if *name == *b".." {
                if above.len() > 1 {
                    above.pop();
                }
                current.truncate(above.last().map_or(0, |(end, _)| *end));
                continue;
            }
            let here = above.last().and_then(|(_, node)| *node);
            let node = here.and_then(Node::as_directory).and_then(|here| here.get(&name));
            if let Some(Node { kind: NodeKind::Symlink { target }, .. }) = node
                && (follow_last || !left.is_empty())
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(TreeError::TooManyLinks(display(path)));
                }
                if target.first() == Some(&b'/') {
                    above.truncate(1);
                    current.clear();
                }
                push_components(&mut left, target);
                continue;
            }
            if !current.is_empty() {
                current.push(b'/');
            }
            current.extend_from_slice(&name);
            above.push((current.len(), node));
        }
        Ok(current)
    }
}

fn push_components(left: &mut Vec<Box<[u8]>>, path: &[u8]) {
    let names = super::components(path).filter(|name| *name != b".");
    left.extend(names.rev().map(Box::from));
}
