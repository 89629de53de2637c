//! An image into a registry.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future;
use graph::{Events, TaskId};
use layer::{Layer, Place};
use oci::{Descriptor, Digest, Reference, Repository};
use transfer::{LayerFormat, Meter, PushTarget, RegistryUpload, Transfer};

use crate::{Document, Documents, Error};

/// One push.
pub struct PushRequest<'a> {
    /// The documents, pushed unchanged.
    pub documents: &'a Documents,
    /// The format of the layers that the documents name.
    pub layers: LayerFormat,
    /// Under which names; all in one go, each repository once.
    pub names: &'a [Reference],
    /// True if no tag is written.
    pub by_digest: bool,
    /// Accepts plain HTTP and untrusted certificates.
    pub insecure: bool,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// Pushes an image or an index: missing layers, configs, manifests, tags.
///
/// Verifies that the image can be pulled: a tag that has the image already costs one more request
/// for each of its blobs, and a new image one for each layer that is said to be there, all in
/// parallel.
///
/// # Errors
/// If a layer cannot be found, or the registry refuses.
pub async fn push(
    transfer: &Transfer,
    events: &Events,
    request: &PushRequest<'_>,
) -> Result<(), Error> {
    let mut repositories: BTreeMap<&Repository, Vec<&Reference>> = BTreeMap::new();
    for name in request.names {
        repositories.entry(name.repository()).or_default().push(name);
    }
    let pushes = repositories
        .into_iter()
        .map(|(repository, names)| push_to(transfer, events, request, (repository, names)));
    future::try_join_all(pushes).await.map(drop)
}

/// Pushes to the names of one repository. Blobs go there once: registries that get the same blob
/// twice at the same time may take neither for whole.
async fn push_to(
    transfer: &Transfer,
    events: &Events,
    request: &PushRequest<'_>,
    (repository, names): (&Repository, Vec<&Reference>),
) -> Result<(), Error> {
    let client = transfer.client().for_host(repository.host(), request.insecure);
    let digest = request.documents.root.descriptor.digest;
    let names: Vec<Reference> = match request.by_digest {
        true => vec![Reference::new(repository.clone(), None, Some(digest))],
        false => names.into_iter().cloned().collect(),
    };
    let there = future::join_all(names.iter().map(|name| client.resolve(name))).await;
    let lacks = |(_, there): &(&Reference, Result<Descriptor, registry::Error>)| {
        there.as_ref().map_or(true, |there| there.digest != digest)
    };
    let lacking: Vec<Reference> =
        names.iter().zip(there).filter(lacks).map(|(name, _)| name.clone()).collect();
    let images = &request.documents.images;
    let chains: Vec<Vec<Layer>> = images.iter().map(|image| image.layers.clone()).collect();
    let sending = |names| Sending { events, request, client: client.clone(), repository, names };
    if !lacking.is_empty() {
        let sending = sending(&lacking);
        let missing = async || sending.missing(sending.believed(&chains)).await;
        return match sending.send(transfer, &chains, missing).await {
            Err(error) if lacks_something(&error) => {
                sending.send_again(transfer, &chains, error).await
            }
            result => result,
        };
    }
    let sending = sending(&names);
    let (blobs, are_listed) =
        future::join(sending.missing(sending.all()), sending.are_listed()).await;
    let missing = blobs?;
    if missing.is_empty() && are_listed {
        for name in &names {
            let what = format!("{name}@{digest} is there already");
            Meter::start(events, request.task, what, 0).finish();
        }
        return Ok(());
    }
    // Names stand for it already, and what it speaks of is gone.
    sending.send(transfer, &chains, async || Ok(missing)).await
}

/// Layers without what was known of those that a repository has lost.
fn without(
    chains: &[Vec<Layer>],
    repository: &Repository,
    lost: &BTreeSet<Digest>,
) -> Vec<Vec<Layer>> {
    let is_lost =
        |layer: &Layer| layer.blob.as_ref().is_some_and(|blob| lost.contains(&blob.digest));
    let elsewhere = |place: &&Place| on(place) != Some(repository);
    let known = |layer: &Layer| match is_lost(layer) {
        true => Layer {
            places: layer.places.iter().filter(elsewhere).cloned().collect(),
            ..layer.clone()
        },
        false => layer.clone(),
    };
    chains.iter().map(|chain| chain.iter().map(known).collect()).collect()
}

fn on(place: &Place) -> Option<&Repository> {
    match place {
        Place::Registry { repository, .. } => Some(repository),
        Place::Layout(_) | Place::Remote(_) => None,
    }
}

/// True if a registry may have refused a manifest because it lacks a blob.
fn lacks_something(error: &Error) -> bool {
    match error {
        Error::Push { source: registry::Error::Refused { status, .. }, .. } => {
            (400..500).contains(status)
        }
        Error::Push { source, .. } => source.is_not_found(),
        _ => false,
    }
}

