//! Digests that are known from earlier builds.

use std::collections::HashMap;

use graph::{ContentPath, ContentQuery};
use layer::Time;
use oci::{Digest, Hasher};

use super::error::DigestError;
use super::{content_digest, host_file};
use crate::content::{Content, HostFile, HostRoot, LayerFiles};
use crate::tree::{NodeKind, Tree};

/// A table that outlives builds. A lost value is only computed again; implementations handle their
/// own failures.
pub trait DigestMemo: Sync {
    /// Returns the values of keys, in their order.
    fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>>;
    /// Keeps values.
    fn put_many(&self, values: Vec<(Vec<u8>, Vec<u8>)>);
}

/// Remembers nothing.
impl DigestMemo for () {
    fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        vec![None; keys.len()]
    }

    fn put_many(&self, _: Vec<(Vec<u8>, Vec<u8>)>) {}
}

/// Returns the [`content_digest`] of the tree of a chain of layers, computed once for each chain
/// and query.
///
/// # Errors
/// If [`content_digest`] fails.
pub fn memoised_content_digest(
    tree: &Tree,
    chain: &Digest,
    query: &ContentQuery,
    layers: &dyn LayerFiles,
    memo: &dyn DigestMemo,
) -> Result<Digest, DigestError> {
    if let Some(digest) = known_content_digest(chain, query, memo) {
        return Ok(digest);
    }
    let digest = content_digest(tree, query, layers)?;
    memo.put_many(vec![(query_key(chain, query), digest.as_bytes().to_vec())]);
    Ok(digest)
}

/// Returns the digest that [`memoised_content_digest`] remembers, for callers that do not have the
/// tree.
pub fn known_content_digest(
    chain: &Digest,
    query: &ContentQuery,
    memo: &dyn DigestMemo,
) -> Option<Digest> {
    let known = memo.get_many(&[query_key(chain, query)]).pop().flatten();
    known.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(Digest::from_bytes)
}

fn query_key(chain: &Digest, query: &ContentQuery) -> Vec<u8> {
    let mut hasher = Hasher::new();
    let mut text = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    for path in &query.paths {
        // All fields by name, so that a new one cannot be forgotten here.
        let ContentPath { path, wildcard, follow_links, include, exclude, required } = path;
        text(path);
        text(&format!("{wildcard} {follow_links}"));
        for list in [include, exclude, required] {
            text(&list.len().to_string());
            list.iter().for_each(|item| text(item));
        }
    }
    format!("content/1 {chain} {}", hasher.finish()).into_bytes()
}

/// Known digests of a context's files: a file that has the same inode, size, mode and times as
/// before has the same content.
pub struct ContextMemo {
    key: Vec<u8>,
    known: HashMap<[u8; 16], [u8; 32]>,
    /// Files of the tree whose digest was known.
    found: usize,
}

/// The coarsest tick of file systems' clocks: a file that changed this shortly before it was found
/// can change again without a trace.
const RACY_SECONDS: i64 = 2;
const RECORD: usize = 16 + 32;

impl ContextMemo {
    /// Reads the known digests of a walked context's files into its tree; `None` if none of its
    /// content is in a folder.
    pub fn load(tree: &Tree, memo: &dyn DigestMemo) -> Option<Self> {
        let mut root = None;
        files(tree, |file| {
            root.get_or_insert_with(|| file.root.clone());
        });
        let key = memo_key(&*root?);
        let bytes = memo.get_many(std::slice::from_ref(&key)).pop().flatten().unwrap_or_default();
        let known: HashMap<[u8; 16], [u8; 32]> = if bytes.len().is_multiple_of(RECORD) {
            bytes
                .chunks_exact(RECORD)
                .filter_map(|record| {
                    let (identity, digest) = record.split_at(16);
                    Some((identity.try_into().ok()?, digest.try_into().ok()?))
                })
                .collect()
        } else {
            HashMap::new()
        };
        let mut found = 0;
        if !known.is_empty() {
            files(tree, |file| {
                if let Some(digest) = known.get(&identity(file)) {
                    let _ = file.digest.set(Digest::from_bytes(*digest));
                    found += 1;
                }
            });
        }
        Some(Self { key, known, found })
    }

    /// Saves the digests that were computed since.
    pub fn save(mut self, tree: &Tree, memo: &dyn DigestMemo) {
        let mut digests = 0;
        files(tree, |file| digests += usize::from(file.digest.get().is_some()));
        if digests == self.found {
            return;
        }
        let mut current = HashMap::new();
        let mut learnt = false;
        files(tree, |file| {
            if let Some(digest) = file.digest.get()
                && !is_racy(file)
            {
                let identity = identity(file);
                learnt |= !self.known.contains_key(&identity);
                current.insert(identity, *digest.as_bytes());
            }
        });
        if !learnt {
            return;
        }
        // Other walks of the same folder see other parts of it, so the old digests stay. But files
        // change and go, so the number of digests is bounded.
        if self.known.len() <= 2 * current.len() + 10_000 {
            self.known.extend(current);
        } else {
            self.known = current;
        }
        let mut records: Vec<_> = self.known.into_iter().collect();
        records.sort_unstable();
        let mut bytes = Vec::with_capacity(records.len() * RECORD);
        for (identity, digest) in records {
            bytes.extend(identity);
            bytes.extend(digest);
        }
        memo.put_many(vec![(self.key, bytes)]);
    }
}

fn memo_key(root: &HostRoot) -> Vec<u8> {
    let path = std::path::absolute(root.path()).unwrap_or_else(|_| root.path().into());
    let mut key = b"context/1 ".to_vec();
    key.extend_from_slice(path.as_os_str().as_encoded_bytes());
    key
}

fn files(tree: &Tree, mut visit: impl FnMut(&HostFile)) {
    tree.walk(|_, node| {
        if let NodeKind::File { content: Content::Host(_), .. } = &node.kind
            && let Some(file) = host_file(node)
        {
            visit(file);
        }
    });
}

fn identity(file: &HostFile) -> [u8; 16] {
    let mut text = Vec::with_capacity(file.path.len() + 64);
    for number in [
        file.inode.0,
        file.inode.1,
        file.size,
        file.mtime.seconds as u64,
        u64::from(file.mtime.nanos),
        file.ctime.seconds as u64,
        u64::from(file.ctime.nanos),
        u64::from(file.mode),
    ] {
        text.extend(number.to_le_bytes());
    }
    text.extend_from_slice(&file.path);
    let mut identity = [0; 16];
    identity.copy_from_slice(&Digest::of(text).as_bytes()[..16]);
    identity
}

fn is_racy(file: &HostFile) -> bool {
    let Time { seconds, nanos } = file.root.opened();
    let safe = Time { seconds: seconds - RACY_SECONDS, nanos };
    file.mtime.max(file.ctime) >= safe
}
