//! `image prune` and `system prune`.

use std::collections::BTreeSet;

use build::images::{self, PruneRequest};
use oci::Digest;
use store::Store;

use super::Context;
use crate::args::disk_filter;
use crate::commands::images::Filters;
use crate::personalities::flags::Given;
use crate::render::Report;
use crate::{commands, human, machine, terminal};

/// Asks for confirmation, unless it is forced.
fn is_wanted(given: &Given, what: &str) -> Result<bool, Report> {
    if given.is_on("force", false) {
        return Ok(true);
    }
    let question =
        format!("WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ");
    match terminal::confirm(&question)? {
        Some(answer) => Ok(commands::prune::is_yes(&answer)),
        None => {
            let message = "nothing was removed: there is nobody to ask; give `--force`";
            Err(message.to_owned().into())
        }
    }
}

/// `image prune`.
///
/// # Errors
/// If the question gets no answer, or the store cannot be changed.
pub fn images(given: &Given, context: &Context) -> Result<(), Report> {
    let filters = Filters::read(&texts(given))?;
    // `dangling=false` is `--all`, as in docker.
    let all = given.is_on("all", false) || filters.dangling() == Some(false);
    let what = if all { "all images" } else { "all images without a name" };
    if !is_wanted(given, what)? {
        return Ok(());
    }
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let text = remove(&store, all, &filters)?;
    // The layers of the images are freed by the next prune of the build cache.
    terminal::print(&format!("{text}Total reclaimed space: 0B\n"))
}

/// `system prune`.
///
/// # Errors
/// The errors of [`images()`].
pub fn system(given: &Given, context: &Context) -> Result<(), Report> {
    let all = given.is_on("all", false);
    let texts = texts(given);
    let filters = Filters::read(&texts)?;
    let unused_for = texts.iter().filter(|text| text.starts_with("until"));
    let filter = disk_filter(&unused_for.cloned().collect::<Vec<_>>())?;
    let what = match all {
        true => "all images and all build cache",
        false => "all images without a name, and build cache that no image needs",
    };
    if !is_wanted(given, what)? {
        return Ok(());
    }
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let text = remove(&store, all, &filters)?;
    // Build cache has no labels; only its last use is compared.
    if texts.iter().any(|text| text.starts_with("label")) {
        return terminal::print(&format!("{text}Total reclaimed space: 0B\n"));
    }
    let request = PruneRequest { all, filter, ..PruneRequest::default() };
    let removed = images::prune(&store, request).map_err(|error| oci::chain_text(&error))?;
    let sum: u64 = removed.iter().map(|entry| entry.size).sum();
    terminal::print(&format!("{text}Total reclaimed space: {}\n", human::size(sum)))
}

/// `container prune`, `volume prune` and `network prune`: there is nothing to remove.
///
/// # Errors
/// If it cannot be printed.
pub fn nothing(_: &Given, _: &Context) -> Result<(), Report> {
    terminal::print("Total reclaimed space: 0B\n")
}

fn texts(given: &Given) -> Vec<String> {
    given.all("filter").into_iter().map(str::to_owned).collect()
}

/// Removes images and returns docker's lines.
fn remove(store: &Store, all: bool, filters: &Filters) -> Result<String, Report> {
    let failed = |error: &dyn std::error::Error| Report::from(oci::chain_text(error));
    let mut text = String::new();
    let images = images::list(store).map_err(|error| failed(&error))?;
    // An image with names can have the same config.
    let named: BTreeSet<Digest> =
        images.iter().filter(|image| !image.names.is_empty()).map(|image| image.id).collect();
    for image in filters.apply(&images)? {
        if !all && named.contains(&image.id) {
            continue;
        }
        match images::remove(store, &image.id.hex(), true) {
            Ok(removed) => text.push_str(&commands::rmi::text(&removed)),
            // Removed already, with another image of the same ID.
            Err(images::ImageError::NotHere(_)) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(match text.is_empty() {
        true => text,
        false => format!("Deleted Images:\n{text}\n"),
    })
}
