//! `cargo dev <name>`: the list of developer commands, each in its own file.

#![forbid(unsafe_code)]

mod bench;
mod check_layers;
mod conformance;
mod demo;
#[cfg(test)]
mod hidden_skips;
mod images;
mod ordinary_user;
mod packages;
mod table;
mod tally;
mod test;
mod tools;
mod torture;

use std::process::ExitCode;

use anyhow::Result;

/// A command: its name, its description and its function.
type Command = (&'static str, &'static str, fn(&[String]) -> Result<()>);

const COMMANDS: &[Command] = &[
    (
        "demo",
        "build, push and be warm: examples/shop against a registry, three times from nothing",
        demo::run,
    ),
    ("test", "format, layers, lints, tests as root and as an ordinary user, docs", test::run),
    (
        "bench",
        "kiln beside dockerd, buildah and buildkitd  [--only WORK|TOOL,…] [--runs N]",
        bench::run,
    ),
    (
        "conformance",
        "build the recorded images and compare  [--kiln FILE] [--verbose] [NAME…]",
        conformance::run,
    ),
    (
        "torture",
        "kill, starve and crowd kiln, and compare  [--minutes N] [--seed N] [--only WORK,…] [--kiln FILE]",
        torture::run,
    ),
    ("images", "kiln's own images, as archives in target/images  [FOLDER]", images::run),
    (
        "check-layers",
        "compare the crates' dependencies with the table in Cargo.toml",
        check_layers::run,
    ),
    ("help", "this list", help),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) =
        args.split_first().map_or(("help", &[][..]), |(name, rest)| (name.as_str(), rest));
    let Some((_, _, command)) = COMMANDS.iter().find(|(known, _, _)| *known == name) else {
        eprintln!("cargo dev: there is no command `{name}`; `cargo dev help` lists them");
        return ExitCode::FAILURE;
    };
    match command(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo dev {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn help(_: &[String]) -> Result<()> {
    println!("cargo dev <name>\n");
    for (name, about, _) in COMMANDS {
        println!("  {name:14}{about}");
    }
    Ok(())
}
