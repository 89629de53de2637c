//! Changes of files without a command. The fields are those of BuildKit's `FileOp` that are part of
//! its cache key (`solver/llbsolver/ops/file.go`).

/// Actions one after the other; the last one's result is the step's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesOp {
    /// The actions, in order; never empty.
    pub actions: Vec<Action>,
}

/// The tree that an action changes or copies from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ActionInput {
    /// Nothing: an empty tree.
    #[default]
    Scratch,
    /// An input of the step, by its place.
    Input(usize),
    /// The result of an earlier action of the same step, by its place.
    Action(usize),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The tree that is changed.
    pub base: ActionInput,
    /// The change.
    pub kind: ActionKind,
}

/// A change of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Files are copied into it.
    Copy(Box<CopyAction>),
    /// A file is written.
    MakeFile {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// The content.
        data: Vec<u8>,
    },
    /// A folder is made.
    MakeDir {
        /// Absolute path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Makes missing parents, and accepts an existing folder.
        make_parents: bool,
        /// The owner.
        owner: Option<Owner>,
        /// Its time in nanoseconds since 1970, where it is set (`SOURCE_DATE_EPOCH`).
        timestamp: Option<i64>,
    },
}

/// Files copied from one tree into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyAction {
    /// The tree that is read.
    pub from: ActionInput,
    /// Absolute path in it, perhaps with wildcards.
    pub source: String,
    /// Absolute path of the destination; a final `/` or `/.` says that it is a folder.
    pub destination: String,
    /// The copies' owner; otherwise the source's.
    pub owner: Option<Owner>,
    /// Permission bits of the copies; otherwise as in the source.
    pub mode: Option<ChmodMode>,
    /// True if a source that is a link stands for its target.
    pub follow_symlinks: bool,
    /// Copies only the contents of a source folder.
    pub copy_dir_contents: bool,
    /// Extracts archives.
    pub unpack: bool,
    /// Makes missing parents of the destination.
    pub create_destination: bool,
    /// True if `source` may have wildcards.
    pub wildcard: bool,
    /// True if a wildcard may match nothing.
    pub empty_wildcard: bool,
    /// Only what matches one of these (`--parents`).
    pub include: Vec<String>,
    /// Not what matches (`--exclude`).
    pub exclude: Vec<String>,
    /// Replaces existing files of another type (`--link`).
    pub replace_existing: bool,
    /// Paths that must be there (`--parents`).
    pub required: Vec<String>,
}

/// Permission bits for copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChmodMode {
    /// A number.
    Octal(u32),
    /// The notation of chmod(1) (`u=rwX,go=rX`).
    Symbolic(String),
}

/// A user and a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Option<OwnerName>,
    /// The group; where it is not given, the one of the user's number or entry.
    pub group: Option<OwnerName>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerName {
    /// By number.
    Id(u32),
    /// By name, looked up in `/etc/passwd` or `/etc/group` of a tree.
    Name {
        /// The name.
        name: String,
        /// The tree whose files are asked.
        input: ActionInput,
    },
}
