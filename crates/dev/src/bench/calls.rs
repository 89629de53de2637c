//! The cost of a system call that names a path and is checked by the supervisor of `--isolation=chroot`.

use std::time::Duration;

use fixtures::{Access, DockerRegistry, Kiln};

use crate::table::Table;
use crate::tools;

/// Calls of a run: enough to make the cost of starting it negligible.
const CALLS: u32 = 100_000;

/// Measures each kind of call and prints them.
pub fn run(runs: usize) -> Result<(), String> {
    let registry = DockerRegistry::start(Access::Open)?;
    registry.put_busybox()?;
    let kiln = Kiln::new(tools::release_binary()?);
    let place = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let mut table = Table::new(&["a call (stat)", "namespaces", "chroot", "the supervisor's part"]);
    for (name, path, user) in [
        ("of a file, absolute", "/bin/sh", "root"),
        ("of a file, relative", "bin/sh", "root"),
        ("of a file, relative, as another user", "bin/sh", "4242"),
        ("of what is served", "/proc/version", "root"),
    ] {
        let build = |isolation: &str, calls: u32| {
            let times: Result<Vec<Duration>, String> = (0..runs)
                .map(|_| time(&kiln, &registry, place.path(), (isolation, user, path, calls)))
                .collect();
            let mut times = times?;
            times.sort();
            Ok::<_, String>(times[times.len() / 2])
        };
        let per_call = |isolation: &str| {
            let (all, none) = (build(isolation, CALLS)?, build(isolation, 0)?);
            Ok::<_, String>(all.saturating_sub(none).as_secs_f64() * 1e6 / f64::from(CALLS))
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

/// The time of a build whose command tests `calls` times for the existence of a path.
fn time(
    kiln: &Kiln,
    registry: &DockerRegistry,
    place: &std::path::Path,
    (isolation, user, path, calls): (&str, &str, &str, u32),
) -> Result<Duration, String> {
    let dockerfile = format!(
        "FROM {}/library/busybox\nUSER {user}\nRUN i=0; while [ $i -lt {calls} ]; do [ -e {path} ]; i=$((i+1)); done\n",
        registry.host()
    );
    std::fs::write(place.join("Dockerfile"), dockerfile)
        .map_err(|error| format!("a Dockerfile: {error}"))?;
    let context = place.display().to_string();
    let run = kiln.run(["build", "--no-cache", "--isolation", isolation, &context]);
    match run.ok() {
        true => Ok(run.time),
        false => Err(format!("--isolation={isolation}: {}", run.stderr)),
    }
}
