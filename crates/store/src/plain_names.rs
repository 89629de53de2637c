//! Files whose names are those of whiteouts (`.wh.NAME`).
//!
//! A command or a context can have such files. In a layer they keep their names, in BuildKit too:
//! the machine that made the layer sees files, while any other that unpacks it takes them for
//! whiteouts, because the two look the same in an archive. This store therefore remembers the names
//! that are files in the layers that it made.

use layer::tar::{PlainNames, is_whiteout_name};
use layer::{Entry, EntryKind};
use oci::Digest;

use crate::{Result, Store};

/// The kind of memo: the value is the paths, separated by zero bytes.
const MEMO: &str = "files named as whiteouts";

impl Store {
    /// Remembers the plain names of a layer that was made here.
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

    /// Returns the plain names of a layer, if it was made here.
    pub(crate) fn plain_names(&self, diff_id: &Digest) -> Result<PlainNames> {
        let known = self.db().memo_get(MEMO, &[diff_id.as_bytes()])?.pop().flatten();
        let known = known.unwrap_or_default();
        let paths = known.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        Ok(paths.map(Into::into).collect())
    }
}
