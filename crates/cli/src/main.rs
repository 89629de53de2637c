//! The command line: argv in, exit code out.
//!
//! Reads flags and the environment into typed values once, here; hands a request to `build` and
//! prints what comes back. Nothing else in kiln prints, reads the environment or exits.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod human;
mod machine;
mod progress;
mod render;
mod settings;
mod terminal;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use render::Report;
use settings::{Environment, Settings};

fn main() -> ExitCode {
    // A container's init process is this binary too.
    runtime::init_if_asked();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; what is wrong ends as docker's commands do.
            drop(error.print());
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            // Where standard error is closed, the exit code still tells.
            drop(std::io::stderr().write_all(report.text().as_bytes()));
            ExitCode::from(report.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Report> {
    let command = cli.command.canonical()?;
    match command {
        Command::Version => return print(commands::version::text().as_bytes()),
        Command::Completion(args) => return print(&commands::completion::text(&args)),
        _ => (),
    }
    let environment = Environment::of_process();
    let is_superuser = rustix::process::geteuid().is_root();
    let settings = Settings::read(&environment, cli.global.root.as_deref(), is_superuser)?;
    match command {
        Command::Build(args) => commands::build::run(&args, &environment, &settings),
        _ => Err("this command is not connected yet".to_owned().into()),
    }
}

/// Prints to standard output; a reader that went away (`kiln … | head`) is no failure.
fn print(text: &[u8]) -> Result<(), Report> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("writing standard output: {error}").into())
        }
        _ => Ok(()),
    }
}
