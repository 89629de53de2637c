//! Records of this build, left for others.

use std::sync::Arc;

use cache::sidecar::ReadSet;
use cache::{Backend, BackendSettings, BuildAdditions, Export, Form, SidecarUpdate, WriteRequest};
use futures_util::future::join_all;
use graph::{Graph, TaskEvent, TaskId};
use layer::Chain;
use oci::Descriptor;
use solve::StepFacts;
use tracing::Instrument as _;

use super::mounts;
use super::proven::steps_for;
use crate::error::failure;
use crate::request::{CacheMode, CacheTarget, CacheTo, Layers, Output};
use crate::session::Build;
use crate::solving::uploads::on_results;
use crate::solving::{SolvedGraph, Unsolved};
use crate::{Error, Request};

/// Leaves the records of a build wherever they were asked for.
///
/// # Errors
/// The first export that failed and may not.
pub(crate) async fn export(
    build: &Build<'_>,
    solved: &SolvedGraph<'_>,
) -> Result<Option<Descriptor>, Error> {
    let targets = build.request.cache_to.iter().filter_map(|to| Some((to, to.target.backend()?)));
    let exports = targets.map(|(to, settings)| export_one(build, to, settings, solved));
    let mut last = None;
    for exported in join_all(exports).await {
        last = exported?.or(last);
    }
    Ok(last)
}

/// Leaves what a build found and made until it failed, wherever that was not refused, and hands
/// back why it failed. A cache that cannot be written changes nothing of that.
pub(crate) async fn export_failed(build: &Build<'_>, unsolved: Unsolved<'_>) -> Error {
    let Unsolved { error, solved: Some(mut solved) } = unsolved else { return unsolved.error };
    let explained = solved.explained.take();
    // A cache that could not be written a moment ago, or a layer that is lost, is no better now.
    if matches!(error, Error::CacheExport { .. }) || !solved.steps.iter().any(|step| step.ran) {
        return error.explained(explained);
    }
    solved.steps.retain(|step| step.inputs.is_empty() || step.output.is_some());
    let wanted = build.request.cache_to.iter().filter(|to| to.on_failure);
    let targets = wanted.filter_map(|to| Some((to, to.target.backend()?)));
    let exports = targets.map(|(to, settings)| export_one(build, to, settings, &solved));
    // Their errors were shown, and are not the reason why the build failed.
    drop(join_all(exports).await);
    solved.finish();
    error.explained(explained)
}

async fn export_one(
    build: &Build<'_>,
    to: &CacheTo,
    settings: &BackendSettings,
    solved: &SolvedGraph<'_>,
) -> Result<Option<Descriptor>, Error> {
    let (target, backend) = (settings.name(), settings.open(build.session.client()));
    let name = backend.as_ref().map_or("exporting cache", |backend| backend.export_name());
    let task = build.events.task(name, Vec::new());
    build.events.send(task, TaskEvent::Started);
    let written = async {
        let backend = backend?;
        let exported = write(build, (to, &*backend), solved, task).await?;
        Ok::<_, cache::Error>((backend, exported))
    };
    let span = tracing::debug_span!("export", cache = %target);
    match written.instrument(span).await {
        Ok((backend, exported)) => {
            for note in exported.iter().flat_map(|exported| exported.notes.clone()) {
                build.events.send(task, TaskEvent::Warning(note.into()));
            }
            if to.reset
                && let Err(error) = backend.tidy().await
            {
                let text = format!("old blobs stay: {}", transfer::chain_text(&error));
                build.events.send(task, TaskEvent::Warning(text.into()));
            }
            build.events.send(task, TaskEvent::Done);
            Ok(exported.map(|exported| exported.descriptor))
        }
        Err(error) => {
            let (message, lost) = (transfer::chain_text(&error), error.lost_layers());
            build.events.send(task, TaskEvent::Failed(failure(&lost, &message)));
            if to.ignore_error {
                Ok(None)
            } else {
                Err(Error::CacheExport { target, message, lost })
            }
        }
    }
}

