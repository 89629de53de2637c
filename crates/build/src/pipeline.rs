//! The story of a build: open the context, parse, resolve bases, lower to a graph, open the
//! caches, solve, export, leave records.

use std::collections::BTreeSet;

use dockerfile::Dockerfile;
use oci::Descriptor;

use crate::bases::{self, Bases};
use crate::solving::{self, Solved, Unsolved};
use crate::{BuiltImage, Error, Host, Outcome, Request, caches, context, exports};

/// Builds what a request asks for.
///
/// # Errors
/// What is wrong with the request, the Dockerfile, a step, an export. A cache that cannot be read
/// is a warning.
pub async fn build(host: &Host, request: &Request) -> Result<Outcome, Error> {
    let before = host.client.stats();
    let opened = context::open(host, request).await?;
    let dockerfile = Dockerfile::parse(opened.dockerfile.clone())
        .map_err(|error| Error::in_dockerfile(error, &opened.dockerfile))?;

    let bases = bases::lower(host, request, &opened, &dockerfile);
    let (bases, imported) = tokio::join!(bases, caches::import(host, request));
    let bases = bases?;

    let mut lost = BTreeSet::new();
    let (solved, built, cache) = loop {
        let solved = match solving::solve(host, request, &bases, &imported, &lost).await {
            Ok(solved) => solved,
            Err(unsolved) => return Err(caches::export_failed(host, request, *unsolved).await),
        };
        match export(host, request, &bases, &solved).await {
            Ok((built, cache)) => break (solved, built, cache),
            // A record promised a layer that is nowhere: its step runs as if there were none.
            Err(error) => match exports::lost_layer(&error) {
                Some(layer) if lost.insert(layer) => exports::warn_lost(host, &error),
                _ => {
                    let unsolved = Unsolved { error, solved: Some(solved) };
                    return Err(caches::export_failed(host, request, unsolved).await);
                }
            },
        }
    };

    let mut outcome = Outcome {
        image: built,
        cached: solved.cached,
        ran: solved.ran,
        explained: solved.explained.clone(),
        cache_manifest: cache,
        ..Outcome::default()
    };
    outcome.warnings = bases.warnings.clone();
    outcome.warnings.extend(caches::inline_note(request, &bases.graph, &solved));
    outcome.traffic = host.traffic_since(before);
    solved.finish();
    Ok(outcome)
}

/// What a build leaves: its outputs, then its records.
async fn export(
    host: &Host,
    request: &Request,
    bases: &Bases,
    solved: &Solved,
) -> Result<(Option<BuiltImage>, Option<Descriptor>), Error> {
    let product = exports::product(host, request, bases, solved).await?;
    let built = exports::write(host, request, &product, &solved.transfer).await?;
    let cache = caches::export(host, request, solved).await?;
    host.client.give_up_uploads().await;
    Ok((built, cache))
}
