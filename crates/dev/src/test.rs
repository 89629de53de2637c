//! Everything that is to hold before a change goes in.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{check_layers, ordinary_user, packages, tools};

/// What came of test programs.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
}

pub fn run(_: &[String]) -> Result<(), String> {
    let started = Instant::now();
    let wanted = [
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
    ];
    if let Err(error) = packages::need(&wanted) {
        eprintln!("{error}\nwithout them some tests skip");
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
    let mut tally = Tally::default();
    tally.watch(&mut tools::cargo(["test", "--workspace", "--no-fail-fast"]))?;
    let again = as_ordinary_user()?;
    step("docs");
    let mut docs = tools::cargo(["doc", "--workspace", "--no-deps"]);
    tools::run(docs.env("RUSTDOCFLAGS", "-D warnings"))?;

    println!();
    for line in &tally.skipped {
        println!("{line}");
    }
    let mut closing = format!("{} tests passed, {} skipped", tally.passed, tally.skipped.len());
    if let Some(again) = again {
        for line in &again.skipped {
            println!("{line} (as {})", ordinary_user::user());
        }
        closing.push_str(&format!(
            "; as {}: {} passed, {} skipped",
            ordinary_user::user(),
            again.passed,
            again.skipped.len(),
        ));
    }
    println!("all is well: {closing}; {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn step(name: &str) {
    println!("\n== {name}");
}

/// Runs the test programs once more without privileges, where this is root.
fn as_ordinary_user() -> Result<Option<Tally>, String> {
    use std::os::unix::fs::PermissionsExt as _;
    if !fixtures::is_root() {
        return Ok(None);
    }
    step(&format!("tests as {}", ordinary_user::user()));
    let mut tally = Tally::default();
    for program in ordinary_user::programs()? {
        if matches!(program.name.as_str(), "dev" | "fixtures") {
            continue;
        }
        let home = tempfile::tempdir().map_err(|error| format!("a home: {error}"))?;
        let user = ordinary_user::user();
        tools::quietly(Command::new("chown").arg(&user).arg(home.path()))?;
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700))
            .map_err(|error| format!("a home: {error}"))?;
        println!("{}", shown(&program.file));
        tally.watch(&mut ordinary_user::command(&program, home.path())?)?;
    }
    Ok(Some(tally))
}

fn shown(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Tally {
    /// Runs test programs, shows what they print, and counts.
    fn watch(&mut self, command: &mut Command) -> Result<(), String> {
        let name = tools::describe(command);
        let error = |error: std::io::Error| format!("`{name}`: {error}");
        // Both streams through one pipe: a skip is told on standard error.
        let (reader, writer) = std::io::pipe().map_err(error)?;
        command.stdout(writer.try_clone().map_err(error)?).stderr(writer).stdin(Stdio::null());
        let mut child = command.spawn().map_err(error)?;
        // The command keeps its ends of the pipe open: without this the reader would wait for ever.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.map_err(error)?;
            let line = String::from_utf8_lossy(&line);
            drop(writeln!(std::io::stdout(), "{line}"));
            self.count(&line);
        }
        let status = child.wait().map_err(error)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("`{name}` ended with {status}; {} tests failed", self.failed))
        }
    }

    fn count(&mut self, line: &str) {
        if let Some(at) = line.find("skipped: ") {
            self.skipped.push(line[at..].to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let number = |word: &str| {
            let part = result.split([';', '.']).find(|part| part.trim().ends_with(word));
            part.and_then(|part| part.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut tally = Tally::default();
        tally.count("test result: ok. 6 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.18s");
        tally.count("test a ... skipped: a: no root");
        assert_eq!((tally.passed, tally.failed), (6, 1));
        assert_eq!(tally.skipped, ["skipped: a: no root"]);
    }
}
