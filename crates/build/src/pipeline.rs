//! The story of a build: open the context, parse, resolve bases, lower to a graph, open the
//! caches, solve, export, leave records.

use dockerfile::Dockerfile;

use crate::{Error, Host, Outcome, Request, bases, caches, context, exports, solving};

/// Builds what a request asks for.
///
/// # Errors
/// What is wrong with the request, the Dockerfile, a step, an export. A cache that cannot be read
/// is a warning.
pub async fn build(host: &Host, request: &Request) -> Result<Outcome, Error> {
    let before = host.client.stats();
    let opened = context::open(request, &host.events)?;
    let dockerfile = Dockerfile::parse(opened.dockerfile.clone())
        .map_err(|error| Error::in_dockerfile(error, &opened.dockerfile))?;

    let bases = bases::lower(host, request, &opened, &dockerfile);
    let (bases, imported) = tokio::join!(bases, caches::import(host, request));
    let bases = bases?;

    let solved = solving::solve(host, request, &opened, &bases, imported).await?;
    let image = exports::image(&bases, &solved);
    let built = exports::write(host, request, &image, &solved.transfer).await?;
    let cache = caches::export(host, request, &solved).await?;

    let mut outcome = Outcome {
        image: built,
        cached: solved.cached,
        ran: solved.ran,
        cache_manifest: cache,
        ..Outcome::default()
    };
    outcome.warnings = bases.warnings.clone();
    outcome.traffic = host.traffic_since(before);
    solved.finish();
    Ok(outcome)
}
