//! `kiln check`: a Dockerfile is checked without a build.

use super::build::{prepare, read};
use super::call::ask;
use crate::args::{BuildArgs, Call, Engine};
use crate::machine;
use crate::render::Report;
use crate::settings::{Environment, Settings};

/// Answers a question on standard output.
///
/// # Errors
/// If a flag or the Dockerfile is wrong. The report has no text if rules are violated.
pub fn run(args: &BuildArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    machine::rise(settings);
    let flags = read(args, Engine::Docker, environment, settings)?;
    // `kiln check --call check,format=json` also sets the form of the answer.
    let call = flags.call.unwrap_or(Call::CHECK);
    ask(prepare(flags, environment, settings)?, call, environment, settings)
}
