//! Where a cache can be: one file for each kind of place.
//!
//! A place is read whole ([`Place::read`]), and written in three moves so that whoever exports can
//! merge in between: [`Place::documents`] says what would be written (and by its digest whether
//! anything is new), [`Place::send_layer`] brings the bytes of one layer, [`Place::put`] makes the
//! new cache the one that is found.

mod bucket;
mod contents;
mod folder;
mod github;
mod inline;
mod map;
mod registry;
mod secret;
mod wire;

pub(crate) use contents::{Contents, Documents};

pub use bucket::{BucketPlace, BucketSettings, Service};
pub use contents::Form;
pub use folder::FolderPlace;
pub use github::{GITHUB_TOKEN, GithubPlace, GithubSettings, GithubVersion};
pub use inline::{INLINE_FIELD, inline_cache};
#[cfg(fuzzing)]
pub use map::read_hostile_map;
pub use map::{HTTP_HEADER, MapPlace, MapSettings, MapStore, REDIS_PASSWORD};
pub use registry::RegistryPlace;
pub use secret::Credentials;

use std::collections::BTreeSet;

use graph::TaskId;
use oci::Digest;
use store::Layer;
use transfer::{LayerFormat, Transfer};

use crate::beside::Named;
use crate::{Beside, Error, Imported, RecordSet};

/// A place that a cache is read from or written to.
#[derive(Clone, Debug)]
pub enum Place {
    /// A reference of a registry: a cache, or (only to be read) an image with an inline one.
    Registry(RegistryPlace),
    /// A tag in a folder in the OCI layout.
    Folder(FolderPlace),
    /// A name in an object store.
    Bucket(BucketPlace),
    /// A scope in GitHub's cache service.
    Github(GithubPlace),
    /// A map in a key-value store, with layers in a registry.
    Map(MapPlace),
}

/// How a place is reached that is neither a registry nor a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceSettings {
    /// A name in an object store.
    Bucket(BucketSettings),
    /// A scope in GitHub's cache service.
    Github(GithubSettings),
    /// A map in a key-value store, with layers in a registry.
    Map(MapSettings),
}

/// A place that nobody else writes to until this goes.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "it is held")] Option<std::fs::File>);

/// A cache as a place holds it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// What it says.
    pub contents: Contents,
    /// Digest of the document that holds it together.
    pub digest: Digest,
    /// That document.
    pub bytes: Vec<u8>,
}

impl Place {
    /// A place that is neither a registry nor a folder. Nothing is asked yet.
    ///
    /// # Errors
    /// If the settings contradict themselves.
    pub fn open(settings: &PlaceSettings, client: &::registry::Client) -> Result<Self, Error> {
        match settings {
            PlaceSettings::Bucket(settings) => {
                BucketPlace::new(settings.clone(), client).map(Self::Bucket)
            }
            PlaceSettings::Github(settings) => {
                GithubPlace::new(settings.clone(), client).map(Self::Github)
            }
            PlaceSettings::Map(settings) => Ok(Self::Map(MapPlace::new(settings.clone(), client))),
        }
    }

