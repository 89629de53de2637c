//! Sources that clients name by themselves.

use std::collections::BTreeMap;

/// A source alone, as a client asks for it to read files of it: a download or a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawSource {
    /// Its address in LLB: `https://…`, `git://…`.
    pub identifier: String,
    /// Its attributes in LLB (`http.filename`, `git.fullurl`, …).
    pub attributes: BTreeMap<String, String>,
}
