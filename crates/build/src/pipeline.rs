//! The story of a build: open the context, parse, resolve bases, lower to a graph, read the caches,
//! solve, export, leave records.

use std::sync::Arc;

use cache::ImportedCache;
use graph::Events;
use oci::Descriptor;
use tracing::Instrument as _;
use transfer::chain_text;

use crate::caches::{proven, read, write};
use crate::frontend::bases::{self, Bases};
use crate::session::Build;
use crate::solving::trust::Distrusted;
use crate::solving::{SolvedGraph, Solving, Unsolved};
use crate::{BuiltImage, Error, Outcome, Request, Session, context, exporting};

/// Builds what a request asks for. Several builds can run on a session at the same time.
///
/// # Errors
/// If the request or the Dockerfile is wrong, or a step or an export fails. A cache that cannot be
/// read is a warning.
pub async fn build(
    session: &Session,
    request: &Request,
    events: &Events,
) -> Result<Outcome, Error> {
    run(&Build::new(session, request, events)).await
}

/// Runs one build of a session.
pub(crate) async fn run(build: &Build<'_>) -> Result<Outcome, Error> {
    let request = build.request;
    let tags = || request.tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let span = tracing::info_span!("build", target = request.target, tags = tags());
    build_in_span(build).instrument(span).await
}

async fn build_in_span(build: &Build<'_>) -> Result<Outcome, Error> {
    let before = build.session.client().stats();
    let planned = plan(build).await?;
    let mut distrusted = Distrusted::default();
    distrusted.add_contradicted(build, &planned.bases.images, &planned.imported).await;
    loop {
        if let Some(outcome) = attempt(build, &planned, &mut distrusted).await? {
            return Ok(Outcome { traffic: build.session.traffic_since(before), ..outcome });
        }
    }
}

/// A build that is ready to be solved.
pub(crate) struct Planned {
    pub bases: Bases,
    /// The caches that were read.
    pub imported: Vec<Arc<ImportedCache>>,
}

/// Plans a build. A cache that cannot be read is a warning.
///
/// # Errors
/// If the request, the context or the Dockerfile is wrong, or a base cannot be resolved.
pub(crate) async fn plan(build: &Build<'_>) -> Result<Planned, Error> {
    let prepared = context::prepare(build).await?;
    let dockerfile = prepared.dockerfile()?;
    let lowered = bases::lower(build, &prepared.opened, dockerfile);
    let (bases, imported) = tokio::join!(lowered, read::import(build));
    Ok(Planned { bases: bases?, imported })
}

/// Builds without the caches that are distrusted; none where another one turned out to say what is
/// not so, and what was made may stand on that.
async fn attempt(
    build: &Build<'_>,
    planned: &Planned,
    distrusted: &mut Distrusted,
) -> Result<Option<Outcome>, Error> {
    let Planned { bases, imported } = planned;
    let solving = Solving::open(build, bases, (imported, distrusted))?;
    let solver = solving.solver();
    let (solved, built, cache) = loop {
        let solved = match solving.solve(&solver).await {
            Ok(solved) => solved,
            Err(unsolved) => match &unsolved.solved {
                Some(solved) if distrusted.add_lenders(build, solved.transfer.store()) => {
                    return Ok(None);
                }
                _ => return Err(write::export_failed(build, *unsolved).await),
            },
        };
        proven::read_for_exports(build, &solved).await;
        if distrusted.add_lenders(build, solved.transfer.store()) {
            return Ok(None);
        }
        match export(build, bases, &solved).await {
            // An export can be the first to read a layer.
            Ok(_) if distrusted.add_lenders(build, solved.transfer.store()) => return Ok(None),
            Ok((built, cache)) => break (solved, built, cache),
            // Records promised layers that are gone: the steps that made those run, and no others.
            Err(error) if solver.lose(&error.lost_layers(), &chain_text(&error)) => (),
            Err(error) => {
                let unsolved = Unsolved { error, solved: Some(solved) };
                return Err(write::export_failed(build, unsolved).await);
            }
        }
    };

    let mut outcome = Outcome {
        image: built,
        cached: solved.cached,
        ran: solved.ran,
        explained: solved.explained.clone(),
        cache_manifest: cache,
        not_needed: solved.transfer.store().unread_bytes(),
        ..Outcome::default()
    };
    outcome.warnings = bases.warnings.clone();
    outcome.warnings.extend(write::inline_note(build.request, &bases.graph, &solved));
    solved.finish();
    Ok(Some(outcome))
}

/// Writes the outputs, then the records.
async fn export(
    build: &Build<'_>,
    bases: &Bases,
    solved: &SolvedGraph<'_>,
) -> Result<(Option<BuiltImage>, Option<Descriptor>), Error> {
    let product = exporting::product(build, bases, solved).await?;
    let built = exporting::write(build, &product, &solved.transfer).await?;
    let cache = write::export(build, solved).await?;
    build.session.client().give_up_uploads().await;
    Ok((built, cache))
}
