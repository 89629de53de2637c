//! The executor of a build's steps: those of a remote context, which run to find the Dockerfile,
//! and those of the build itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use execute::{BuildCredentials, ContextFolder, Executor, Images, Modes, Sources};
use graph::{Graph, Operation, StepId, TaskId};
use layer::{Compression, Time};
use solve::Tasks;

use crate::Request;
use crate::caches::read::remotes;
use crate::request::{CacheTarget, Output};
use crate::session::Build;

/// The largest file that ADD downloads: what is larger is a mistake, not a file.
const DOWNLOAD_LIMIT: u64 = 64 << 30;

/// The graph that an executor works on, and what is known around it.
pub(crate) struct ExecutorInputs<'a> {
    pub graph: &'a Graph,
    pub images: Arc<Images>,
    /// Folders by the names of contexts.
    pub folders: BTreeMap<String, ContextFolder>,
    /// Seconds since 1970 that all times become.
    pub epoch: Option<i64>,
    /// Downloads and checkouts so far.
    pub sources: Arc<Sources>,
    /// Operations that progress has shown already.
    pub shown: &'a [Operation],
    /// Steps that must be found.
    pub required: BTreeSet<StepId>,
}

/// Makes an executor, and introduces its steps to progress.
pub(crate) fn executor(build: &Build<'_>, parts: &ExecutorInputs<'_>) -> (Executor, Tasks) {
    let request = build.request;
    let transfer = build.session.transfer(build.events.clone(), remotes(build));
    // An image with its cache inside has no place for indexes.
    if request.cache_to.iter().any(|to| to.target != CacheTarget::Inline) {
        transfer.store().note_spans();
    }
    let of_step = introduce(build, parts.graph, parts.shown);
    let tasks = Tasks { events: build.events.clone(), of_step };
    let secrets = request.secrets.iter();
    let executor = Executor::new(execute::ExecutorSettings {
        transfer,
        images: parts.images.clone(),
        runtime: build.session.host().runtime.clone(),
        credentials: BuildCredentials {
            secrets: secrets.map(|(id, secret)| (id.clone(), secret.value().into())).collect(),
            ssh: request.ssh.clone(),
            known_hosts: request.known_hosts.clone(),
            client: request.client.clone(),
        },
        folders: parts.folders.clone(),
        tasks: tasks.clone(),
        compression: compression(request),
        now: now(parts.epoch),
        download_limit: DOWNLOAD_LIMIT,
        lazy: request.lazy,
        sources: parts.sources.clone(),
        modes: match request.normalize_modes {
            true => Modes::Normalized,
            false => Modes::Kept,
        },
        required: parts.required.clone(),
    });
    (executor, tasks)
}

/// Introduces the steps to progress, in their order.
fn introduce(build: &Build<'_>, graph: &Graph, shown: &[Operation]) -> Vec<Option<TaskId>> {
    let mut tasks: Vec<Option<TaskId>> = Vec::with_capacity(graph.len());
    for (_, step) in graph.steps() {
        let inputs =
            step.inputs.iter().filter_map(|input: &StepId| tasks[input.0 as usize]).collect();
        let is_new = step.shown_as.is_none() && !shown.contains(&step.operation);
        tasks.push(is_new.then(|| build.events.task(Arc::from(step.name.as_str()), inputs)));
    }
    tasks
}

/// New layers of files are compressed as the first one who wants them wants them.
fn compression(request: &Request) -> Compression {
    let outputs = request.outputs.iter().filter_map(|output| match output {
        Output::Image(image) => Some(image.format.compression),
        Output::Oci(archive) | Output::Docker(archive) => Some(archive.format.compression),
        Output::Local(_) | Output::Tar(_) | Output::CacheOnly => None,
    });
    let caches = request.cache_to.iter().map(|cache| cache.format.compression);
    outputs.chain(caches).next().unwrap_or(Compression::Zstd(Some(1)))
}

fn now(epoch: Option<i64>) -> Time {
    match epoch {
        Some(seconds) => Time { seconds, nanos: 0 },
        None => Time { seconds: jiff::Timestamp::now().as_second(), nanos: 0 },
    }
}
