//! A container's files while it runs: a writable snapshot of its chain.

use std::path::PathBuf;

use layer::Layer;
use oci::Digest;
use runtime::{Overlay, RootSource, Writable};
use store::{FolderSnapshot, MountPoints, Privileges, Store, WritableSnapshot};

/// A writable snapshot: layers to be mounted, or a plain folder. Dropped without a commit, it leaves nothing.
pub(crate) enum WritableRoot {
    Overlay(WritableSnapshot),
    Folder(FolderSnapshot),
}

impl WritableRoot {
    /// Makes one of layers that are unpacked.
    pub(crate) fn of(store: &Store, layers: &[Digest], overlays: bool) -> store::Result<Self> {
        if overlays {
            store.snapshot(layers).map(Self::Overlay)
        } else {
            store.folder_snapshot(layers).map(Self::Folder)
        }
    }

    /// The root for the runtime.
    pub(crate) fn source(&self, store: &Store) -> RootSource {
        match self {
            Self::Overlay(snapshot) => RootSource::Overlay(Overlay {
                lowers: snapshot.lowers.clone(),
                writable: Some(Writable {
                    upper: snapshot.upper.clone(),
                    work: snapshot.work.clone(),
                }),
                userxattr: store.privileges() == Privileges::UserNamespace,
            }),
            Self::Folder(snapshot) => RootSource::Directory(snapshot.root.clone()),
        }
    }

    /// The folder for what is put aside.
    pub(crate) fn aside(&self) -> Option<PathBuf> {
        match self {
            Self::Overlay(_) => None,
            Self::Folder(snapshot) => Some(snapshot.aside.clone()),
        }
    }

    /// Makes a layer of what was changed.
    pub(crate) fn commit(
        self,
        points: &MountPoints,
        created: Option<String>,
    ) -> store::Result<Layer> {
        match self {
            Self::Overlay(snapshot) => snapshot.commit(points, created),
            Self::Folder(snapshot) => snapshot.commit(points, created),
        }
    }
}
