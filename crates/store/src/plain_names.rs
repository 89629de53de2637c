//! Files whose names are those of whiteouts (`.wh.NAME`).
//!
//! A command or a context can have such files. As in BuildKit, a layer has them under their names, and
//! who made the layer sees files, while whoever else unpacks it takes them for whiteouts: the two look
//! the same in an archive. So this store remembers which names in the layers that it made are files.

use std::collections::HashSet;

use oci::Digest;

use crate::tar::is_whiteout_name;
use crate::{Entry, EntryKind, Result, Store};

/// The paths of a layer's entries that look like whiteouts and are none.
pub type PlainNames = HashSet<Box<[u8]>>;

/// The kind of memo: the value is the paths, apart by zero bytes.
const MEMO: &str = "files named as whiteouts";

impl Store {
    /// Remembers those of a layer that was made here.
    pub(crate) fn note_plain_names(&self, diff_id: &Digest, entries: &[Entry]) -> Result<()> {
        let is_mark =
            |entry: &&Entry| matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque);
        let plain = entries.iter().filter(|entry| !is_mark(entry));
        let paths: Vec<&[u8]> =
            plain.map(|entry| &*entry.path).filter(|path| is_whiteout_name(path)).collect();
        if paths.is_empty() {
            return Ok(());
        }
        self.db().memo_put(MEMO, &[(diff_id.as_bytes(), &paths.join(&0))])
    }

    /// Those of a layer, where it was made here.
    pub(crate) fn plain_names(&self, diff_id: &Digest) -> Result<PlainNames> {
        let known = self.db().memo_get(MEMO, &[diff_id.as_bytes()])?.pop().flatten();
        let known = known.unwrap_or_default();
        let paths = known.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        Ok(paths.map(Into::into).collect())
    }
}
