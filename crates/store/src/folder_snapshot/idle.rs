//! Folders that show a chain and that no step uses now, kept for the steps above it.

use std::sync::Mutex;

use oci::Digest;

use super::stats::Folder;
use crate::disk::{TemporaryFolder, lock};

/// The number of folders that wait for another step; beyond it, the one that has waited longest is
/// removed.
const MOST_IDLE: usize = 8;

/// A folder that shows a chain, between two steps.
pub(super) struct IdleFolder {
    pub(super) layers: Vec<Digest>,
    pub(super) stats: Folder,
    pub(super) folder: TemporaryFolder,
}

/// The idle folders of a store, the one that has waited longest first.
#[derive(Default)]
pub(crate) struct IdleFolders(Mutex<Vec<IdleFolder>>);

impl IdleFolders {
    /// Takes the folder that shows the longest lower part of a chain, and nothing else.
    pub(super) fn take(&self, layers: &[Digest]) -> Option<IdleFolder> {
        let mut idle = lock(&self.0);
        let fitting = idle.iter().enumerate().filter(|(_, idle)| layers.starts_with(&idle.layers));
        let (best, _) = fitting.max_by_key(|(_, idle)| idle.layers.len())?;
        Some(idle.remove(best))
    }

    /// Keeps a folder for another step.
    pub(super) fn put(&self, folder: IdleFolder) {
        let mut idle = lock(&self.0);
        let oldest = (idle.len() >= MOST_IDLE).then(|| idle.remove(0));
        idle.push(folder);
        // Removing its files takes a while: others need not wait for it.
        drop(idle);
        drop(oldest);
    }
}
