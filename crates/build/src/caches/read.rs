//! Records of other builds, read before this one.

use std::sync::Arc;

use cache::{BackendSettings, ImportedCache};
use futures_util::future::join_all;
use graph::{Failure, TaskEvent};
use tracing::Instrument as _;

use crate::Request;
use crate::request::CacheTarget;
use crate::session::Build;

/// Imports all caches at once. A cache that cannot be read is a warning.
pub(crate) async fn import(build: &Build<'_>) -> Vec<Arc<ImportedCache>> {
    let caches = build.request.cache_from.iter();
    let imports = caches.map(|from| import_one(build, &from.backend));
    join_all(imports).await.into_iter().flatten().collect()
}

async fn import_one(build: &Build<'_>, settings: &BackendSettings) -> Option<Arc<ImportedCache>> {
    let name = settings.name();
    let task = build.events.task(format!("importing cache manifest from {name}"), Vec::new());
    build.events.send(task, TaskEvent::Started);
    let span = tracing::debug_span!("import", cache = %name);
    match settings.import(build.session.client()).instrument(span).await {
        Ok(imported) => {
            build.events.send(task, TaskEvent::Done);
            Some(Arc::new(imported))
        }
        // Before the first export there is nothing: no fault, and no warning of one.
        Err(error) if error.is_absent() && is_left_there(build.request, settings) => {
            let note = "first build: no cache yet";
            build.events.send(
                task,
                TaskEvent::Log(graph::Stream::Err, format!("{note}\n").as_bytes().into()),
            );
            build.events.send(task, TaskEvent::Done);
            None
        }
        Err(error) if error.is_absent() => {
            let note = format!("nothing is cached from {name}: there is no such cache");
            build.events.send(task, TaskEvent::Warning(note.into()));
            build.events.send(task, TaskEvent::Done);
            None
        }
        // An image may have no cache.
        Err(error) if matches!(error, cache::Error::NoCache { .. }) => {
            let text = transfer::chain_text(&error);
            let note = format!("nothing is cached from {name}: {text}");
            build.events.send(task, TaskEvent::Warning(note.into()));
            build.events.send(task, TaskEvent::Done);
            None
        }
        Err(error) => {
            let text = transfer::chain_text(&error);
            build.events.send(
                task,
                TaskEvent::Warning(
                    format!("failed to import the cache {name}, going on without it: {text}")
                        .into(),
                ),
            );
            build.events.send(task, TaskEvent::Failed(Failure::Error(text.into())));
            None
        }
    }
}

/// True if this build writes the cache that it looks for, or an inline cache to an image that may have
/// that name.
fn is_left_there(request: &Request, from: &BackendSettings) -> bool {
    request.cache_to.iter().any(|to| match &to.target {
        CacheTarget::Inline => matches!(from, BackendSettings::Registry(_)),
        CacheTarget::Backend(to) => to.name() == from.name(),
    })
}

/// The sources of layers besides registries and folders.
pub(crate) fn remotes(build: &Build<'_>) -> Vec<Arc<dyn transfer::Remote>> {
    let from = build.request.cache_from.iter().map(|from| &from.backend);
    let to = build.request.cache_to.iter().filter_map(|to| to.target.backend());
    // Settings that cannot be opened are reported by the import or the export.
    from.chain(to)
        .filter_map(|settings| settings.open(build.session.client()).ok()?.remote())
        .collect()
}
