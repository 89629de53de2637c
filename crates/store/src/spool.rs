//! Files without a name, for what does not stay.

use std::fs::File;
use std::io;

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::store::TemporaryFolder;
use crate::{Result, Store};

/// A folder of its owner alone, removed with all that is in it when it is dropped.
pub struct ScratchFolder(TemporaryFolder);

impl ScratchFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Store {
    /// An empty file that is gone when it is closed. It is on the store's disk: memory is for
    /// what is small.
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
        // Some network file systems have no files without a name.
        let path = self.temporary("spool");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    /// An empty folder on the store's disk, for what does not stay.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn scratch_folder(&self) -> Result<ScratchFolder> {
        self.temporary_folder("scratch").map(ScratchFolder)
    }
}
