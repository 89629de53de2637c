//! `buildctl` and `buildctl-daemonless.sh`.

mod rows;
mod translate;

use super::command_context::Dispatch;
use super::flags::{self, Flag, Operands, ParsedFlags};
use super::{Invocation, helped, own_command, say_notes, usage, word};
use crate::args::FlagError;
use crate::commands;
use crate::render::{Report, table};
use crate::settings::Environment;
use crate::terminal;

pub use rows::{BUILD, DU, GLOBAL, OPTIONS, PRUNE};
use translate::translate;

/// The version of BuildKit whose command line this is.
pub const VERSION: &str = concat!("v0.31.0+kiln-", env!("CARGO_PKG_VERSION"));

/// Runs a command line of `buildctl`.
///
/// # Errors
/// If a flag or the Dockerfile is wrong, or a step fails.
pub fn run(
    invocation: &Invocation,
    mut environment: Environment,
    dispatch: Dispatch,
) -> Result<(), Report> {
    if let Some(file) = config_of_flags(environment.get("BUILDKITD_FLAGS").unwrap_or_default()) {
        environment.set("KILN_BUILDKITD_CONFIG", &file);
    }
    let given = read(GLOBAL, &invocation.words, Operands::End)?;
    if given.is_on("version", false) {
        let line = format!("buildctl github.com/moby/buildkit {VERSION} kiln\n");
        return terminal::print(&line);
    }
    say_notes(&given.notes);
    let (command, rest) = match given.operands.split_first() {
        Some((command, rest)) if command != "help" => (command.as_str(), rest),
        _ => return helped(&help()),
    };
    match (command, rest) {
        ("build" | "b", rest) => build(invocation, rest, environment),
        ("du", rest) => {
            let given = read(DU, rest, Operands::Anywhere)?;
            let mut words = vec!["du".to_owned()];
            words.extend(given.is_on("verbose", false).then(|| "--verbose".to_owned()));
            words.extend(given.last("format").map(|format| word("format", format)));
            words.extend(given.all("filter").into_iter().map(|filter| word("filter", filter)));
            own(&words, invocation, &environment, dispatch)
        }
        ("prune", rest) => {
            let given = read(PRUNE, rest, Operands::Anywhere)?;
            let words = prune(&given)?;
            own(&words, invocation, &environment, dispatch)
        }
        ("debug", [what, ..]) if what == "workers" => {
            let row = ["kiln".to_owned(), oci::Platform::host().to_string()];
            terminal::print(&table(["ID", "PLATFORMS"], &[row]))
        }
        ("debug", [what, ..]) if what == "info" => {
            terminal::print(&format!("BuildKit:\tgithub.com/moby/buildkit {VERSION} kiln\n"))
        }
        ("debug" | "dial-stdio" | "prune-histories", _) => Err(usage(
            format!(
                "`buildctl {command}` needs a daemon, which is not there: builds run in this process"
            ),
            None,
            1,
        )),
        _ => Err(usage(
            format!(
                "`buildctl {command}` is not there: there are build, du, prune and debug workers"
            ),
            None,
            1,
        )),
    }
}

/// The configuration that `buildctl-daemonless.sh` would give its daemon: `--config FILE` in
/// BUILDKITD_FLAGS.
fn config_of_flags(flags: &str) -> Option<String> {
    let mut words = flags.split_whitespace();
    let mut found = None;
    while let Some(word) = words.next() {
        let flag = word.trim_start_matches('-');
        match flag.split_once('=') {
            _ if flag.len() == word.len() => {}
            Some(("config", file)) => found = Some(file.to_owned()),
            None if flag == "config" => found = words.next().map(str::to_owned),
            _ => {}
        }
    }
    found
}

fn read(
    rows: &'static [Flag],
    words: &[String],
    operands: Operands,
) -> Result<ParsedFlags, Report> {
    let given = flags::read(rows, words, operands)?;
    if given.help {
        terminal::print(&help())?;
        return Err(Report { code: Some(0), ..Report::default() });
    }
    Ok(given)
}

fn help() -> String {
    let about = "buildctl, spoken by kiln: Dockerfiles are built in this process.";
    let mut text =
        flags::help("buildctl build --frontend dockerfile.v0 --local context=DIR …", about, BUILD);
    text.push_str("\nOptions (--opt):\n");
    for (name, what) in OPTIONS {
        text.push_str(&format!("  {name:<20} {what}\n"));
    }
    text
}

fn own(
    words: &[String],
    invocation: &Invocation,
    environment: &Environment,
    dispatch: Dispatch,
) -> Result<(), Report> {
    let command = own_command(words, 1)?;
    dispatch(&command, environment, &invocation.settings(environment)?)
}

fn prune(given: &ParsedFlags) -> Result<Vec<String>, FlagError> {
    // `buildctl prune` never asks.
    let mut words = vec!["prune".to_owned(), "--force".to_owned()];
    for flag in ["all", "verbose"] {
        words.extend(given.is_on(flag, false).then(|| format!("--{flag}")));
    }
    for (flag, own) in [
        ("keep-storage", "max-used-space"),
        ("keep-storage-min", "reserved-space"),
        ("free-storage", "min-free-space"),
    ] {
        if let Some(size) = given.last(flag) {
            let megabytes: f64 = size
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite() && *number >= 0.0)
                .ok_or_else(|| {
                    let flag = format!("--{flag}={size}");
                    FlagError::bad(flag, "it is not a number of megabytes")
                })?;
            words.push(format!("--{own}={:.0}", megabytes * 1e6));
        }
    }
    words.extend(given.last("keep-duration").map(|time| word("until", time)));
    words.extend(given.all("filter").into_iter().map(|filter| word("filter", filter)));
    given.done()?;
    Ok(words)
}

fn build(
    invocation: &Invocation,
    words: &[String],
    mut environment: Environment,
) -> Result<(), Report> {
    // buildctl does not run git: the provenance has the facts of `--opt vcs:…` alone.
    environment.set("BUILDX_GIT_INFO", "false");
    environment.set("BUILDX_GIT_LABELS", "false");
    let given = read(BUILD, words, Operands::Anywhere)?;
    let settings = invocation.settings(&environment)?;
    commands::build::begin(None, &settings)?;
    let directory = commands::build::directory()?;
    let flags = translate(&given, commands::build::flag_context(&environment, &directory))?;
    say_notes(&given.notes);
    let built = commands::build::execute(flags, &environment, &settings);
    built.map(drop).map_err(|mut report| {
        if report.doing == Report::SOLVING {
            report.doing = &["failed to solve"];
        }
        report
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::flags::testing::walk;

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(PRUNE, |words| {
            let given = flags::read(PRUNE, words, Operands::Anywhere)?;
            prune(&given).map(|_| given.notes)
        });
        walk(GLOBAL, |words| flags::read(GLOBAL, words, Operands::End).map(|given| given.notes));
        walk(DU, |words| flags::read(DU, words, Operands::Anywhere).map(|given| given.notes));
    }

    #[test]
    fn a_daemons_flags_name_its_configuration() {
        for (flags, file) in [
            ("--config /b.toml", Some("/b.toml")),
            ("--oci-worker-no-process-sandbox --config=/b.toml", Some("/b.toml")),
            ("-config=/b.toml", Some("/b.toml")),
            ("--debug config=/b.toml", None),
            ("", None),
        ] {
            assert_eq!(config_of_flags(flags).as_deref(), file, "{flags}");
        }
    }
}