/// An image on its way to a repository.
struct Sending<'a> {
    events: &'a Events,
    request: &'a PushRequest<'a>,
    client: registry::Client,
    repository: &'a Repository,
    names: &'a [Reference],
}

impl Sending<'_> {
    /// All blobs that the image speaks of.
    fn all(&self) -> Vec<Digest> {
        let documents = self.request.documents;
        let layers = documents.images.iter().flat_map(|image| &image.descriptors);
        let others = documents.blobs.iter().map(|blob| &blob.descriptor);
        layers.chain(others).map(|blob| blob.digest).collect()
    }

    /// Layers that the repository should have according to a cache or an earlier push.
    fn believed(&self, chains: &[Vec<Layer>]) -> Vec<Digest> {
        let is_there =
            |layer: &&Layer| layer.places.iter().any(|place| on(place) == Some(self.repository));
        let layers = chains.iter().flatten().filter(is_there);
        layers.filter_map(|layer| layer.blob.as_ref()).map(|blob| blob.digest).collect()
    }

    async fn missing(&self, blobs: Vec<Digest>) -> Result<BTreeSet<Digest>, Error> {
        let missing = self.client.missing(self.repository, blobs).await;
        missing.map_err(|source| Error::Push { name: self.repository.to_string(), source })
    }

    /// True if the repository has the manifests that an index lists.
    async fn are_listed(&self) -> bool {
        let asked = self
            .request
            .documents
            .manifests
            .iter()
            .map(|manifest| async { self.client.resolve(&self.child(manifest)).await.is_ok() });
        future::join_all(asked).await.into_iter().all(|is_there| is_there)
    }

    fn child(&self, manifest: &Document) -> Reference {
        Reference::new(self.repository.clone(), None, Some(manifest.descriptor.digest))
    }

    /// After a manifest was refused: asks for all blobs, and sends what is missing. Where that
    /// does not help, the registry's first answer says more.
    async fn send_again(
        &self,
        transfer: &Transfer,
        chains: &[Vec<Layer>],
        refused: Error,
    ) -> Result<(), Error> {
        let missing = match self.missing(self.all()).await {
            Ok(missing) if !missing.is_empty() => missing,
            _ => return Err(refused),
        };
        // Layers sent before are sent again.
        let sent = self.send(&transfer.afresh(), chains, async || Ok(missing)).await;
        sent.map_err(|error| match error.lost_layers().is_empty() {
            true => refused,
            false => error,
        })
    }

    /// Sends layers, configs and statements, then the manifests that an index lists, then the
    /// image or index itself under each name: nothing speaks of what is not there.
    async fn send(
        &self,
        transfer: &Transfer,
        chains: &[Vec<Layer>],
        missing: impl AsyncFnOnce() -> Result<BTreeSet<Digest>, Error>,
    ) -> Result<(), Error> {
        let (request, documents) = (self.request, self.request.documents);
        let target = PushTarget { repository: self.repository.clone(), insecure: request.insecure };
        let uploads = async {
            let chains = without(chains, self.repository, &missing().await?);
            let layers =
                chains.iter().flat_map(|chain| (0..chain.len()).map(move |at| (chain, at)));
            let uploads = layers.map(|(chain, at)| {
                let to = RegistryUpload { target: &target, task: request.task };
                transfer.upload(chain, at, request.layers, to)
            });
            let sent = future::join_all(uploads).await;
            transfer::all(sent).map(drop).map_err(Error::from)
        };
        let blobs = documents.blobs.iter().map(|blob| async {
            let bytes = blob.bytes.clone().into();
            let sent = self.client.push_bytes(self.repository, &blob.descriptor, bytes).await;
            sent.map_err(|source| Error::Push { name: self.repository.to_string(), source })
        });
        future::try_join(uploads, future::try_join_all(blobs)).await?;
        let manifests = documents
            .manifests
            .iter()
            .map(|manifest| async { self.put(&self.child(manifest), manifest).await });
        future::try_join_all(manifests).await?;
        for name in self.names {
            let what = format!("pushing manifest for {name}@{}", documents.root.descriptor.digest);
            let meter = Meter::start(self.events, request.task, what, 0);
            self.put(name, &documents.root).await?;
            meter.finish();
        }
        Ok(())
    }

    async fn put(&self, name: &Reference, document: &Document) -> Result<(), Error> {
        let bytes = document.bytes.clone().into();
        let put = self.client.put_manifest(name, &document.descriptor.media_type, bytes).await;
        put.map(drop).map_err(|source| Error::Push { name: name.to_string(), source })
    }
}
