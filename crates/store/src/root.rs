//! The root folder of a store before it is opened: its layout, and the privileges that it is for.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::disk::{make_folder, remove_tree};
use crate::{Error, Privileges, Result};

impl Privileges {
    /// Returns the privileges that a root was made for, if it exists.
    pub fn of_root(root: &Path) -> Option<Self> {
        let name = fs::read_to_string(root.join("v1/kind")).ok()?;
        let all = [Self::Root, Self::UserNamespace, Self::Chroot, Self::None];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// True if overlay's marks can be made in a folder, which is made if it is missing. They cannot
    /// be made on an overlay itself, such as a container's own disk.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn can_mark(self, root: &Path) -> Result<bool> {
        let Some(prefix) = self.overlay_prefix() else { return Ok(false) };
        fs::create_dir_all(root).map_err(Error::file("make folder", root))?;
        // One name for all processes, used in turn: the next one removes the files of a killed one.
        let turn = File::open(root).map_err(Error::file("open", root))?;
        flock(&turn, FlockOperation::LockExclusive).map_err(Error::file("lock", root))?;
        let folder = root.join(".marks");
        if folder.symlink_metadata().is_ok() {
            remove_tree(&folder).map_err(Error::file("remove", &folder))?;
        }
        make_folder(&folder, 0o700)?;
        let whiteout = folder.join("whiteout");
        let kind = rustix::fs::FileType::CharacterDevice;
        let made =
            rustix::fs::mknodat(rustix::fs::CWD, &whiteout, kind, rustix::fs::Mode::empty(), 0)
                .and_then(|()| {
                    let name = format!("{prefix}opaque");
                    rustix::fs::setxattr(&folder, name, b"y", rustix::fs::XattrFlags::empty())
                });
        remove_tree(&folder).map_err(Error::file("remove", &folder))?;
        Ok(made.is_ok())
    }
}

/// Makes the folders, and checks the privileges that the store was made for.
pub(crate) fn prepare(root: &Path, base: &Path, privileges: Privileges) -> Result<()> {
    let marker = base.join("kind");
    let asked = privileges.name();
    let check = |made_for: String| {
        if made_for == asked {
            return Ok(());
        }
        Err(Error::RootKind { root: root.into(), made_for, asked })
    };
    if let Ok(made_for) = fs::read_to_string(&marker) {
        return check(made_for);
    }
    fs::create_dir_all(root).map_err(Error::file("make folder", root))?;
    // Layers have setuid programs of all kinds of images, which other users of the machine must not
    // reach.
    make_folder(base, 0o700)?;
    for folder in ["blobs", "blobs/sha256", "layers", "tmp", "run"] {
        make_folder(&base.join(folder), 0o700)?;
    }
    // A link is made whole or not at all, and by one process only. The part is not in `tmp`, which
    // another process that is a step ahead may be sweeping.
    let thread = std::thread::current().id();
    let part = base.join(format!(".kind-{}-{thread:?}", std::process::id()));
    fs::write(&part, asked).map_err(Error::file("write", &part))?;
    let linked = fs::hard_link(&part, &marker);
    let _ = fs::remove_file(&part);
    match linked {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check(fs::read_to_string(&marker).map_err(Error::file("read", &marker))?)
        }
        Err(error) => Err(Error::file("write", &marker)(error)),
    }
}
