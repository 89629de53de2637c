//! The mount points of a command, which are no change of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::layer_roots::LayerRoot;
use crate::upper::is_below;
use crate::{Error, Result};

/// The paths in a container's root that its mounts were placed on.
#[derive(Clone, Debug, Default)]
pub struct MountPoints {
    /// Paths that were made for mounts and are removed with them, if they are empty files or empty
    /// directories (in the form of [`Entry::path`](layer::Entry::path)).
    pub passing: Vec<Box<[u8]>>,
    /// Names in the root that a container leaves as empty directories, if nothing is there.
    pub lasting: Vec<&'static str>,
}

impl MountPoints {
    /// Removes the files and directories that were made for mounts. The times of their parents
    /// stay.
    pub(crate) fn remove_passing(&self, upper: &Path) -> Result<()> {
        let is_passing = |path: &&[u8]| !self.lasting.iter().any(|name| name.as_bytes() == *path);
        let mut paths: Vec<&[u8]> =
            self.passing.iter().map(|path| &**path).filter(is_passing).collect();
        // The deepest paths come first.
        paths.sort_by_key(|path| {
            std::cmp::Reverse(path.iter().filter(|byte| **byte == b'/').count())
        });
        for path in paths {
            if !layer::is_entry_path(path) || path.is_empty() || has_link_before(upper, path) {
                continue;
            }
            let path = upper.join(OsStr::from_bytes(path));
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let parent = path.parent().unwrap_or(upper);
            let times = fs::metadata(parent).ok();
            let removed = if metadata.is_dir() {
                fs::remove_dir(&path).is_ok()
            } else {
                metadata.is_file() && metadata.len() == 0 && fs::remove_file(&path).is_ok()
            };
            if let (true, Some(times)) = (removed, times) {
                let times = fs::FileTimes::new()
                    .set_accessed(times.accessed().map_err(Error::file("look at", parent))?)
                    .set_modified(times.modified().map_err(Error::file("look at", parent))?);
                File::open(parent)
                    .and_then(|folder| folder.set_times(times))
                    .map_err(Error::file("set time of", parent))?;
            }
        }
        Ok(())
    }

    /// Makes the lasting ones that neither the upper directory nor the layers below have.
    pub(crate) fn make_lasting(&self, upper: &Path, lowers: &[Arc<LayerRoot>]) -> Result<()> {
        for name in &self.lasting {
            let path = upper.join(name);
            if fs::symlink_metadata(&path).is_err() && !is_below(name.as_bytes(), lowers)? {
                fs::create_dir(&path).map_err(Error::file("make folder", &path))?;
                // The mode must not depend on the umask.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                    .map_err(Error::file("set mode of", &path))?;
            }
        }
        Ok(())
    }
}

fn has_link_before(upper: &Path, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.into_iter().any(|end| upper.join(OsStr::from_bytes(&path[..end])).is_symlink())
}
