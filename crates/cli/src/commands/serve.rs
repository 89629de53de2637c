//! `kiln serve`.

use crate::args::ServeArgs;
use crate::render::Report;
use crate::serve;
use crate::settings::{Environment, Settings};

/// Serves until a signal, or until it was idle for long enough.
///
/// # Errors
/// If a flag is wrong, or the service cannot start.
pub fn run(args: &ServeArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    serve::run(&args.read()?, environment, settings)
}
