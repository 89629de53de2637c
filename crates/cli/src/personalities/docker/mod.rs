//! `docker` and `docker buildx`, as far as they build and move images.
//!
//! There is no engine: the images of this machine are those in kiln's root, and builds run in this
//! process. A command that needs an engine is refused with the reason, and with what to do instead.

mod archives;
mod build;
mod builders;
pub mod commands;
pub mod containers;
mod engine;
mod imagetools;
mod lists;
mod prune;

use super::bake;
use super::command_context::{CommandContext, Dispatch};
use super::flags::{self, Flag, Handling, Operands, ParsedFlags};
use super::{Invocation, helped, own_command, say_notes, usage};
use crate::render::Report;
use crate::settings::Environment;
use crate::terminal;
use build::WRONG_FLAG;
use commands::{Does, commands as all};

/// Flags before a command.
pub const GLOBAL: &[Flag] = &[
    Flag::value("config", "/tmp", Handling::Honoured("the folder of `config.json`")),
    Flag::value(
        "context",
        "default",
        Handling::NoEffect("builds run in this process, whatever the context"),
    )
    .short('c'),
    Flag::switch("debug", Handling::Honoured("says more when something goes wrong")).short('D'),
    Flag::value(
        "host",
        "tcp://docker:2375",
        Handling::Honoured("sets DOCKER_HOST, which no command here needs"),
    )
    .short('H'),
    Flag::value("log-level", "info", Handling::NoEffect("there is no daemon with a log"))
        .short('l'),
    Flag::switch("tls", Handling::NoEffect("there is no daemon to talk to")),
    Flag::value("tlscacert", "ca.pem", Handling::NoEffect("there is no daemon to talk to")),
    Flag::value("tlscert", "cert.pem", Handling::NoEffect("there is no daemon to talk to")),
    Flag::value("tlskey", "key.pem", Handling::NoEffect("there is no daemon to talk to")),
    Flag::switch("tlsverify", Handling::NoEffect("there is no daemon to talk to")),
    Flag::switch("version", Handling::Honoured("prints the version")).short('v'),
];

/// Flags between `buildx` and its command.
pub const BUILDX_GLOBAL: &[Flag] = &[
    Flag::value(
        "builder",
        "mine",
        Handling::NoEffect("builds run in this process, whichever builder"),
    ),
    Flag::switch("debug", Handling::NoEffect("give it before `buildx`")).short('D'),
    Flag::switch("version", Handling::Honoured("prints the version")),
];

/// Runs a command line of `docker`.
///
/// # Errors
/// If it fails; the report has docker's exit code.
pub fn run(
    invocation: &Invocation,
    mut environment: Environment,
    dispatch: Dispatch,
) -> Result<(), Report> {
    let given = read(GLOBAL, &invocation.words, Operands::End, "docker")?;
    if let Some(folder) = given.last("config") {
        environment.set("DOCKER_CONFIG", folder);
    }
    if let Some(host) = given.last("host") {
        environment.set("DOCKER_HOST", host);
    }
    if given.is_on("version", false) {
        return terminal::print(&engine::version_line());
    }
    crate::logging::start(&environment, given.is_on("debug", false))?;
    let mut result = command(&given, invocation, environment, dispatch);
    if let Err(report) = &mut result
        && given.is_on("debug", false)
        && !report.message.is_empty()
    {
        report.message.push_str(&crate::machine::description());
    }
    result
}

fn command(
    given: &ParsedFlags,
    invocation: &Invocation,
    environment: Environment,
    dispatch: Dispatch,
) -> Result<(), Report> {
    let mut words = given.operands.clone();
    if words.is_empty() {
        return helped(&commands::help(""));
    }
    // Docker's command line asks each plugin for its metadata.
    if words == ["docker-cli-plugin-metadata"] {
        return terminal::print(&engine::plugin_metadata());
    }
    if words[0] == "buildx" {
        let given = read(BUILDX_GLOBAL, &words[1..], Operands::End, "docker buildx")?;
        if given.is_on("version", false) {
            return terminal::print(&engine::buildx_version());
        }
        words.truncate(1);
        words.extend(given.operands);
    }
    if words[0] == "help" {
        return helped(&commands::help(""));
    }
    let (row, rest) = match find(&words) {
        Some(found) => found,
        None if commands::is_family(&words[0]) => {
            return match words.get(1).map(String::as_str) {
                None | Some("--help" | "-h" | "help") => helped(&commands::help(&words[0])),
                Some(other) => Err(unknown(&format!("{} {other}", words[0]))),
            };
        }
        None => return Err(unknown(&words[0])),
    };
    if let Does::Refuse(why) = row.does {
        return Err(usage(format!("`docker {}` {why}", row.path), None, 1));
    }
    if row.path == "run" && registers_handlers(rest) {
        return Err(usage(format!("`docker run` {HANDLERS}"), None, 1));
    }
    let settings = invocation.settings(&environment)?;
    let context = CommandContext { environment, settings, dispatch };
    perform(row, rest, &context)
}

