//! An image into a registry.

use futures_util::{TryFutureExt as _, future};
use graph::{Events, TaskId};
use oci::{Reference, Repository};
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
    let pushes =
        request.names.iter().map(|name| push_name(transfer, events, request, documents, name));
    future::try_join_all(pushes).await.map(drop)
}

async fn push_name(
    transfer: &Transfer,
    events: &Events,
    request: &PushRequest<'_>,
    documents: &Manifested,
    name: &Reference,
) -> Result<(), Error> {
    let repository = name.repository();
    let client = transfer.client().for_host(repository.host(), request.insecure);
    let name = match request.by_digest {
        true => Reference::new(repository.clone(), None, Some(documents.descriptor.digest)),
        false => name.clone(),
    };
    if client.resolve(&name).await.is_ok_and(|there| there.digest == documents.descriptor.digest) {
        return Ok(());
    }
    let sending = Sending { events, request, documents, client, name };
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

/// An image on its way to one name.
struct Sending<'a> {
    events: &'a Events,
    request: &'a PushRequest<'a>,
    documents: &'a Manifested,
    client: registry::Client,
    name: Reference,
}

impl Sending<'_> {
    /// Sends layers and config, then the manifest.
    async fn send(&self, transfer: &Transfer, layers: &[Layer]) -> Result<(), Error> {
        let (request, documents, name) = (self.request, self.documents, &self.name);
        let failed = |source| Error::Push { name: name.to_string(), source };
        let repository = name.repository();
        let target = Target { repository: repository.clone(), insecure: request.insecure };
        let uploads = (0..layers.len()).map(|index| {
            let to = Upload { target: &target, task: request.task };
            transfer.upload(layers, index, request.format.layers, to)
        });
        let config = async {
            let bytes = documents.config.clone().into();
            self.client
                .push_bytes(repository, &documents.config_descriptor, bytes)
                .await
                .map_err(failed)
        };
        future::try_join(future::try_join_all(uploads).err_into(), config).await?;
        let what = format!("pushing manifest for {name}@{}", documents.descriptor.digest);
        let meter = Meter::start(self.events, request.task, what, 0);
        let (kind, bytes) = (&documents.descriptor.media_type, documents.manifest.clone().into());
        self.client.put_manifest(name, kind, bytes).await.map_err(failed)?;
        meter.finish();
        Ok(())
    }
}
