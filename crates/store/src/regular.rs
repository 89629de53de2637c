//! Files that others put at a path, which may be something else than regular files.

use std::fs::{File, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a file for reading. A pipe, a socket or a device is refused at once, because reading one
/// can block forever. (A folder opens, and cannot be read.)
///
/// # Errors
/// If it is one of these, does not exist, or may not be read.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Checked before it is opened, because opening a device can have effects.
    refuse(path.metadata()?.file_type())?;
    // NONBLOCK, because a pipe may have taken its place.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    refuse(file.metadata()?.file_type())?;
    Ok(file)
}

fn refuse(found: FileType) -> io::Result<()> {
    let kind = if found.is_fifo() {
        "a pipe"
    } else if found.is_socket() {
        "a socket"
    } else if found.is_char_device() || found.is_block_device() {
        "a device"
    } else {
        return Ok(());
    };
    Err(io::Error::other(format!("it is {kind} and no regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "x").unwrap();
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), mode).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (name, target) in [("link", "file"), ("to-pipe", "pipe"), ("to-device", "/dev/zero")] {
            std::os::unix::fs::symlink(target, path(name)).unwrap();
        }
        for name in ["file", "link"] {
            assert!(open_regular(&path(name)).is_ok(), "{name}");
        }
        for (name, kind) in [
            ("pipe", "a pipe"),
            ("to-pipe", "a pipe"),
            ("socket", "a socket"),
            ("to-device", "a device"),
        ] {
            let error = open_regular(&path(name)).unwrap_err().to_string();
            assert_eq!(error, format!("it is {kind} and no regular file"), "{name}");
        }
        let missing = open_regular(&path("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