async fn write(
    build: &Build<'_>,
    (to, backend): (&CacheTo, &dyn Backend),
    solved: &SolvedGraph<'_>,
    task: TaskId,
) -> Result<Option<cache::Exported>, cache::Error> {
    let (steps, left_out) = steps_for(solved, &backend.identity());
    let export = Export::new(&steps, &solved.chains, to.mode).used_on(today());
    if export.is_empty() {
        return Ok(None);
    }
    let identity = backend.identity();
    let known = solved.imported.iter().find(|imported| *imported.identity == *identity).cloned();
    let named = known.as_ref().map(|known| known.records.sidecar()).unwrap_or_default();
    let sidecar = backend.sidecar(named);
    let (mounts, mut notes) =
        mounts::ready(build, to, sidecar.as_ref(), solved.used_mounts()).await;
    if left_out > 0 {
        notes.push(format!(
            "{left_out} steps are not in the cache: they stand on what another cache says of layers that could not be read"
        ));
    }
    let leaving =
        BuildAdditions::indexes(build.session.store(), solved.layers(), solved.indexes.missed());
    let reads = solved.opened_files().into_iter();
    let reads = reads.map(|(step, layers)| (step, ReadSet { layers })).collect();
    let additions = Arc::new(leaving.with(solved.facts.clone(), mounts).with_reads(reads));
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
        known,
        sidecar: sidecar.map(|sidecar| SidecarUpdate { sidecar, additions }),
        task: Some(task),
    };
    let mut exported = cache::write(&export, &solved.transfer, backend, &request).await?;
    exported.notes.extend(notes);
    Ok(Some(exported))
}

/// No cache is called so: what an image carries stands on no other cache's word.
const INLINE: &str = "";

/// The cache that goes into the config of an image with these layers, where one was asked for.
pub(crate) fn inline(
    build: &Build<'_>,
    graph: &Graph,
    (solved, chain): (&SolvedGraph<'_>, &Chain),
) -> Option<String> {
    if !build.request.cache_to.iter().any(|to| to.target == CacheTarget::Inline) {
        return None;
    }
    let task = build.events.task("preparing layers for inline cache", Vec::new());
    build.events.send(task, TaskEvent::Started);
    let is_image =
        |output: &Output| matches!(output, Output::Image(_) | Output::Oci(_) | Output::Docker(_));
    let is_folded = matches!(build.request.layers, Layers::One | Layers::Marked);
    let cache = match build.request.outputs.iter().any(is_image) {
        true if is_folded => Err(
            "the image has not the layers of its steps, so it got no inline cache: use another --cache-to",
        ),
        true => {
            let keys = graph.steps().map(|(_, step)| solve::step_key(step));
            let old = keys.filter_map(|key| Some((*key.digests.first()?, key.old?))).collect();
            let (steps, _) = steps_for(solved, INLINE);
            let cache = cache::inline_cache(&steps, &chain.layers(), &old);
            cache.ok_or("the image has no layer of a step, so it got no inline cache")
        }
        false => Err("no output is an image, so there is nothing to put an inline cache into"),
    };
    if let Err(note) = &cache {
        build.events.send(task, TaskEvent::Warning((*note).into()));
    }
    build.events.send(task, TaskEvent::Done);
    cache.ok()
}

/// A warning about an inline cache if steps ran that it does not hold: those of stages that
/// the image does not stand on.
pub(crate) fn inline_note(
    request: &Request,
    graph: &Graph,
    solved: &SolvedGraph<'_>,
) -> Option<String> {
    let is_inline = |to: &CacheTo| to.target == CacheTarget::Inline;
    let holds_all = |to: &CacheTo| !is_inline(to) && to.mode == CacheMode::Max;
    if !request.cache_to.iter().any(is_inline) || request.cache_to.iter().any(holds_all) {
        return None;
    }
    let held = on_results(graph, &solved.results);
    let is_left =
        |step: &StepFacts<Chain>| step.ran && !step.inputs.is_empty() && !held.contains(&step.id);
    solved.steps.iter().any(is_left).then(|| {
        "the inline cache holds the steps of the last stage only: after a change the other stages run \
         again; --cache-to type=registry,ref=…,mode=max holds all of them"
            .into()
    })
}

/// Days since 1970.
fn today() -> u32 {
    u32::try_from(jiff::Timestamp::now().as_second() / 86_400).unwrap_or(0)
}
