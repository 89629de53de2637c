//! Command lines of other tools. The name that the binary was started under (`docker`, `buildctl`,
//! `executor`, …), or the first word after `kiln`, selects one.
//!
//! Each is a thin module: tables of flags that are read into the flags of a build
//! ([`BuildFlags`](crate::args::BuildFlags)), or into another of kiln's own commands. None has a
//! way of its own to build.

pub mod bake;
pub mod buildctl;
mod command_context;
pub mod daemon;
pub mod docker;
#[cfg(test)]
mod docs;
pub mod flags;
pub mod kaniko;
pub mod makisu;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser as _;

use crate::args::{BuildArgs, Cli, Command};
use crate::render::Report;
use crate::settings::{Environment, Settings};
use crate::terminal;
use command_context::Dispatch;

/// A tool whose command line kiln reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `docker`, with `docker buildx`.
    Docker,
    /// kaniko's `executor`.
    Executor,
    /// kaniko's `warmer`.
    Warmer,
    /// `buildctl`, and `buildctl-daemonless.sh`.
    Buildctl,
    /// Makisu.
    Makisu,
    /// Docker's daemon.
    Dockerd,
    /// Docker's daemon as its image starts it.
    DockerdEntrypoint,
    /// BuildKit's daemon.
    Buildkitd,
}

/// A call in another tool's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The tool.
    pub tool: Tool,
    /// The words after its name.
    pub words: Vec<String>,
    /// kiln's own `--root`, if it was given before them.
    pub root: Option<PathBuf>,
    /// kiln's own `--debug`.
    pub is_debug: bool,
    /// The words that the user typed before them: `docker`, or `kiln docker`; `kiln` for its own
    /// commands.
    pub typed: String,
}

/// Returns the call of another tool, if the command line is one. `argv` begins with the program's
/// name.
pub fn choose(argv: &[OsString]) -> Option<Invocation> {
    let (program, rest) = argv.split_first()?;
    let name = Path::new(program).file_name()?.to_str()?;
    // Bytes that are not UTF-8 are no flag of any of these tools.
    let mut words: Vec<String> =
        rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (root, is_debug) = take_globals(&mut words, tool(name).is_some());
    let mut typed = name.to_owned();
    let (tool, before) = match tool(name) {
        Some(found) => {
            // `bake` alone is `buildx bake`.
            words.splice(0..0, (name == "bake").then(|| name.to_owned()));
            found
        }
        None => {
            let first = words.first()?;
            let found = tool(first).or_else(|| family(first))?;
            typed = "kiln".to_owned();
            if tool(first).is_some_and(|(_, before)| before.is_none()) {
                typed = format!("kiln {first}");
            }
            if first != "bake" {
                words.remove(0);
            }
            found
        }
    };
    // docker starts its plugin as `docker-buildx buildx build`.
    let is_plugin = before == Some("buildx") && words.first().is_some_and(|word| word == "buildx");
    if let Some(before) = before.filter(|_| !is_plugin) {
        words.insert(0, before.into());
    }
    if matches!(typed.as_str(), "buildx" | "docker-buildx" | "bake") {
        // Users type the plugin as a command of docker.
        typed = "docker".to_owned();
    }
    Some(Invocation { tool, words, root, is_debug, typed })
}

/// The tool that a program's name stands for, and the command that the name implies.
fn tool(name: &str) -> Option<(Tool, Option<&'static str>)> {
    Some(match name {
        "docker" => (Tool::Docker, None),
        "bake" => (Tool::Docker, Some("buildx")),
        "buildx" | "docker-buildx" => (Tool::Docker, Some("buildx")),
        "executor" | "kaniko-executor" | "kaniko" => (Tool::Executor, None),
        "buildctl" | "buildctl-daemonless.sh" => (Tool::Buildctl, None),
        "makisu" => (Tool::Makisu, None),
        "warmer" | "kaniko-warmer" => (Tool::Warmer, None),
        "dockerd" => (Tool::Dockerd, None),
        "dockerd-entrypoint.sh" => (Tool::DockerdEntrypoint, None),
        "buildkitd" => (Tool::Buildkitd, None),
        _ => return None,
    })
}

/// docker's commands that `kiln` has under the same name.
fn family(word: &str) -> Option<(Tool, Option<&'static str>)> {
    const FAMILIES: [&str; 6] = ["builder", "image", "load", "manifest", "save", "system"];
    let word = FAMILIES.iter().find(|family| **family == word)?;
    Some((Tool::Docker, Some(word)))
}

