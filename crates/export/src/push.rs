//! An image into a registry.

use futures_util::future;
use graph::{Events, TaskId};
use oci::{Descriptor, Reference};
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
    let pushes =
        request.names.iter().map(|name| push_name(transfer, events, request, &documents, name));
    future::try_join_all(pushes).await?;
    Ok(documents)
}

async fn push_name(
    transfer: &Transfer,
    events: &Events,
    request: &PushRequest<'_>,
    documents: &Manifested,
    name: &Reference,
) -> Result<(), Error> {
    let failed = |source| Error::Push { name: name.to_string(), source };
    let repository = name.repository();
    let client = transfer.client().for_host(repository.host(), request.insecure);
    let name = match request.by_digest {
        true => Reference::new(repository.clone(), None, Some(documents.descriptor.digest)),
        false => name.clone(),
    };
    if client.resolve(&name).await.is_ok_and(|there| there.digest == documents.descriptor.digest) {
        return Ok(());
    }
    let target = Target { repository: repository.clone(), insecure: request.insecure };
    let layers = (0..request.image.layers.len()).map(|index| {
        transfer.upload(
            &request.image.layers,
            index,
            request.format.layers,
            Upload { target: &target, task: request.task },
        )
    });
    let config = async {
        push_bytes(&client, repository, &documents.config_descriptor, &documents.config)
            .await
            .map_err(failed)
    };
    future::try_join(future::try_join_all(layers).err_into(), config).await?;
    let meter = Meter::start(
        events,
        request.task,
        format!("pushing manifest for {name}@{}", documents.descriptor.digest),
        0,
    );
    client
        .put_manifest(&name, &documents.descriptor.media_type, documents.manifest.clone().into())
        .await
        .map_err(failed)?;
    meter.finish();
    Ok(())
}

/// Sends a small blob that is in memory.
async fn push_bytes(
    client: &registry::Client,
    repository: &oci::Repository,
    descriptor: &Descriptor,
    bytes: &[u8],
) -> Result<(), registry::Error> {
    client.push_bytes(repository, descriptor, bytes.to_vec().into()).await
}

use futures_util::TryFutureExt as _;
