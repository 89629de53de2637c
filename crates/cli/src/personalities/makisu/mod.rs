//! Makisu: `build`, `push`, `pull`, `diff` and `version`.

mod build;
mod files;
mod registry_config;
mod remote_cache;
mod rows;

use std::fs::File;
use std::path::Path;

use ::build::images;
use oci::Reference;

use super::command_context::Dispatch;
use super::flags::{self, Flag, Operands, ParsedFlags};
use super::{Invocation, helped, own_command, say_notes, usage};
use crate::args::{Command, FlagError, InFlag as _};
use crate::commands;
use crate::machine;
use crate::progress::ProgressMode;
use crate::render::Report;
use crate::settings::{Environment, RegistrySetting, Settings};
use crate::terminal;

pub use rows::{BUILD, DIFF, GLOBAL, PULL, PUSH};

const ABOUT: &str = "makisu, spoken by kiln: builds a Dockerfile and pushes the image.";

/// Runs a command line of `makisu`.
///
/// # Errors
/// If a flag or the Dockerfile is wrong, or a step fails.
pub fn run(
    invocation: &Invocation,
    environment: Environment,
    dispatch: Dispatch,
) -> Result<(), Report> {
    let before = read(GLOBAL, &invocation.words, Operands::End)?;
    let (command, rest) = match before.operands.split_first() {
        Some((command, rest)) if command != "help" && !before.help => (command.as_str(), rest),
        _ => return helped(&flags::help("makisu build -t NAME CONTEXT", ABOUT, BUILD)),
    };
    // Flags of every command may also follow it.
    let (global, rest) = split(rest);
    let global = [&invocation.words[..invocation.words.len() - before.operands.len()], &global];
    let global = read(GLOBAL, &global.concat(), Operands::Anywhere)?;
    say_notes(&global.notes);
    match command {
        "build" => build::run(&global, &rest, invocation, environment),
        "push" => push(&rest, invocation, environment, dispatch),
        "pull" => pull(&rest, invocation, environment, dispatch),
        "version" => terminal::print(&commands::version::text()),
        "diff" => files::diff(&rest, invocation, &environment),
        other => Err(usage(
            format!("`makisu {other}` is not there: there are build, push, pull, diff and version"),
            None,
            1,
        )),
    }
}

fn read(
    rows: &'static [Flag],
    words: &[String],
    operands: Operands,
) -> Result<ParsedFlags, Report> {
    Ok(flags::read(rows, words, operands)?)
}

/// Separates the flags of every command from the other words after a command.
fn split(words: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut global, mut own) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(text) = words.next() {
        let name = text.trim_start_matches('-').split('=').next().unwrap_or_default();
        let is_flag = text.starts_with("--");
        match GLOBAL.iter().find(|row| is_flag && row.name == name) {
            None => own.push(text.clone()),
            Some(row) => {
                global.push(text.clone());
                if !text.contains('=') && row.takes != flags::Takes::Switch {
                    global.extend(words.next().cloned());
                }
            }
        }
    }
    (global, own)
}

/// The form of the progress, by `--log-fmt` and `--log-level`.
fn progress(global: &ParsedFlags) -> Result<ProgressMode, FlagError> {
    let mode = match global.last("log-fmt") {
        None => ProgressMode::Auto,
        Some("console") => ProgressMode::Plain,
        Some("json") => ProgressMode::RawJson,
        Some(other) => {
            return Err(FlagError::bad(format!("--log-fmt={other}"), "there are console and json"));
        }
    };
    let mode = match global.last("log-level") {
        Some("error" | "fatal" | "panic") => ProgressMode::None,
        None | Some("debug" | "info" | "warn") => mode,
        Some(other) => {
            let reason = "there are debug, info, warn and error";
            return Err(FlagError::bad(format!("--log-level={other}"), reason));
        }
    };
    global.done()?;
    Ok(mode)
}

/// The tag, and the names that the image is pushed to: the tag's path in each registry, and the
/// replicas.
fn names(given: &ParsedFlags) -> Result<(String, Vec<String>), FlagError> {
    let tag = given.last("tag").ok_or_else(|| FlagError::Missing {
        flag: "--tag".into(),
        hint: "give the image's name".into(),
    })?;
    let reference = tag.parse::<Reference>().in_flag(&format!("--tag={tag}"))?;
    // The registries of `--push` replace the tag's.
    let path = reference.repository().path();
    let path = match reference.repository().host() {
        "docker.io" if !tag.contains("library/") => path.strip_prefix("library/").unwrap_or(path),
        _ => path,
    };
    let version = reference.tag().unwrap_or("latest");
    let mut names: Vec<String> = given
        .all("push")
        .into_iter()
        .map(|registry| match registry {
            "index.docker.io" | "docker.io" => format!("docker.io/{path}:{version}"),
            registry => format!("{registry}/{path}:{version}"),
        })
        .collect();
    names.extend(given.all("replica").into_iter().map(str::to_owned));
    Ok((tag.to_owned(), names))
}