/// Removes kiln's own flags from the front of the words. When kiln executes itself again in a
/// namespace, it puts `--root=` there, under any name.
fn take_globals(words: &mut Vec<String>, is_named: bool) -> (Option<PathBuf>, bool) {
    let (mut root, mut is_debug) = (None, false);
    while let Some(word) = words.first() {
        if let Some(path) = word.strip_prefix("--root=") {
            root = Some(path.into());
            words.remove(0);
        } else if is_named {
            break;
        } else if word == "--root" && words.len() > 1 {
            root = Some(words.remove(1).into());
            words.remove(0);
        } else if word == "--debug" || word == "-D" {
            is_debug = true;
            words.remove(0);
        } else {
            break;
        }
    }
    (root, is_debug)
}

/// Runs another tool's command line. `dispatch` runs kiln's own commands, which the tools have under
/// other names.
///
/// # Errors
/// If it fails; the report has the tool's exit code.
pub fn run(invocation: Invocation, dispatch: Dispatch) -> Result<(), Report> {
    let environment = Environment::of_process();
    let result = match invocation.tool {
        Tool::Docker => docker::run(&invocation, environment, dispatch),
        Tool::Executor => kaniko::run(&invocation, environment),
        Tool::Buildctl => buildctl::run(&invocation, environment, dispatch),
        Tool::Makisu => makisu::run(&invocation, environment, dispatch),
        Tool::Warmer => kaniko::run_warmer(&invocation, environment),
        Tool::Dockerd | Tool::DockerdEntrypoint | Tool::Buildkitd => {
            daemon::run(&invocation, environment)
        }
    };
    result.map_err(|report| Report {
        message: invocation.as_typed(&report.message),
        hint: report.hint.as_deref().map(|hint| invocation.as_typed(hint)),
        ..report
    })
}

impl Invocation {
    /// Replaces kiln's commands in a text by those that were typed, as far as the tool has them.
    fn as_typed(&self, text: &str) -> String {
        let has = |command: &str| match self.tool {
            Tool::Docker => docker::has(command),
            Tool::Executor => command == "login",
            Tool::Warmer
            | Tool::Buildctl
            | Tool::Makisu
            | Tool::Dockerd
            | Tool::DockerdEntrypoint
            | Tool::Buildkitd => false,
        };
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("kiln ") {
            let (before, after) = rest.split_at(at);
            let command = after["kiln ".len()..].split([' ', '`']).next().unwrap_or_default();
            let is_command = before.ends_with('`') || before.ends_with("usage: ");
            out.push_str(before);
            out.push_str(if is_command && has(command) { &self.typed } else { "kiln" });
            rest = &after["kiln".len()..];
        }
        out + rest
    }

    /// The settings of the environment, which the tool may have changed.
    ///
    /// # Errors
    /// The errors of [`Settings::read`].
    pub fn settings(&self, environment: &Environment) -> Result<Settings, Report> {
        let is_superuser = rustix::process::geteuid().is_root();
        Ok(Settings::read(environment, self.root.as_deref(), is_superuser)?)
    }
}

/// Prints notes on flags without effect.
pub fn say_notes(notes: &[String]) {
    for note in notes {
        terminal::say(&format!("NOTE: {note}\n"));
    }
}

/// Prints the help of a command and ends it.
pub fn helped(text: &str) -> Result<(), Report> {
    terminal::print(text)
}

/// The report of a wrong command line, with the tool's exit code.
pub fn usage(message: impl Into<String>, hint: Option<String>, code: u8) -> Report {
    Report { hint, code: Some(code), ..Report::from(message.into()) }
}

/// The only operand.
pub fn one<'g>(given: &'g flags::ParsedFlags, what: &str) -> Result<&'g str, Report> {
    match given.operands.as_slice() {
        [only] => Ok(only),
        others => Err(usage(format!("it takes {what}, and not {}", others.len()), None, 1)),
    }
}

