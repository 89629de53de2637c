//! `POST /build`: the parameters as flags of a build, and its output.

use std::sync::Arc;

use ::engine::{ApiError, BuildRequest, BuildSource, Message, ProgressSender};
use build::Outcome;
use oci::Reference;
use serde_json::json;
use store::Store;

use super::api_error::{failed, for_client};
use super::blocking::blocking;
use super::classic_context;
use super::client_flags::{client_context, client_plan};
use super::logins::credentials;
use super::messages::StreamWriter;
use super::resources::Resources;
use crate::args::compound::{cache, context};
use crate::args::{BuildFlags, ContextFlag, FlagError};
use crate::commands::failure::report;
use crate::commands::login;
use crate::progress::{Display, PlainLog, Size};
use crate::render::{Look, Report};
use crate::settings::Environment;

/// Builds, and says of the progress what BuildKit's plain progress says. Returns the image's names.
pub(super) async fn run(
    resources: Arc<Resources>,
    request: BuildRequest,
    progress: ProgressSender,
) -> Result<Vec<String>, ApiError> {
    let is_quiet = request.quiet;
    let logins: Vec<_> = request
        .logins
        .iter()
        .filter_map(|(server, login)| Some((login::host(Some(server)).ok()?, credentials(login)?)))
        .collect();
    let notes = request.notes.clone();
    let session = resources.session(logins)?;
    let (settings, store) = (resources.settings.clone(), session.store().clone());
    // The files have to come.
    let plan = blocking(move || {
        let plan = read(request, &store).and_then(|flags| client_plan(flags, &settings));
        plan.map_err(|error| ApiError::BadRequest(error.to_string()))
    })
    .await?;
    if !is_quiet {
        for note in notes.iter().chain(&plan.presentation.warnings) {
            progress.send(&Message::stream(format!("[Warning] {note}\n")));
        }
    }
    let writer: Box<dyn std::io::Write + Send> =
        if is_quiet { Box::new(std::io::sink()) } else { Box::new(StreamWriter(progress.clone())) };
    let display = Display::start(Box::new(PlainLog::new(None, None)), writer, Size::default)
        .map_err(failed)?;
    let events = display.events();
    let result = build::build(&session, &plan.request, &events).await;
    resources.collect(session.store());
    match result {
        Ok(outcome) => {
            display.finish();
            Ok(succeed(&outcome, is_quiet, &progress))
        }
        Err(error) => {
            display.abort();
            Err(fail(report(error), &progress))
        }
    }
}

/// Says what was made, in the words of the builder before BuildKit, which clients look for.
fn succeed(outcome: &Outcome, is_quiet: bool, progress: &ProgressSender) -> Vec<String> {
    let Some(image) = &outcome.image else { return Vec::new() };
    let id = image.id();
    let familiar = |name: &String| {
        name.parse().map_or_else(|_| name.clone(), |name: Reference| name.familiar())
    };
    let names: Vec<String> = image.names.iter().map(familiar).collect();
    if is_quiet {
        progress.send(&Message::stream(format!("{id}\n")));
        return names;
    }
    for warning in &outcome.warnings {
        progress.send(&Message::stream(format!("[Warning] {warning}\n")));
    }
    progress.send(&Message::aux(json!({ "ID": id.to_string() })));
    progress.send(&Message::stream(format!("Successfully built {}\n", &id.hex()[..12])));
    for name in &names {
        progress.send(&Message::stream(format!("Successfully tagged {name}\n")));
    }
    names
}

/// The error of a failed build, after the lines of the Dockerfile that it is about.
fn fail(report: Report, progress: &ProgressSender) -> ApiError {
    if let Some(excerpt) = &report.excerpt {
        progress.send(&Message::stream(excerpt.text(Look::Plain)));
    }
    ApiError::BadRequest(for_client(&report.message_and_hint()))
}

/// Reads the parameters. Blocks until an archive is here.
fn read(request: BuildRequest, store: &Store) -> Result<BuildFlags, FlagError> {
    let environment = Environment::default();
    let around = client_context(&environment).around();
    let mut flags = BuildFlags {
        target: request.target,
        no_cache: request.no_cache,
        pull: request.pull,
        shm_size: request.shm_size.unwrap_or(0),
        ..BuildFlags::default()
    };
    for tag in &request.tags {
        flags.add_tag("t", tag)?;
    }
    for (name, value) in &request.build_args {
        flags.build_arguments.set(name, value.as_deref());
    }
    for (name, value) in &request.labels {
        flags.set_label(name, value);
    }
    if let Some(platform) = &request.platform {
        flags.add_platforms("platform", platform)?;
    }
    for image in &request.cache_from {
        // Anything but an image's name could name files of this machine.
        let image: Reference = image
            .parse()
            .map_err(|error| FlagError::bad("cachefrom", format!("`{image}`: {error}")))?;
        flags.add_cache_from("cachefrom", cache::imports(&image.to_string(), around))?;
    }
    let reads_images = !request.cache_from.is_empty();
    // The next build with `--cache-from` finds a cache in this image then, as with `docker build`.
    flags.cache_to.extend(reads_images.then(cache::inline_cache));
    match request.network.as_deref() {
        Some("bridge") | None => {}
        Some(network) => flags.set_network("networkmode", network)?,
    }
    for host in &request.extra_hosts {
        flags.add_hosts("extrahosts", host)?;
    }
    for ulimit in &request.ulimits {
        flags.set_ulimit("ulimits", ulimit)?;
    }
    if let Some(group) = &request.cgroup_parent {
        flags.set_cgroup_parent("cgroupparent", group);
    }
    let file = request.dockerfile.as_deref();
    let whole =
        |error: &(dyn std::error::Error + 'static)| FlagError::Usage(oci::chain_text(error));
    let (files, dockerfile) = match request.source {
        BuildSource::Archive(upload) => {
            classic_context::read(upload, file, store).map_err(|error| whole(&error))?
        }
        BuildSource::Remote(address) => {
            context::remote_only(&address, file).map_err(|error| whole(&error))?
        }
        BuildSource::Session => {
            let reason = "the files of a session are read in BuildKit's way";
            return Err(FlagError::Usage(reason.to_owned()));
        }
    };
    flags.context = ContextFlag::Opened(files, dockerfile);
    Ok(flags)
}
