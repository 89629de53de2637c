//! Which part of a tree somebody reads: what a content digest is made of.

/// Paths of a tree whose content is asked for together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentQuery {
    /// The paths, deduplicated and sorted as BuildKit does it (interop reference, 2.3 and 2.4);
    /// empty stands for the whole tree.
    pub paths: Vec<ContentPath>,
}

/// One path whose content is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentPath {
    /// Absolute path, perhaps with wildcards.
    pub path: String,
    /// Whether wildcards count.
    pub wildcard: bool,
    /// Whether a path that is a link stands for its target.
    pub follow_links: bool,
    /// Only what matches one of these.
    pub include: Vec<String>,
    /// Not what matches.
    pub exclude: Vec<String>,
    /// Paths that must be there.
    pub required: Vec<String>,
}
