//! The header of one file in a layer: everything that an archive says of it except its content.

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
