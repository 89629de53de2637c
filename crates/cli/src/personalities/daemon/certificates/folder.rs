//! Files of a folder that several services write: under a lock, and each replaced as a whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::error::CertificateError;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 256 << 10;

/// A folder of certificates.
pub(super) struct CertificateFolder(PathBuf);

/// The lock on a folder. It ends when it is dropped, or with the process.
#[derive(Debug)]
pub(super) struct FolderLock {
    _folder: File,
}

impl CertificateFolder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the folder and waits for its lock.
    pub(super) fn lock(&self) -> Result<FolderLock, CertificateError> {
        let failed = |source| CertificateError::Write { path: self.0.clone(), source };
        fs::create_dir_all(&self.0).map_err(failed)?;
        let folder = File::open(&self.0).map_err(failed)?;
        rustix::fs::flock(&folder, FlockOperation::LockExclusive)
            .map_err(|error| failed(error.into()))?;
        Ok(FolderLock { _folder: folder })
    }

    /// The content of a file; none if it is empty or not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CertificateError> {
        let path = self.path(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
        match read {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CertificateError::Read { path, source }),
        }
    }

    /// Replaces a file.
    pub(super) fn write(&self, name: &str, mode: u32, text: &str) -> Result<(), CertificateError> {
        let path = self.path(name);
        replace(&path, mode, text.as_bytes())
            .map_err(|source| CertificateError::Write { path, source })
    }

    /// Gives a file a mode, unless it has it.
    pub(super) fn set_mode(&self, name: &str, mode: u32) -> Result<(), CertificateError> {
        let path = self.path(name);
        let set = fs::metadata(&path).and_then(|metadata| {
            if metadata.permissions().mode() & 0o7777 == mode {
                return Ok(());
            }
            fs::set_permissions(&path, Permissions::from_mode(mode))
        });
        set.map_err(|source| CertificateError::Write { path, source })
    }
}

fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("pem.new");
    // Left by a process that was killed: the lock keeps others from writing.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
