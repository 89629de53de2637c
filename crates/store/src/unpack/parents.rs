//! The directories on the way to an entry, through the links that the archive has made.

use layer::EntryKind;
use tree::{join, split_last};

use super::unpacker::Unpacker;
use crate::{Error, Result};

/// The number of symbolic links that are followed on the way to a file (Go's filepath-securejoin:
/// 255).
const MAX_LINKS: u32 = 255;

/// A directory's path as the archive has it, and the same with its links followed.
pub(super) type ResolvedParent = (Box<[u8]>, Box<[u8]>);

impl Unpacker<'_> {
    /// Resolves a path through the links that this archive has made, inside the root. The last name
    /// is not followed.
    pub(super) fn resolve(&mut self, path: &[u8]) -> Result<Box<[u8]>> {
        if !self.has_symlinks {
            return Ok(path.into());
        }
        let (parent, name) = split_last(path);
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
                    resolved = split_last(&resolved).0.to_vec();
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
}

/// The directories on the way to a path, from the top, without the root.
pub(crate) fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}