    /// What writing to it is called, in BuildKit's words.
    pub fn export_name(&self) -> &'static str {
        match self {
            Self::Registry(_) => "exporting cache to registry",
            Self::Folder(_) => "exporting cache to client directory",
            Self::Bucket(place) => place.export_name(),
            Self::Github(_) => "exporting to GitHub Actions Cache",
            Self::Map(_) => "exporting cache to key-value store",
        }
    }

    /// Whether rules of the place may remove what nobody wrote for long: then an export that has
    /// nothing new to say still says it.
    pub(crate) fn forgets(&self) -> bool {
        match self {
            Self::Registry(_) | Self::Folder(_) => false,
            Self::Bucket(_) | Self::Github(_) | Self::Map(_) => true,
        }
    }

    /// How people call it.
    pub fn name(&self) -> String {
        match self {
            Self::Registry(place) => place.reference.to_string(),
            Self::Folder(place) => place.folder.display().to_string(),
            Self::Bucket(place) => place.name().to_owned(),
            Self::Github(place) => place.name().to_owned(),
            Self::Map(place) => place.name(),
        }
    }

    /// By what it is told from all others.
    pub fn identity(&self) -> String {
        match self {
            Self::Folder(place) => format!("{}:{}", place.folder.display(), place.tag),
            place => place.name(),
        }
    }

    /// Where its layers are, where that has to be made known to [`Transfer::with_remotes`].
    pub fn remote(&self) -> Option<std::sync::Arc<dyn transfer::Remote>> {
        match self {
            Self::Registry(_) | Self::Folder(_) | Self::Map(_) => None,
            Self::Bucket(place) => Some(place.remote()),
            Self::Github(place) => Some(place.remote()),
        }
    }

    /// What kiln leaves beside it, of which the cache names this; none where it leaves nothing.
    pub fn beside(&self, client: &::registry::Client, named: Named) -> Option<Beside> {
        match self {
            Self::Registry(place) => {
                Beside::of_registry(client, (&place.reference, place.insecure), named)
            }
            Self::Folder(place) => Some(Beside::of_folder(&place.folder, &place.tag, named)),
            Self::Bucket(_) | Self::Github(_) | Self::Map(_) => None,
        }
    }

    /// Reads the cache that the place holds now, and no layer.
    ///
    /// # Errors
    /// If there is none ([`Error::is_absent`]), or it cannot be read.
    pub(crate) async fn read(&self, client: &::registry::Client) -> Result<Stored, Error> {
        match self {
            Self::Registry(place) => place.read(client).await,
            Self::Folder(place) => place.read().await,
            Self::Bucket(place) => place.read().await,
            Self::Github(place) => place.read().await,
            Self::Map(place) => place.read().await,
        }
    }

    /// Reads the records of the cache that the place holds now, and no layer.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub async fn import(&self, client: &::registry::Client) -> Result<Imported, Error> {
        let Stored { contents, digest, bytes } = self.read(client).await?;
        let records = RecordSet::new(&self.name(), &contents.config, &contents.layers)?;
        Ok(Imported { records: records.into(), manifest: digest, bytes })
    }

    /// What would be written, byte for byte.
    ///
    /// # Errors
    /// If the config names a layer that nothing is known of.
    pub(crate) fn documents(&self, contents: &Contents, form: Form) -> Result<Documents, Error> {
        match self {
            Self::Registry(_) | Self::Folder(_) => Documents::with_manifest(contents, form),
            Self::Bucket(place) => place.documents(contents),
            Self::Github(place) => place.documents(contents),
            Self::Map(place) => Ok(place.documents(contents)),
        }
    }

    /// Makes sure that [`Place::put`] finds the highest of these layers. What the place has
    /// already is not sent.
    ///
    /// # Errors
    /// If the layer is nowhere, or the place does not take it.
    pub(crate) async fn send_layer(
        &self,
        transfer: &Transfer,
        layers: &[Layer],
        format: LayerFormat,
        task: Option<TaskId>,
    ) -> Result<(), transfer::Error> {
        let Some(top) = layers.len().checked_sub(1) else { return Ok(()) };
        match self {
            Self::Registry(place) => {
                let to = transfer::Upload { target: &place.target(), task };
                transfer.upload(layers, top, format, to).await.map(drop)?;
            }
            Self::Map(place) => {
                let to = transfer::Upload { target: &place.target(), task };
                transfer.upload(layers, top, format, to).await.map(drop)?;
            }
            Self::Bucket(_) | Self::Github(_) => {
                let remote = self.remote();
                if let Some(remote) = &remote {
                    let to = transfer::RemoteUpload { remote: &**remote, task };
                    transfer.upload_to(layers, top, format, to).await.map(drop)?;
                }
            }
            // `put` copies it from the store.
            Self::Folder(_) => transfer.blob(layers, top, format, task).await.map(drop)?,
        }
        Ok(())
    }

    /// Where its layers are, as layers call it; none where layers call it by a name of its own.
    pub(crate) fn blobs(&self) -> Option<store::Place> {
        let target = match self {
            Self::Registry(place) => place.target(),
            Self::Map(place) => place.target(),
            Self::Folder(place) => return Some(store::Place::Layout(place.folder.clone())),
            Self::Bucket(_) | Self::Github(_) => return None,
        };
        let transfer::Target { repository, insecure } = target;
        Some(store::Place::Registry { repository, insecure })
    }

    /// Layers of a cache, by the digests of their blobs, that the place turns out to have lost,
    /// where it refuses a cache for that.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub(crate) async fn missing(
        &self,
        client: &::registry::Client,
        contents: &Contents,
    ) -> Result<BTreeSet<Digest>, Error> {
        match self {
            Self::Registry(place) => {
                let repository = place.reference.repository();
                let client = client.for_host(repository.host(), place.insecure);
                let blobs = contents.config.layers.iter().map(|layer| layer.blob);
                Ok(client.missing(repository, blobs).await?)
            }
            Self::Folder(_) | Self::Bucket(_) | Self::Github(_) | Self::Map(_) => {
                Ok(BTreeSet::new())
            }
        }
    }

    /// Digest of the document that holds together what the place has now; none if there is nothing.
    ///
    /// # Errors
    /// If there is no telling.
    pub(crate) async fn digest(
        &self,
        client: &::registry::Client,
    ) -> Result<Option<Digest>, Error> {
        let digest = match self {
            Self::Registry(place) => place.digest(client).await,
            Self::Folder(_) | Self::Bucket(_) | Self::Github(_) | Self::Map(_) => {
                self.read(client).await.map(|stored| stored.digest)
            }
        };
        match digest {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps other writers away until the guard goes, where a place can do that.
    pub(crate) async fn hold(&self) -> Option<Held> {
        match self {
            Self::Registry(_) | Self::Bucket(_) | Self::Github(_) => None,
            // Nobody overwrites what another wrote: there is nothing to hold.
            Self::Map(_) => Some(Held(None)),
            Self::Folder(place) => place.hold().await,
        }
    }

    /// Removes blobs that nothing in the place names, where kiln is the one to do that. Only while
    /// the place is held.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        match self {
            Self::Registry(_) | Self::Bucket(_) | Self::Github(_) | Self::Map(_) => Ok(()),
            Self::Folder(place) => place.sweep().await,
        }
    }

    /// Removes what nothing in the place names any more; where kiln is not the one to do that,
    /// nothing.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub async fn tidy(&self) -> Result<(), Error> {
        match self.hold().await {
            Some(_held) => self.sweep().await,
            None => Ok(()),
        }
    }

    /// Does what takes time of [`Place::put`]: the less passes between looking and writing, the
    /// less can come between.
    ///
    /// # Errors
    /// If the place does not take it.
    pub(crate) async fn prepare(
        &self,
        transfer: &Transfer,
        documents: &Documents,
    ) -> Result<(), Error> {
        match self {
            Self::Registry(place) => place.put_config(transfer.client(), documents).await,
            Self::Folder(_) | Self::Bucket(_) | Self::Github(_) | Self::Map(_) => Ok(()),
        }
    }

    /// Makes a cache whose layers were sent, or were there, the one that is found.
    ///
    /// # Errors
    /// If the place does not take it.
    pub(crate) async fn put(
        &self,
        transfer: &Transfer,
        contents: &Contents,
        documents: &Documents,
    ) -> Result<(), Error> {
        match self {
            Self::Registry(place) => place.put(transfer.client(), documents).await,
            Self::Folder(place) => place.put(transfer.store(), contents, documents).await,
            Self::Bucket(place) => place.put(documents).await,
            Self::Github(place) => place.put(documents).await,
            Self::Map(place) => place.put(contents).await,
        }
    }
}
