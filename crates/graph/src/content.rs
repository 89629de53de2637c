//! The part of a tree that a content digest covers.

/// Paths of a tree whose content is asked for together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentQuery {
    /// The paths, deduplicated and sorted as in BuildKit (`solver/llbsolver/ops/exec.go`,
    /// `file.go`); empty stands for the whole tree.
    pub paths: Vec<ContentPath>,
}

/// One path whose content is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentPath {
    /// Absolute path, perhaps with wildcards.
    pub path: String,
    /// True if wildcards are expanded.
    pub wildcard: bool,
    /// True if a link stands for its target.
    pub follow_links: bool,
    /// Only what matches one of these.
    pub include: Vec<String>,
    /// Not what matches.
    pub exclude: Vec<String>,
    /// Paths that must be there.
    pub required: Vec<String>,
}
