//! Records from elsewhere, and records for elsewhere.

use std::sync::Arc;

use cache::{Export, FolderPlace, Form, Mode, Place, RecordSet, RegistryPlace, WriteRequest};
use futures_util::future::join_all;
use graph::{Failure, TaskEvent, TaskId};
use oci::{Descriptor, Digest, Reference};

use crate::request::{CacheFrom, CacheMode, CacheTarget, CacheTo};
use crate::solving::Solved;
use crate::{Error, Host, Request};

/// A cache that was read, and where from.
pub(crate) struct Source {
    pub from: CacheFrom,
    /// Digest of its manifest.
    pub manifest: Digest,
    pub records: Arc<RecordSet>,
}

/// Reads all caches at once. One that cannot be read is a warning.
pub(crate) async fn import(host: &Host, request: &Request) -> Vec<Source> {
    let sources = request.cache_from.iter().map(|from| import_one(host, from));
    join_all(sources).await.into_iter().flatten().collect()
}

async fn import_one(host: &Host, from: &CacheFrom) -> Option<Source> {
    let place = place_from(from);
    let task =
        host.events.task(format!("importing cache manifest from {}", place.name()), Vec::new());
    host.events.send(task, TaskEvent::Started);
    let imported = place.import(&host.client).await;
    match imported {
        Ok(imported) => {
            host.events.send(task, TaskEvent::Done);
            let records = Arc::new(imported.records);
            Some(Source { from: from.clone(), manifest: imported.manifest, records })
        }
        Err(error) => {
            let text = transfer::chain_text(&error);
            host.events.send(
                task,
                TaskEvent::Warning(
                    format!("failed to import the cache, going on without it: {text}").into(),
                ),
            );
            host.events.send(task, TaskEvent::Failed(Failure::Error(text.into())));
            None
        }
    }
}

/// Leaves the records of a build wherever they were asked for.
///
/// # Errors
/// The first export that failed and may not.
pub(crate) async fn export(
    host: &Host,
    request: &Request,
    solved: &Solved,
) -> Result<Option<Descriptor>, Error> {
    let exports = request.cache_to.iter().map(|to| export_one(host, to, solved));
    let mut last = None;
    for exported in join_all(exports).await {
        last = exported?.or(last);
    }
    Ok(last)
}

async fn export_one(
    host: &Host,
    to: &CacheTo,
    solved: &Solved,
) -> Result<Option<Descriptor>, Error> {
    let place = place_to(&to.target);
    let name = match &place {
        Place::Registry(_) => "exporting cache to registry",
        Place::Folder(_) => "exporting cache to client directory",
    };
    let target = place.name();
    let task = host.events.task(name, Vec::new());
    host.events.send(task, TaskEvent::Started);
    match write(to, &place, solved, task).await {
        Ok(exported) => {
            for note in exported.iter().filter_map(|exported| exported.note.clone()) {
                host.events.send(task, TaskEvent::Warning(note.into()));
            }
            host.events.send(task, TaskEvent::Done);
            Ok(exported.map(|exported| exported.descriptor))
        }
        Err(error) => {
            let message = transfer::chain_text(&error);
            host.events.send(task, TaskEvent::Failed(Failure::Error(message.as_str().into())));
            match to.ignore_error {
                true => Ok(None),
                false => Err(Error::CacheExport { target, message, lost: lost_layer(&error) }),
            }
        }
    }
}

fn lost_layer(error: &cache::Error) -> Option<Digest> {
    match error {
        cache::Error::Layer(error) => transfer::lost_layer(error),
        error => transfer::lost_layer(error),
    }
}

async fn write(
    to: &CacheTo,
    place: &Place,
    solved: &Solved,
    task: TaskId,
) -> Result<Option<cache::Exported>, cache::Error> {
    let mode = match to.mode {
        CacheMode::Min => Mode::Min,
        CacheMode::Max => Mode::Max,
    };
    let export = Export::new(&solved.steps, &solved.chain, mode);
    if export.is_empty() {
        return Ok(None);
    }
    let request = WriteRequest {
        format: transfer::LayerFormat {
            compression: to.format.compression,
            force: to.format.force_compression,
        },
        form: match (to.image_manifest, to.format.oci_mediatypes) {
            (true, _) => Form::ImageManifest,
            (false, true) => Form::OciIndex,
            (false, false) => Form::DockerList,
        },
        known: match &to.target {
            CacheTarget::Registry { reference, .. } => known(solved, reference),
            CacheTarget::Local { .. } => None,
        },
        task: Some(task),
    };
    cache::write(&export, &solved.transfer, place, &request).await.map(Some)
}

fn place_from(from: &CacheFrom) -> Place {
    match from.clone() {
        CacheFrom::Registry { reference, insecure } => {
            Place::Registry(RegistryPlace { reference, insecure })
        }
        CacheFrom::Local { source, tag, digest } => {
            Place::Folder(FolderPlace { folder: source, tag, digest })
        }
    }
}

fn place_to(target: &CacheTarget) -> Place {
    match target.clone() {
        CacheTarget::Registry { reference, insecure } => {
            Place::Registry(RegistryPlace { reference, insecure })
        }
        CacheTarget::Local { destination, tag } => {
            Place::Folder(FolderPlace { folder: destination, tag, digest: None })
        }
    }
}

/// The manifest that a reference had when this build read it.
fn known(solved: &Solved, wanted: &Reference) -> Option<Digest> {
    let same = |(from, _): &&(CacheFrom, Digest)| matches!(from, CacheFrom::Registry { reference, .. } if reference == wanted);
    solved.sources.iter().find(same).map(|(_, manifest)| *manifest)
}
