//! The header of one file in a layer: everything that an archive says of it except its content.

use std::cmp::Ordering;

/// The attribute with a program's capabilities, the only one that layers of images keep.
pub const CAPABILITY: &[u8] = b"security.capability";

/// Linux's limit for a path in one call; also a limit for the depth of a tree.
pub(crate) const MAX_PATH: usize = 4096;

/// One entry of a layer. In an index and in a written layer, entries are in the byte order of their
/// paths' components, each directory before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path from the root, without leading or trailing `/`; empty for the root itself. Has no
    /// empty, `.` or `..` component.
    pub path: Box<[u8]>,
    /// The kind of file.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of its content.
    pub mtime: Time,
    /// Extended attributes, sorted by name; names include the namespace (`security.capability`).
    pub xattrs: Vec<Xattr>,
}

impl Entry {
    /// An entry of root's at time 0, without attributes.
    pub fn new(path: impl Into<Box<[u8]>>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        }
    }

    /// The removal of a file of lower layers.
    pub fn whiteout(path: impl Into<Box<[u8]>>) -> Self {
        Self::new(path, EntryKind::Whiteout, 0)
    }
}

/// An extended attribute: its full name and its value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// The kind of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
    },
    /// Another name of a file of the same layer, or (rarely) of a lower one.
    HardLink {
        /// Path of the other name, in the form of `Entry::path`.
        target: Box<[u8]>,
    },
    /// A symbolic link.
    Symlink {
        /// The target as written, not resolved.
        target: Box<[u8]>,
    },
    /// A directory.
    Directory,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A whiteout: lower layers' file of this path is removed (`.wh.NAME` in an archive).
    Whiteout,
    /// An opaque mark: lower layers' content of this directory is removed (`.wh..wh..opq` in an
    /// archive). Comes right after the directory's own entry, with the same path.
    Opaque,
}

/// A time since 1970, in seconds and nanoseconds; before 1970 the seconds are negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds, less than 10^9.
    pub nanos: u32,
}

/// Orders paths by their components: a directory, then its content, then its next sibling.
#[inline]
pub fn compare_paths(left: &[u8], right: &[u8]) -> Ordering {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    // No name has a zero byte, so zero can stand for the separator.
    let rank = |path: &[u8]| path.get(common).map(|byte| if *byte == b'/' { 0 } else { *byte });
    rank(left).cmp(&rank(right))
}

/// True if a path has the form of [`Entry::path`].
pub fn is_entry_path(path: &[u8]) -> bool {
    path.is_empty()
        || path.len() <= MAX_PATH
            && !path.contains(&0)
            && path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}