/// Reads words as `kiln` reads those after its name: a command. `code` is the exit code for an
/// unknown flag.
///
/// # Errors
/// If a flag is wrong. After help was asked for and printed, the report has no text.
pub fn own_command(words: &[String], code: u8) -> Result<Command, Report> {
    let words = std::iter::once("kiln").chain(words.iter().map(String::as_str));
    match Cli::try_parse_from(words) {
        Ok(cli) => Ok(cli.command),
        Err(error) if !error.use_stderr() => {
            terminal::print(&error.to_string())?;
            Err(Report { code: Some(0), ..Report::default() })
        }
        Err(error) => {
            // docker has an exit code of its own for unknown flags.
            let is_unknown = error.kind() == clap::error::ErrorKind::UnknownArgument;
            let (message, hint) = refused(&error);
            Err(usage(message, hint, if is_unknown { code } else { 1 }))
        }
    }
}

/// clap's message in one line, with the usage as a hint.
fn refused(error: &clap::Error) -> (String, Option<String>) {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    let (message, hint) = match text.split_once("\n\nUsage:") {
        Some((message, usage)) => {
            let usage = usage.split("\n\n").next().unwrap_or_default().trim();
            (message, Some(format!("usage: {usage}")))
        }
        None => (text, None),
    };
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && word.starts_with('-')
    {
        return (format!("unknown flag: {word}"), hint);
    }
    // clap's tips are for a shell, and stand on lines of their own.
    let message = message.split("\n\n").next().unwrap_or_default();
    (message.split_whitespace().collect::<Vec<_>>().join(" "), hint)
}

/// Reads the words of `kiln build`, without the command itself.
///
/// # Errors
/// The errors of [`own_command`].
pub fn build_args(words: Vec<String>, code: u8) -> Result<Box<BuildArgs>, Report> {
    let mut all = vec!["build".to_owned()];
    all.extend(words);
    match own_command(&all, code)? {
        Command::Build(args) => Ok(args),
        _ => Err("`build` was read as another command".to_owned().into()),
    }
}

/// `--flag=value`, so that a value may begin with a dash.
pub fn word(flag: &str, value: &str) -> String {
    format!("--{flag}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(line: &str) -> Option<(Tool, String)> {
        let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        choose(&words).map(|invocation| (invocation.tool, invocation.words.join(" ")))
    }

    #[test]
    fn names_choose_the_tool() {
        for (line, tool, words) in [
            ("/usr/bin/docker build .", Tool::Docker, "build ."),
            ("docker --root=/r info", Tool::Docker, "info"),
            ("docker-buildx buildx build .", Tool::Docker, "buildx build ."),
            ("buildx build .", Tool::Docker, "buildx build ."),
            ("kiln docker push x", Tool::Docker, "push x"),
            ("kiln --root /r -D buildx ls", Tool::Docker, "buildx ls"),
            ("/kaniko/executor --root=/r -d x", Tool::Executor, "-d x"),
            ("kiln kaniko -d x", Tool::Executor, "-d x"),
            ("kiln image ls", Tool::Docker, "image ls"),
            ("kiln bake --print app", Tool::Docker, "buildx bake --print app"),
            ("/bin/bake app", Tool::Docker, "buildx bake app"),
            ("./anything save x", Tool::Docker, "save x"),
        ] {
            assert_eq!(chosen(line), Some((tool, words.into())), "{line}");
        }
        for line in ["kiln", "kiln build .", "kiln --root /docker images", "kiln push docker"] {
            assert_eq!(chosen(line), None, "{line}");
        }
    }

    #[test]
    fn hints_name_what_was_typed() {
        let text =
            "`kiln images` lists; `kiln tag` names; `kiln check` checks, and so does kiln build";
        for (line, expected) in [
            (
                "docker push x",
                "`docker images` lists; `docker tag` names; `kiln check` checks, and so does kiln build",
            ),
            (
                "/x/docker-buildx buildx ls",
                "`docker images` lists; `docker tag` names; `kiln check` checks, and so does kiln build",
            ),
            (
                "kiln docker push x",
                "`kiln docker images` lists; `kiln docker tag` names; `kiln check` checks, and so does kiln build",
            ),
            ("kiln image ls", text),
            ("kiln bake", text),
            ("executor -d x", text),
        ] {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(choose(&words).unwrap().as_typed(text), expected, "{line}");
        }
        let executor = choose(&["executor".into(), "x".into()]).unwrap();
        assert_eq!(executor.as_typed("`kiln login HOST` opens"), "`executor login HOST` opens");
        let docker = choose(&["docker".into()]).unwrap();
        assert_eq!(docker.as_typed("usage: kiln build [OPTIONS]"), "usage: docker build [OPTIONS]");
    }
}
