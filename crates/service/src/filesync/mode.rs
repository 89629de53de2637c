//! Go's `fs.FileMode`, which is the mode of an entry on the wire.

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const NAMED_PIPE: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHAR_DEVICE: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const IRREGULAR: u32 = 1 << 19;
/// Go's `ModeType`.
const TYPE: u32 = DIRECTORY | SYMLINK | DEVICE | NAMED_PIPE | SOCKET | CHAR_DEVICE | IRREGULAR;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryType {
    File,
    Directory,
    Symlink,
    NamedPipe,
    Socket,
    /// A device, or what Go has no name for.
    Other,
}

/// The type in a mode.
pub(super) fn entry_type(mode: u32) -> EntryType {
    match mode & TYPE {
        0 => EntryType::File,
        DIRECTORY => EntryType::Directory,
        SYMLINK => EntryType::Symlink,
        NAMED_PIPE => EntryType::NamedPipe,
        SOCKET => EntryType::Socket,
        _ => EntryType::Other,
    }
}

/// The permission bits of a mode, as `chmod` takes them.
pub(super) fn permissions(mode: u32) -> u32 {
    let bit = |go: u32, unix: u32| if mode & go != 0 { unix } else { 0 };
    mode & 0o777 | bit(SETUID, 0o4000) | bit(SETGID, 0o2000) | bit(STICKY, 0o1000)
}

/// Go's mode of a file with this `st_mode`; none for what no receiver can make.
pub(crate) fn of_unix(st_mode: u32) -> Option<u32> {
    let bit = |unix: u32, go: u32| if st_mode & unix != 0 { go } else { 0 };
    let kind = match rustix::fs::FileType::from_raw_mode(st_mode) {
        rustix::fs::FileType::RegularFile => 0,
        rustix::fs::FileType::Directory => DIRECTORY,
        rustix::fs::FileType::Symlink => SYMLINK,
        rustix::fs::FileType::Fifo => NAMED_PIPE,
        rustix::fs::FileType::CharacterDevice => DEVICE | CHAR_DEVICE,
        rustix::fs::FileType::BlockDevice => DEVICE,
        _ => return None,
    };
    Some(kind | st_mode & 0o777 | bit(0o4000, SETUID) | bit(0o2000, SETGID) | bit(0o1000, STICKY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_go_there_and_back() {
        for (unix, kind) in [
            (0o100_644, EntryType::File),
            (0o104_755, EntryType::File),
            (0o041_777, EntryType::Directory),
            (0o120_777, EntryType::Symlink),
            (0o010_600, EntryType::NamedPipe),
            (0o020_600, EntryType::Other),
        ] {
            let mode = of_unix(unix).unwrap();
            assert_eq!((entry_type(mode), permissions(mode)), (kind, unix & 0o7777), "{unix:o}");
        }
        assert_eq!(of_unix(0o140_600), None);
    }
}
