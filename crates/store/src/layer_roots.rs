//! The roots of unpacked layers, each looked at once: a step on a thousand layers asks few of them for a name.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use oci::{Digest, Hasher};

use crate::disk::{TemporaryFolder, lock};
use crate::{Error, Result};

/// The most names of a root that are remembered.
const MOST_NAMES: usize = 256;
/// The merged folders that are kept for the next steps of their chains.
const MOST_MERGED: usize = 4;

/// The root of an unpacked layer. Its content never changes.
pub(crate) struct LayerRoot {
    path: PathBuf,
    /// Its names; none where there are too many.
    names: Option<HashSet<Box<[u8]>>>,
    hides_all: bool,
}

impl LayerRoot {
    /// Looks at the folder of an unpacked layer; `prefix` is that of overlayfs's attributes, if they can be read.
    pub(crate) fn read(path: PathBuf, prefix: Option<&str>) -> Result<Self> {
        let failed = Error::file("list", &path);
        let entries = std::fs::read_dir(&path)
            .and_then(|entries| entries.take(MOST_NAMES + 1).collect::<Result<Vec<_>, _>>())
            .map_err(failed)?;
        let names = entries.into_iter().map(|entry| entry.file_name().into_vec().into());
        let names = Some(names.collect::<HashSet<_>>()).filter(|names| names.len() <= MOST_NAMES);
        let hides_all = prefix.is_some_and(|prefix| is_opaque(&path, prefix));
        Ok(Self { path, names, hides_all })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// False if the root has no file of this name.
    pub(crate) fn may_have(&self, name: &[u8]) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }

    /// True if the root is marked as opaque: nothing of the layers below is seen.
    pub(crate) fn hides_all(&self) -> bool {
        self.hides_all
    }
}

fn is_opaque(folder: &Path, prefix: &str) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(folder, format!("{prefix}opaque"), &mut value[..]) == Ok(1)
        && value == *b"y"
}

/// The roots that a process has looked at.
#[derive(Default)]
pub(crate) struct LayerRoots(Mutex<HashMap<Digest, Arc<LayerRoot>>>);

impl LayerRoots {
    pub(crate) fn get(&self, diff_id: &Digest) -> Option<Arc<LayerRoot>> {
        lock(&self.0).get(diff_id).cloned()
    }

    pub(crate) fn insert(&self, diff_id: Digest, root: LayerRoot) -> Arc<LayerRoot> {
        lock(&self.0).entry(diff_id).or_insert_with(|| Arc::new(root)).clone()
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// Folders with the files of many layers, which stand for the lowest layers of a long chain.
#[derive(Default)]
pub(crate) struct MergedFolders(Mutex<VecDeque<(Digest, Arc<TemporaryFolder>)>>);

impl MergedFolders {
    /// The folder of some layers, made by `make` if there is none. Others wait meanwhile.
    pub(crate) fn get(
        &self,
        layers: &[Digest],
        make: impl FnOnce() -> Result<TemporaryFolder>,
    ) -> Result<Arc<TemporaryFolder>> {
        let mut hasher = Hasher::new();
        layers.iter().for_each(|diff_id| hasher.update(diff_id.as_bytes()));
        let key = hasher.finish();
        let mut known = lock(&self.0);
        if let Some((_, folder)) = known.iter().find(|(of, _)| *of == key) {
            return Ok(folder.clone());
        }
        let folder = Arc::new(make()?);
        if known.len() >= MOST_MERGED {
            known.pop_front();
        }
        known.push_back((key, folder.clone()));
        Ok(folder)
    }
}