/// The settings that `--registry-config` has for the registries of some names.
fn registries(
    given: &ParsedFlags,
    names: &[String],
    environment: &Environment,
) -> Result<(Vec<RegistrySetting>, Vec<String>), FlagError> {
    let Some(text) = given.last("registry-config") else { return Ok(Default::default()) };
    let text = if text.trim_start().starts_with('{') {
        text.to_owned()
    } else {
        std::fs::read_to_string(text).map_err(|error| {
            FlagError::bad("--registry-config", format!("reading `{text}`: {error}"))
        })?
    };
    let repositories = names.iter().filter_map(|name| name.parse::<Reference>().ok());
    let repositories: Vec<(String, String)> = repositories
        .map(|name| (name.repository().host().to_owned(), name.repository().path().to_owned()))
        .collect();
    registry_config::read(&text, environment, &repositories)
}

fn push(
    words: &[String],
    invocation: &Invocation,
    environment: Environment,
    dispatch: Dispatch,
) -> Result<(), Report> {
    let given = read(PUSH, words, Operands::Anywhere)?;
    if given.help {
        return helped(&flags::help("makisu push -t NAME --push REGISTRY TAR", ABOUT, PUSH));
    }
    let [archive] = given.operands.as_slice() else {
        return Err(usage("it takes one archive of `docker save`", None, 1));
    };
    let (_, names) = names(&given)?;
    let (registries, notes) = registries(&given, &names, &environment)?;
    given.done()?;
    say_notes(&notes);
    if names.is_empty() {
        return Err(usage("`--push` is missing: give the registry", None, 1));
    }
    let mut settings = invocation.settings(&environment)?;
    settings.registries.extend(registries);
    let store = machine::open_store(&settings, &machine::rise(&settings))?;
    let file = File::open(archive).map_err(|error| format!("reading `{archive}`: {error}"))?;
    let loaded = images::load(&store, file).map_err(|error| commands::report(&error))?;
    let [image] = loaded.as_slice() else {
        return Err(format!("`{archive}` has {} images, and not one", loaded.len()).into());
    };
    for name in &names {
        let target: Reference = name.parse().map_err(|error| format!("`{name}`: {error}"))?;
        images::tag(&store, &image.id.hex(), &target).map_err(|error| commands::report(&error))?;
    }
    drop(store);
    for name in &names {
        own(&["push".to_owned(), name.clone()], &environment, &settings, dispatch)?;
    }
    Ok(())
}

fn pull(
    words: &[String],
    invocation: &Invocation,
    environment: Environment,
    dispatch: Dispatch,
) -> Result<(), Report> {
    let given = read(PULL, words, Operands::Anywhere)?;
    if given.help {
        return helped(&flags::help("makisu pull IMAGE", ABOUT, PULL));
    }
    let [image] = given.operands.as_slice() else {
        return Err(usage("it takes one image", None, 1));
    };
    let tag = given.last("tag").unwrap_or("latest");
    let name = match given.last("registry").map(registry_config::canonical) {
        None | Some("docker.io") => format!("docker.io/{image}:{tag}"),
        Some(registry) => format!("{registry}/{image}:{tag}"),
    };
    let folder = given.last("extract").map(Path::new);
    given.done()?;
    let settings = invocation.settings(&environment)?;
    own(&["pull".to_owned(), name.clone()], &environment, &settings, dispatch)?;
    folder.map_or(Ok(()), |folder| files::extract(&name, folder, &environment, &settings))
}

fn own(
    words: &[String],
    environment: &Environment,
    settings: &Settings,
    dispatch: Dispatch,
) -> Result<(), Report> {
    let command: Command = own_command(words, 1)?;
    dispatch(&command, environment, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::flags::testing::walk;

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(GLOBAL, |words| {
            let given = flags::read(GLOBAL, words, Operands::Anywhere)?;
            progress(&given).map(|_| given.notes)
        });
        for rows in [PUSH, DIFF, PULL] {
            walk(rows, |words| {
                flags::read(rows, words, Operands::Anywhere).map(|given| given.notes)
            });
        }
    }
}
