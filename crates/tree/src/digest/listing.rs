//! The files of a query by name, to show users what changed.

use graph::ContentQuery;
use oci::Digest;

use super::error::DigestError;
use super::remembered;
use super::select::{Choice, Chosen, select};
use crate::tree::{Node, NodeKind, Tree};

/// A file that a query reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Absolute path in the tree, or path relative to the one that the query names.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Digest of header and content, if it was computed before.
    pub digest: Option<Digest>,
}

/// Returns the files, links and folders that a query reads of a tree. No file is read: the digests
/// are those that [`content_digest`](super::content_digest) left with files of a context.
///
/// # Errors
/// If a path does not exist.
pub fn content_listing(tree: &Tree, query: &ContentQuery) -> Result<Vec<ListedFile>, DigestError> {
    let mut files = Vec::new();
    let choices = select(tree, query)?;
    for (index, choice) in choices.iter().enumerate() {
        let asked = query.paths.get(index).map_or("/", |path| path.path.as_str());
        match choice {
            Choice::Nothing => {}
            Choice::One(chosen) => list(asked.as_bytes().to_vec(), chosen, &mut files),
            Choice::List(entries) => {
                for (key, chosen) in entries {
                    let path: Vec<u8> =
                        key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
                    list(path, chosen, &mut files);
                }
            }
        }
    }
    Ok(files)
}

fn list(path: Vec<u8>, chosen: &Chosen<'_>, files: &mut Vec<ListedFile>) {
    match chosen {
        Chosen::Header(node) => files.push(listed(&path, node)),
        Chosen::Whole(node) => {
            let mut open = vec![(path, *node)];
            while let Some((path, node)) = open.pop() {
                files.push(listed(&path, node));
                let directory = node.as_directory();
                for (name, child) in
                    directory.map(|it| it.children()).unwrap_or_default().iter().rev()
                {
                    let mut below = path.clone();
                    if below.last() != Some(&b'/') {
                        below.push(b'/');
                    }
                    below.extend_from_slice(name);
                    open.push((below, child));
                }
            }
        }
    }
}

fn listed(path: &[u8], node: &Node) -> ListedFile {
    let (size, digest) = match &node.kind {
        NodeKind::File { size, .. } => (*size, remembered(node)),
        NodeKind::Symlink { target } => (target.len() as u64, Some(Digest::of(target))),
        _ => (0, None),
    };
    let path = String::from_utf8_lossy(path).into_owned();
    ListedFile { path, mode: node.mode, size, digest }
}
