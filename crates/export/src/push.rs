//! An image into a registry.

use std::collections::BTreeMap;

use futures_util::{TryFutureExt as _, future};
use graph::{Events, TaskId};
use oci::{Descriptor, Reference, Repository};
use store::{Layer, Place};
use transfer::{LayerFormat, Meter, Target, Transfer, Upload};

use crate::{Document, Documents, Error};

/// One push.
pub struct PushRequest<'a> {
    /// What is pushed, exactly as it is.
    pub documents: &'a Documents,
    /// The format of the layers that the documents name.
    pub layers: LayerFormat,
    /// Under which names; all in one go, each repository once.
    pub names: &'a [Reference],
    /// Whether the names' tags are left alone.
    pub by_digest: bool,
    /// Whether plain HTTP or a certificate that nobody vouches for is accepted.
    pub insecure: bool,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// Pushes an image or an index: layers that the registry lacks, configs, manifests, tags. A tag
/// that has it already costs one question.
///
/// # Errors
/// If a layer is nowhere, or the registry refuses.
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
    let lacks = |(_, there): &(Reference, Result<Descriptor, registry::Error>)| {
        there.as_ref().map_or(true, |there| there.digest != digest)
    };
    let names: Vec<Reference> =
        names.into_iter().zip(there).filter(lacks).map(|(name, _)| name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let sending = Sending { events, request, client, repository, names: &names };
    let images = &request.documents.images;
    let chains: Vec<Vec<Layer>> = images.iter().map(|image| image.layers.clone()).collect();
    let error = match sending.send(transfer, &chains).await {
        Err(error @ Error::Push { .. }) => error,
        result => return result,
    };
    // Layers that the repository once had are not sent again; it may have lost them since.
    let doubt = |chain: &Vec<Layer>| chain.iter().map(|layer| without(layer, repository)).collect();
    let doubted: Vec<Vec<Layer>> = chains.iter().map(doubt).collect();
    if !lacks_something(&error) || doubted == chains {
        return Err(error);
    }
    let afresh = Transfer::new(transfer.store().clone(), transfer.client().clone(), events.clone());
    // Where that does not help, the registry's first answer says more.
    sending.send(&afresh, &doubted).await.map_err(|_| error)
}

/// A layer of which it is not known that a repository has it.
fn without(layer: &Layer, repository: &Repository) -> Layer {
    let elsewhere = |place: &&Place| !matches!(place, Place::Registry { repository: known, .. } if known == repository);
    Layer { places: layer.places.iter().filter(elsewhere).cloned().collect(), ..layer.clone() }
}

/// Whether a registry may have refused a manifest because a blob of it is not there.
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
    /// Sends layers, configs and statements, then the manifests that an index lists, then the
    /// image or index itself under each name: nothing speaks of what is not there.
    async fn send(&self, transfer: &Transfer, chains: &[Vec<Layer>]) -> Result<(), Error> {
        let (request, documents) = (self.request, self.request.documents);
        let target = Target { repository: self.repository.clone(), insecure: request.insecure };
        let uploads = chains.iter().flat_map(|chain| (0..chain.len()).map(move |at| (chain, at)));
        let uploads = uploads.map(|(chain, at)| {
            let to = Upload { target: &target, task: request.task };
            transfer.upload(chain, at, request.layers, to)
        });
        let blobs = documents.blobs.iter().map(|blob| async {
            let bytes = blob.bytes.clone().into();
            let sent = self.client.push_bytes(self.repository, &blob.descriptor, bytes).await;
            sent.map_err(|source| Error::Push { name: self.repository.to_string(), source })
        });
        future::try_join(future::try_join_all(uploads).err_into(), future::try_join_all(blobs))
            .await?;
        let manifests = documents.manifests.iter().map(|manifest| async {
            let digest = Some(manifest.descriptor.digest);
            let name = Reference::new(self.repository.clone(), None, digest);
            self.put(&name, manifest).await
        });
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
