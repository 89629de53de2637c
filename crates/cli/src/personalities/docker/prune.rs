//! `image prune` and `system prune`.

use std::collections::BTreeSet;

use build::images::{self, PruneRequest};
use oci::Digest;
use store::Store;

use super::Context;
use crate::personalities::flags::Given;
use crate::render::Report;
use crate::{commands, human, machine, terminal};

/// Asks, unless by force.
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
/// If there is nobody to ask, or the store cannot be changed.
pub fn images(given: &Given, context: &Context) -> Result<(), Report> {
    let all = given.is_on("all", false);
    let what = if all { "all images" } else { "all images without a name" };
    if !is_wanted(given, what)? {
        return Ok(());
    }
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let text = remove(&store, all)?;
    // What the images had goes with the next prune of the build cache.
    terminal::print(&format!("{text}Total reclaimed space: 0B\n"))
}

/// `system prune`.
///
/// # Errors
/// As [`images`].
pub fn system(given: &Given, context: &Context) -> Result<(), Report> {
    let all = given.is_on("all", false);
    let what = match all {
        true => "all images and all build cache",
        false => "all images without a name, and build cache that no image needs",
    };
    if !is_wanted(given, what)? {
        return Ok(());
    }
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let text = remove(&store, all)?;
    let request = PruneRequest { all, ..PruneRequest::default() };
    let removed = images::prune(&store, request).map_err(|error| machine::chain(&error))?;
    let sum: u64 = removed.iter().map(|entry| entry.size).sum();
    terminal::print(&format!("{text}Total reclaimed space: {}\n", human::size(sum)))
}

/// Removes images; hands back docker's lines.
fn remove(store: &Store, all: bool) -> Result<String, Report> {
    let failed = |error: &dyn std::error::Error| Report::from(machine::chain(error));
    let mut text = String::new();
    let images = images::list(store).map_err(|error| failed(&error))?;
    // The same config can be in an image that has names.
    let named: BTreeSet<Digest> =
        images.iter().filter(|image| !image.names.is_empty()).map(|image| image.id).collect();
    for image in &images {
        if !all && named.contains(&image.id) {
            continue;
        }
        match images::remove(store, &image.id.hex(), true) {
            Ok(removed) => text.push_str(&commands::rmi::text(&removed)),
            // It went with another of the same ID.
            Err(images::ImageError::NotHere(_)) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(match text.is_empty() {
        true => text,
        false => format!("Deleted Images:\n{text}\n"),
    })
}
