//! An image into a registry.

use std::collections::BTreeMap;

use futures_util::{TryFutureExt as _, future};
use graph::{Events, TaskId};
use oci::{Descriptor, Reference, Repository};
use store::{Layer, Place};
use transfer::{Meter, Target, Transfer, Upload};

use crate::{Error, Format, Image, Manifested};

/// One push.
pub struct PushRequest<'a> {
    /// What is pushed.
    pub image: &'a Image,
    /// How it is written.
    pub format: Format,
    /// Under which names; all in one go, each repository once.
    pub names: &'a [Reference],
    /// Whether the names' tags are left alone.
    pub by_digest: bool,
    /// Whether plain HTTP or a certificate that nobody vouches for is accepted.
    pub insecure: bool,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// Pushes an image: layers that the registry lacks, config, manifest, tags. A tag that has the
/// manifest already costs one question.
///
/// # Errors
/// If a layer is nowhere, or the registry refuses.
pub async fn push(
    transfer: &Transfer,
    events: &Events,
    request: &PushRequest<'_>,
) -> Result<Manifested, Error> {
    let documents = request.image.manifest(transfer, request.format, request.task).await?;
    push_documents(transfer, events, request, &documents).await?;
    Ok(documents)
}

/// Pushes an image whose documents were made before, exactly as they are. The layers are to be in
/// the format that the manifest names.
///
/// # Errors
/// As [`push`].
pub async fn push_documents(
    transfer: &Transfer,
    events: &Events,
    request: &PushRequest<'_>,
    documents: &Manifested,
) -> Result<(), Error> {
    let mut repositories: BTreeMap<&Repository, Vec<&Reference>> = BTreeMap::new();
    for name in request.names {
        repositories.entry(name.repository()).or_default().push(name);
    }
    let pushes = repositories.into_iter().map(|(repository, names)| {
        push_to(transfer, events, request, documents, (repository, names))
    });
    future::try_join_all(pushes).await.map(drop)
}

/// Pushes to the names of one repository. Blobs go there once: registries that get the same blob
/// twice at the same time may take neither for whole.
async fn push_to(
    transfer: &Transfer,
    events: &Events,
    request: &PushRequest<'_>,
    documents: &Manifested,
    (repository, names): (&Repository, Vec<&Reference>),
) -> Result<(), Error> {
    let client = transfer.client().for_host(repository.host(), request.insecure);
    let digest = documents.descriptor.digest;
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
    let sending = Sending { events, request, documents, client, repository, names: &names };
    let layers = &request.image.layers;
    let error = match sending.send(transfer, layers).await {
        Err(error @ Error::Push { .. }) => error,
        result => return result,
    };
    // Layers that the repository once had are not sent again; it may have lost them since.
    let doubted: Vec<Layer> = layers.iter().map(|layer| without(layer, repository)).collect();
    if !lacks_something(&error) || doubted == *layers {
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
    documents: &'a Manifested,
    client: registry::Client,
    repository: &'a Repository,
    names: &'a [Reference],
}

impl Sending<'_> {
    /// Sends layers and config, then the manifest under each name.
    async fn send(&self, transfer: &Transfer, layers: &[Layer]) -> Result<(), Error> {
        let (request, documents) = (self.request, self.documents);
        let target = Target { repository: self.repository.clone(), insecure: request.insecure };
        let uploads = (0..layers.len()).map(|index| {
            let to = Upload { target: &target, task: request.task };
            transfer.upload(layers, index, request.format.layers, to)
        });
        let config = async {
            let bytes = documents.config.clone().into();
            let config = &documents.config_descriptor;
            let sent = self.client.push_bytes(self.repository, config, bytes).await;
            sent.map_err(|source| Error::Push { name: self.repository.to_string(), source })
        };
        future::try_join(future::try_join_all(uploads).err_into(), config).await?;
        for name in self.names {
            self.put(name).await?;
        }
        Ok(())
    }

    async fn put(&self, name: &Reference) -> Result<(), Error> {
        let manifest = &self.documents.descriptor;
        let what = format!("pushing manifest for {name}@{}", manifest.digest);
        let meter = Meter::start(self.events, self.request.task, what, 0);
        let bytes = self.documents.manifest.clone().into();
        let put = self.client.put_manifest(name, &manifest.media_type, bytes).await;
        put.map_err(|source| Error::Push { name: name.to_string(), source })?;
        meter.finish();
        Ok(())
    }
}