/// The refusal of `docker run` for an image that pipelines run before they build for other
/// processors.
const HANDLERS: &str = "of this image changes the host's kernel, which no container of kiln's may. Handlers for other \
    processors are the host's: register them there once (binfmt_misc). Leave the line out where \
    the host has them, and where only stages with `FROM --platform=$BUILDPLATFORM` have a RUN";

/// True if the words run an image that registers handlers: `tonistiigi/binfmt`,
/// `…/qemu-user-static`.
fn registers_handlers(words: &[String]) -> bool {
    words.iter().any(|word| {
        let last = word.rsplit('/').next().unwrap_or_default();
        let name = last.split([':', '@']).next().unwrap_or_default();
        word.contains('/') && ["binfmt", "qemu-user-static"].contains(&name)
    })
}

/// The command that some words name: the longest path that they begin with.
fn find(words: &[String]) -> Option<(&'static commands::DockerCommand, &[String])> {
    (1..=3.min(words.len())).rev().find_map(|length| {
        let path = words[..length].join(" ");
        let row = all().find(|row| row.path == path || row.aliases.contains(&&*path))?;
        Some((row, &words[length..]))
    })
}

/// True if docker has such a command, and it works here.
pub fn has(command: &str) -> bool {
    all().any(|row| row.path == command && !matches!(row.does, Does::Refuse(_)))
}

fn unknown(command: &str) -> Report {
    let hint = "`docker --help` lists what is there".to_owned();
    usage(format!("unknown command: docker {command}"), Some(hint), 1)
}

fn perform(
    row: &'static commands::DockerCommand,
    words: &[String],
    context: &CommandContext,
) -> Result<(), Report> {
    let (environment, settings) = (&context.environment, &context.settings);
    match row.does {
        Does::Same(own) => {
            let mut all = vec![own.to_owned()];
            all.extend(words.iter().cloned());
            let command = own_command(&all, WRONG_FLAG)?;
            (context.dispatch)(&command, environment, settings)
        }
        Does::Bake => bake::run(words, context),
        Does::Build => build::run(words, row.path.starts_with("buildx"), context),
        Does::Refuse(_) => unreachable!("it was refused before"),
        Does::Own(about, perform) | Does::Command(about, perform) => {
            let operands = match row.does {
                Does::Command(..) => Operands::End,
                _ => Operands::Anywhere,
            };
            let given = read(row.flags, words, operands, row.path)?;
            if given.help {
                let usage = format!("docker {} {}", row.path, row.operands);
                return helped(&flags::help(usage.trim_end(), about, row.flags));
            }
            say_notes(&given.notes);
            perform(&given, context)?;
            Ok(given.done()?)
        }
    }
}

/// Reads flags by a table. Errors have docker's exit codes.
fn read(
    rows: &'static [Flag],
    words: &[String],
    operands: Operands,
    command: &str,
) -> Result<ParsedFlags, Report> {
    flags::read(rows, words, operands).map_err(|error| {
        let code = if error.is_unknown() { WRONG_FLAG } else { 1 };
        let command = command.strip_prefix("docker").unwrap_or(command).trim_start();
        let command = [" ", command].concat();
        let hint = error
            .is_unknown()
            .then(|| format!("`docker{} --help` lists what is there", command.trim_end()));
        usage(error.to_string(), hint, code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::flags::testing::walk;

    #[test]
    fn every_flag_of_every_command_is_honoured_or_refused_by_name() {
        walk(GLOBAL, |words| {
            let given = flags::read(GLOBAL, words, Operands::End)?;
            for name in ["config", "host"] {
                given.last(name);
            }
            given.is_on("debug", false);
            given.is_on("version", false);
            given.done().map(|()| given.notes)
        });
        for row in all() {
            // The command reads the flags that are honoured; its own tests show that.
            walk(row.flags, |words| {
                flags::read(row.flags, words, Operands::Anywhere).map(|given| given.notes)
            });
        }
    }

    #[test]
    fn images_that_register_handlers_are_known() {
        let run = |line: &str| {
            registers_handlers(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        };
        assert!(run("--privileged --rm tonistiigi/binfmt:qemu-v8.1.5 --install all"));
        assert!(run("--rm --privileged multiarch/qemu-user-static --reset -p yes"));
        assert!(!run("--rm alpine cat /proc/sys/fs/binfmt_misc/status"));
    }

    #[test]
    fn the_longest_path_is_the_command() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (line, path, rest) in [
            ("build -t x .", "build", 3),
            ("image build .", "build", 1),
            ("system df -v", "system df", 1),
            ("buildx b .", "buildx build", 1),
            ("run -it x", "run", 2),
        ] {
            let words = words(line);
            let (row, left) = find(&words).unwrap();
            assert_eq!((row.path, left.len()), (path, rest), "{line}");
        }
        assert!(find(&words("image")).is_none());
    }
}
