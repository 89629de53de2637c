//! Files without a name, for temporary content.

use std::fs::File;
use std::io;

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::disk::TemporaryFolder;
use crate::{Result, Store};

/// A folder that only its owner can access, removed with its content on drop.
pub struct ScratchFolder(TemporaryFolder);

impl ScratchFolder {
    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Store {
    /// Makes an empty file that is gone when it is closed. It is on the store's disk, because
    /// memory is for small contents.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn spool_file(&self) -> io::Result<File> {
        let folder = &self.inner.run.tmp;
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(folder, flags, mode) {
            return Ok(file.into());
        }
        // Some network file systems do not support files without a name.
        let path = self.temporary("spool");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    /// Makes an empty folder on the store's disk, for temporary files.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn scratch_folder(&self) -> Result<ScratchFolder> {
        self.temporary_folder("scratch").map(ScratchFolder)
    }
}
