//! All checks that must pass before a change is committed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use crate::tally::{self, Tally};
use crate::{check_layers, ordinary_user, packages, tools, torture};

/// Packages that tests use.
const WANTED: &[packages::Needed] = &[
    packages::REGISTRY,
    packages::BUSYBOX,
    packages::SKOPEO,
    packages::UMOCI,
    packages::GIT,
    packages::SSH,
    packages::SSHD,
    packages::MMDEBSTRAP,
    packages::DOCKERD,
    packages::RSYNC,
    packages::REDIS,
    packages::NODE,
    packages::NPM,
    packages::PYTHON,
    packages::VENV,
    packages::COMPOSE,
    packages::MKE2FS,
];

/// A run of all test programs by one user.
struct Pass {
    user: String,
    tally: Tally,
    /// The first command that failed.
    result: Result<()>,
}

pub fn run(_: &[String]) -> Result<()> {
    let started = Instant::now();
    if let Err(error) = packages::need(WANTED) {
        eprintln!("{error:#}\nwithout them some tests skip");
    }
    step("format");
    tools::run(&mut tools::cargo(["fmt", "--all", "--", "--check"]))?;
    step("layers");
    check_layers::run(&[])?;
    step("lints");
    tools::run(&mut tools::cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("tests");
    let mut passes = vec![as_this_user()];
    if fixtures::is_root() {
        let user = ordinary_user::user();
        step(&format!("tests as {user}"));
        passes.push(as_ordinary_user(user));
    }
    step("torture");
    let torture = short_torture();
    step("docs");
    let mut docs = tools::cargo(["doc", "--workspace", "--no-deps"]);
    let docs = tools::run(docs.env("RUSTDOCFLAGS", "-D warnings"));
    close(&passes, started);
    passes.into_iter().try_for_each(|pass| pass.result)?;
    torture.and(docs)
}

/// Runs [`torture`] for about half a minute: each kind of work at least once.
fn short_torture() -> Result<()> {
    if !fixtures::is_root() {
        println!("left out: torture: it needs root");
        return Ok(());
    }
    torture::run(&["--minutes", "0.4"].map(str::to_owned))
}

/// Prints the results. The last line but one has the numbers and nothing else.
fn close(passes: &[Pass], started: Instant) {
    println!();
    for pass in passes {
        pass.tally.print(&pass.user);
    }
    for pass in passes {
        println!("as {}: {}", pass.user, tally::sum([&pass.tally].into_iter()));
    }
    println!("{}", tally::sum(passes.iter().map(|pass| &pass.tally)));
    println!("{:.0} s", started.elapsed().as_secs_f64());
}

fn step(name: &str) {
    println!("\n== {name}");
}

fn as_this_user() -> Pass {
    let mut tally = Tally::default();
    let result = watch(&mut tally, &mut tools::cargo(["test", "--workspace", "--no-fail-fast"]));
    let user = if fixtures::is_root() { "root" } else { "this user" };
    Pass { user: user.into(), tally, result }
}

/// Runs the test programs again, without privileges.
fn as_ordinary_user(user: String) -> Pass {
    let mut tally = Tally::default();
    let result = ordinary_user::programs().and_then(|programs| {
        let own = |name: &str| matches!(name, "dev" | "fixtures");
        let programs = programs.iter().filter(|program| !own(&program.name));
        let results: Vec<_> = programs.map(|program| with_home(program, &mut tally)).collect();
        results.into_iter().collect()
    });
    Pass { user, tally, result }
}

fn with_home(program: &ordinary_user::Program, tally: &mut Tally) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().context("a home")?;
    tools::quietly(Command::new("chown").arg(ordinary_user::user()).arg(home.path()))?;
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700))
        .context("a home")?;
    println!("{}", shown(&program.file));
    watch(tally, &mut ordinary_user::command(program, home.path())?)
}

fn shown(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs test programs, prints their output and counts the results.
fn watch(tally: &mut Tally, command: &mut Command) -> Result<()> {
    let name = tools::describe(command);
    let doing = || format!("`{name}`");
    // Both streams through one pipe, since skips are reported on standard error.
    let (reader, writer) = std::io::pipe().with_context(doing)?;
    command.stdout(writer.try_clone().with_context(doing)?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().with_context(doing)?;
    // The command keeps its ends of the pipe open, so the reader would never see its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.with_context(doing)?;
        let line = String::from_utf8_lossy(&line);
        drop(writeln!(std::io::stdout(), "{line}"));
        tally.count(&line);
    }
    let status = child.wait().with_context(doing)?;
    if status.success() { Ok(()) } else { Err(anyhow!("`{name}` ended with {status}")) }
}
