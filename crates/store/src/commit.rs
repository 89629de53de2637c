//! Makes a layer of what a command has changed: reads the overlay's upper directory, never the
//! whole tree (see [`Changes`] for what counts as changed).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};

use crate::tar::TarWriter;
use crate::upper::{Changes, is_below};
use crate::{EntryKind, Error, Layer, LayerIndex, Result, Store};

/// What a container's mounts stood on in its root.
#[derive(Clone, Debug, Default)]
pub struct MountPoints {
    /// Made for it and gone with it: empty files and empty directories at these paths (as
    /// [`Entry::path`](crate::Entry::path)) are removed.
    pub passing: Vec<Box<[u8]>>,
    /// Names in the root that a container leaves as empty directories where nothing is.
    pub lasting: Vec<&'static str>,
}

impl Store {
    /// Makes a layer of an overlay's upper directory and keeps it unpacked: the directory is moved
    /// into the store. An upper directory without a change makes an empty layer. Nothing is
    /// compressed or written but the index.
    ///
    /// `parents` are the layers that were below, from the bottom up. Nobody may have the overlay
    /// mounted any more.
    ///
    /// # Errors
    /// Where the upper directory has redirects or metadata-only copies, or a parent is not
    /// unpacked.
    pub fn commit_upper(
        &self,
        upper: &Path,
        parents: &[Digest],
        points: &MountPoints,
        created: Option<String>,
    ) -> Result<Layer> {
        let mut lowers = Vec::with_capacity(parents.len());
        for parent in parents.iter().rev() {
            if !self.is_unpacked(parent)? {
                return Err(Error::NoLayer(*parent));
            }
            lowers.push(self.layer_folder(parent));
        }
        points.remove_passing(upper)?;
        points.make_lasting(upper, &lowers)?;
        let changes = Changes::find(upper, &lowers)?;

        let mut archive = TarWriter::new(Hasher::new());
        let mut size = 0;
        for entry in &changes.entries {
            if let EntryKind::File { size: file } = entry.kind {
                size += file;
                let path = upper.join(OsStr::from_bytes(&entry.path));
                let mut content = File::open(&path).map_err(Error::file("open", &path))?;
                archive.append(entry, &mut content)?;
            } else {
                archive.append(entry, &mut io::empty())?;
            }
        }
        let diff_id = archive.finish()?.finish();
        if self.is_unpacked(&diff_id)? {
            self.discard(upper)?;
        } else {
            changes.tidy(upper, self.inner.options)?;
            self.note_plain_names(&diff_id, &changes.entries)?;
            self.put_index(&diff_id, &LayerIndex::from_entries(changes.entries))?;
            if !self.install(upper, &diff_id, size)? {
                self.discard(upper)?;
            }
        }
        Ok(Layer { diff_id, blob: None, created, places: Vec::new() })
    }
}

impl MountPoints {
    /// Removes what was made for mounts. The times of the directories around stay.
    pub(crate) fn remove_passing(&self, upper: &Path) -> Result<()> {
        let is_passing = |path: &&[u8]| !self.lasting.iter().any(|name| name.as_bytes() == *path);
        let mut paths: Vec<&[u8]> =
            self.passing.iter().map(|path| &**path).filter(is_passing).collect();
        // What is deeper comes first.
        paths.sort_by_key(|path| {
            std::cmp::Reverse(path.iter().filter(|byte| **byte == b'/').count())
        });
        for path in paths {
            if !crate::is_entry_path(path) || path.is_empty() || has_link_before(upper, path) {
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
    pub(crate) fn make_lasting(&self, upper: &Path, lowers: &[PathBuf]) -> Result<()> {
        for name in &self.lasting {
            let path = upper.join(name);
            if fs::symlink_metadata(&path).is_err() && !is_below(name.as_bytes(), lowers)? {
                fs::create_dir(&path).map_err(Error::file("make folder", &path))?;
                // The umask must not show.
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
