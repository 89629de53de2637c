//! The cost of a system call that names a path and is checked by the supervisor of `--isolation=chroot`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fixtures::{Access, DockerRegistry, Kiln};

use crate::table::Table;
use crate::tools;

/// Calls of a run: enough to make the cost of starting it negligible.
const CALLS: u32 = 100_000;

/// Measures each kind of call and prints them.
pub fn run(runs: usize) -> Result<()> {
    let registry = DockerRegistry::start(Access::Open)?;
    registry.put_busybox()?;
    let kiln = Kiln::new(tools::release_binary()?);
    let place = tempfile::tempdir().context("a temporary folder")?;
    let mut table = Table::new(&["a call (stat)", "namespaces", "chroot", "the supervisor's part"]);
    for (name, path, user) in [
        ("of a file, absolute", "/bin/sh", "root"),
        ("of a file, relative", "bin/sh", "root"),
        ("of a file, relative, as another user", "bin/sh", "4242"),
        ("of what is served", "/proc/version", "root"),
    ] {
        let build = |isolation: &str, calls: u32| {
            let calls = Calls { isolation, user, path, count: calls };
            let times = (0..runs).map(|_| time(&kiln, &registry, place.path(), &calls));
            let mut times = times.collect::<Result<Vec<Duration>>>()?;
            times.sort();
            anyhow::Ok(times[times.len() / 2])
        };
        let per_call = |isolation: &str| {
            let (all, none) = (build(isolation, CALLS)?, build(isolation, 0)?);
            anyhow::Ok(all.saturating_sub(none).as_secs_f64() * 1e6 / f64::from(CALLS))
        };
        let (plain, supervised) = (per_call("namespaces")?, per_call("chroot")?);
        table.row(vec![
            name.to_owned(),
            format!("{plain:.1} µs"),
            format!("{supervised:.1} µs"),
            format!("{:.1} µs", supervised - plain),
        ]);
    }
    table.print();
    println!();
    Ok(())
}

/// The calls of a build's command.
struct Calls<'a> {
    isolation: &'a str,
    user: &'a str,
    /// The path that is tested for existence.
    path: &'a str,
    count: u32,
}

/// The time of a build whose command makes the calls.
fn time(
    kiln: &Kiln,
    registry: &DockerRegistry,
    place: &Path,
    calls: &Calls<'_>,
) -> Result<Duration> {
    let Calls { isolation, user, path, count } = calls;
    let dockerfile = format!(
        "FROM {}/library/busybox\nUSER {user}\nRUN i=0; while [ $i -lt {count} ]; do [ -e {path} ]; i=$((i+1)); done\n",
        registry.host()
    );
    std::fs::write(place.join("Dockerfile"), dockerfile).context("a Dockerfile")?;
    let context = place.display().to_string();
    let run = kiln.run(["build", "--no-cache", "--isolation", isolation, &context]);
    if !run.ok() {
        bail!("--isolation={isolation}: {}", run.stderr);
    }
    Ok(run.time)
}
