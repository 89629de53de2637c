//! `kiln tag`.

use build::images;
use store::Store;

use super::report;
use crate::args::TagArgs;
use crate::render::Report;

/// Gives an image another name.
///
/// # Errors
/// If there is no such image, or the name cannot be given.
pub fn run(args: &TagArgs, store: &Store) -> Result<(), Report> {
    images::tag(store, &args.source, &args.target).map_err(|error| report(&error))
}
