//! The command line: argv in, exit code out.
//!
//! Reads flags and the environment into typed values once, here; hands a request to `build` and
//! prints the result. Nothing else in kiln prints, reads the environment or exits.

#![forbid(unsafe_code)]

mod args;
mod checkout;
mod commands;
mod facts;
mod human;
mod isolation;
mod logging;
mod machine;
mod personalities;
mod progress;
mod render;
mod serve;
mod settings;
mod terminal;
mod threads;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use commands::{
    build, cache, check, completion, du, history, images, inspect, login, prune, rmi, tag,
    transfer, version,
};
use render::{Look, Report};
use settings::{Environment, Settings};

fn main() -> ExitCode {
    // A container's init process is this binary too.
    runtime::init_if_asked();
    runtime::share_heaps();
    let words = with_help(std::env::args_os().collect());
    let log = |is_debug| logging::start(&Environment::of_process(), is_debug).map_err(Report::from);
    let (result, is_debug) = match personalities::choose(&words) {
        Some(invocation) => {
            let is_debug = invocation.is_debug;
            (log(is_debug).and_then(|()| personalities::run(invocation, dispatch)), is_debug)
        }
        None => match Cli::try_parse_from(words) {
            Ok(cli) => {
                let is_debug = cli.global.debug;
                (log(is_debug).and_then(|()| run(cli)), is_debug)
            }
            Err(error) => {
                // Help and version are not errors; a wrong command line has the exit code of
                // docker's commands.
                drop(error.print());
                return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(mut report) => {
            if is_debug {
                report.message.push_str(&machine::description());
            }
            // If standard error is closed, the exit code still reports the failure.
            let look = match report.plain {
                true => Look::Plain,
                false => settings::look(&Environment::of_process(), terminal::stderr_is_terminal()),
            };
            drop(std::io::stderr().write_all(report.text(look).as_bytes()));
            ExitCode::from(report.exit_code())
        }
    }
}

/// Rewrites `kiln help build` to `kiln build --help`, a form that other tools have too.
fn with_help(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") && personalities::choose(&words).is_none() {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

fn run(cli: Cli) -> Result<(), Report> {
    let environment = Environment::of_process();
    match &cli.command {
        // These need no settings, which require a home.
        Command::Version => terminal::print(&version::text()),
        Command::Completion(args) => terminal::print(&completion::text(args)),
        command => {
            let is_superuser = rustix::process::geteuid().is_root();
            let settings = Settings::read(&environment, cli.global.root.as_deref(), is_superuser)?;
            dispatch(command, &environment, &settings)
        }
    }
}

/// Runs a command. Other tools' command lines have some of them too.
///
/// # Errors
/// If the command fails.
fn dispatch(
    command: &Command,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    let store = || machine::open_store(settings, &machine::rise(settings));
    match command {
        Command::Build(args) => build::run(args, environment, settings),
        Command::Check(args) => check::run(args, environment, settings),
        Command::Login(args) => login::run(args, environment, settings),
        Command::Logout(args) => login::run_logout(args, environment, settings),
        Command::Push(args) => transfer::push(args, environment, settings),
        Command::Pull(args) => transfer::pull(args, environment, settings),
        Command::Tag(args) => tag::run(args, &store()?),
        Command::Images(args) => images::run(args, &store()?),
        Command::Rmi(args) => rmi::run(args, &store()?),
        Command::Inspect(args) => inspect::run(args, &store()?),
        Command::History(args) => history::run(args, &store()?),
        Command::Cache(command) => cache::run(command, environment, settings),
        Command::Du(args) => du::run(args, &store()?),
        Command::Prune(args) => prune::run(args, &store()?),
        Command::Serve(args) => commands::serve::run(args, environment, settings),
        Command::Completion(args) => terminal::print(&completion::text(args)),
        Command::Version => terminal::print(&version::text()),
    }
}
