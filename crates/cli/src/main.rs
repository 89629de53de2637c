//! The command line: argv in, exit code out.
//!
//! Reads flags and the environment into typed values once, here; hands a request to `build` and
//! prints the result. Nothing else in kiln prints, reads the environment or exits.

#![forbid(unsafe_code)]

mod args;
mod checkout;
mod commands;
mod human;
mod isolation;
mod logging;
mod machine;
mod personalities;
mod progress;
mod render;
mod settings;
mod terminal;
mod threads;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use render::{Look, Report};
use settings::{Environment, Settings};

fn main() -> ExitCode {
    // A container's init process is this binary too.
    runtime::init_if_asked();
    runtime::share_heaps();
    let words = with_help(std::env::args_os().collect());
    let log = |is_debug| {
        logging::start(&Environment::of_process(), is_debug)
            .map_err(|error| Report::from(error.to_string()))
    };
    let (result, is_debug) = match personalities::choose(&words) {
        Some(invocation) => {
            let is_debug = invocation.is_debug;
            (log(is_debug).and_then(|()| personalities::run(invocation)), is_debug)
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
    let settings = || {
        let is_superuser = rustix::process::geteuid().is_root();
        Settings::read(&environment, cli.global.root.as_deref(), is_superuser)
    };
    match &cli.command {
        // These need no settings, which require a home.
        Command::Version | Command::Completion(_) => (),
        command => return commands::dispatch(command, &environment, &settings()?),
    }
    match &cli.command {
        Command::Completion(args) => terminal::print(&commands::completion::text(args)),
        _ => terminal::print(&commands::version::text()),
    }
}
