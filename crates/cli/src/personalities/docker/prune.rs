//! `image prune` and `system prune`.

use build::images::{self, PruneRequest};
use store::Store;

use crate::args::disk_filter;
use crate::commands::images::{Filters, remove_unnamed};
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::render::Report;
use crate::{commands, human, machine, terminal};

/// Asks for confirmation, unless it is forced.
fn is_wanted(given: &ParsedFlags, what: &str) -> Result<bool, Report> {
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
pub fn images(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
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
pub fn system(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
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
pub fn nothing(_: &ParsedFlags, _: &CommandContext) -> Result<(), Report> {
    terminal::print("Total reclaimed space: 0B\n")
}

fn texts(given: &ParsedFlags) -> Vec<String> {
    given.all("filter").into_iter().map(str::to_owned).collect()
}

/// Removes images and returns docker's lines.
fn remove(store: &Store, all: bool, filters: &Filters) -> Result<String, Report> {
    let removed = remove_unnamed(store, all, filters)?;
    let text: String = removed.iter().map(commands::rmi::text).collect();
    Ok(match text.is_empty() {
        true => text,
        false => format!("Deleted Images:\n{text}\n"),
    })
}
