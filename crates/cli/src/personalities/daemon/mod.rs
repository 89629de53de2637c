//! `dockerd`, `dockerd-entrypoint.sh` and `buildkitd`: `kiln serve` with the flags and files that scripts pass.

mod buildkitd;
mod certificates;
mod configured;
mod dockerd;
mod entrypoint;
mod file;
pub mod rows;

use super::flags::{self, Flag, Operands, ParsedFlags};
use super::{Invocation, Tool, helped};
use crate::args::FlagError;
use crate::facts;
use crate::render::Report;
use crate::settings::Environment;
use crate::terminal::{self, say};

#[cfg(test)]
pub use file::{BUILDER_KEYS, DAEMON_JSON};

use entrypoint::Start;

/// Runs a daemon's command line.
///
/// # Errors
/// If a flag or a file is wrong, or the service cannot start.
pub fn run(invocation: &Invocation, environment: Environment) -> Result<(), Report> {
    match invocation.tool {
        Tool::Buildkitd => run_buildkitd(invocation, environment),
        Tool::DockerdEntrypoint => match entrypoint::start(&invocation.words) {
            Start::Usual => run_entrypoint(invocation, &environment),
            Start::Dockerd(words) => run_dockerd(invocation, words, &environment),
            Start::Program(words) => Err(entrypoint::become_program(words)),
        },
        _ => run_dockerd(invocation, &invocation.words, &environment),
    }
}

fn run_dockerd(
    invocation: &Invocation,
    words: &[String],
    environment: &Environment,
) -> Result<(), Report> {
    let Some(given) = read("dockerd", rows::DOCKERD, words)? else { return Ok(()) };
    dockerd::daemon(given, environment)?.run(invocation, environment)
}

/// Starts in the way of the image `docker:dind`.
fn run_entrypoint(invocation: &Invocation, environment: &Environment) -> Result<(), Report> {
    let words = &invocation.words;
    if read("dockerd", rows::DOCKERD, words)?.is_none() {
        return Ok(());
    }
    let ready = entrypoint::certificates(environment)?;
    if let Some(warning) = ready.as_ref().and_then(|ready| ready.warning.as_ref()) {
        say(&format!("WARNING: {warning}\n"));
    }
    let words = [entrypoint::words(environment, ready.as_ref()), words.clone()].concat();
    let given = flags::read(rows::DOCKERD, &words, Operands::Anywhere)?;
    // Certificates are read under their lock, which ends before kiln starts again in a user namespace.
    let daemon = dockerd::daemon(given, environment)?;
    drop(ready);
    daemon.run(invocation, environment)
}

fn run_buildkitd(invocation: &Invocation, mut environment: Environment) -> Result<(), Report> {
    let given = read("buildkitd", rows::BUILDKITD, &invocation.words)?;
    let Some(given) = given else { return Ok(()) };
    buildkitd::daemon(&given, &mut environment)?.run(invocation, &environment)
}

/// Reads a command line; none if it asked for help or the version, which have been printed.
fn read(
    name: &str,
    rows: &'static [Flag],
    words: &[String],
) -> Result<Option<ParsedFlags>, Report> {
    let given = flags::read(rows, words, Operands::Anywhere)?;
    if given.help {
        let about = format!("{name}, spoken by kiln: `kiln serve` with its flags.");
        helped(&flags::help(&format!("{name} [FLAGS]"), &about, rows))?;
        return Ok(None);
    }
    if given.is_on("version", false) {
        terminal::print(&version(name))?;
        return Ok(None);
    }
    if let Some(word) = given.operands.first() {
        return Err(FlagError::Usage(format!("`{word}` belongs to no flag of {name}")).into());
    }
    Ok(Some(given))
}

fn version(name: &str) -> String {
    match name {
        "buildkitd" => facts::buildkitd_version(),
        _ => format!("Docker version {}, build {}\n", facts::VERSION, facts::commit()),
    }
}
