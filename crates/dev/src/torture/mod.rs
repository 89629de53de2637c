//! `cargo dev torture`: kiln is killed, starved of resources and run concurrently, and its later results are compared
//! with those of undisturbed builds. It ends at the first [`Fault`].
//!
//! Two lanes run in parallel, one on this machine and one in containers of a separate daemon. All state is in one
//! temporary folder and one mount namespace, and removed with them.

mod build;
mod clock;
mod container;
mod crowd;
mod disk;
mod host;
mod kill;
mod memory;
mod processes;
mod project;
mod random;
mod traces;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use fixtures::{Access, DockerRegistry};

use self::build::World;
use self::random::Random;
use crate::{packages, tools};

/// Set in the process that has its own mount namespace.
const INSIDE: &str = "KILN_TORTURE_INSIDE";
/// Works of the lane on this machine.
const HERE: &[&str] = &["namespaces", "chroot", "disk", "read-only", "memory", "crowd", "clock"];
/// Works of the lane in containers.
const IN_CONTAINERS: &[&str] = &["container-chroot", "in-place"];

/// The reason why a torture ends early.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// kiln misbehaved.
    #[error("a lie: {0}")]
    Lie(String),
    /// The torture itself failed.
    #[error("cannot go on: {0:#}")]
    Trouble(anyhow::Error),
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Trouble(error)
    }
}

impl Fault {
    /// The same, of a part of the torture.
    fn during(self, part: &str) -> Self {
        match self {
            Self::Lie(text) => Self::Lie(format!("{part}: {text}")),
            Self::Trouble(error) => Self::Trouble(error.context(part.to_owned())),
        }
    }
}

/// A kind of work in a lane.
trait Work {
    fn round(&mut self, random: &mut Random, report: &Report) -> Result<(), Fault>;
}

/// Counts of kills, comparisons and refusals, by kind.
#[derive(Debug, Default)]
pub struct Report {
    counts: Mutex<BTreeMap<String, u64>>,
    longest: Mutex<BTreeMap<String, Duration>>,
    left_out: Mutex<BTreeMap<String, String>>,
}

impl Report {
    fn count(&self, what: &str) {
        *self.counts.lock().expect("no holder panics").entry(what.to_owned()).or_default() += 1;
    }

    fn took(&self, what: &str, time: Duration) {
        let mut longest = self.longest.lock().expect("no holder panics");
        let known = longest.entry(what.to_owned()).or_default();
        *known = time.max(*known);
    }

    fn leave_out(&self, what: &str, reason: &str) {
        let mut left_out = self.left_out.lock().expect("no holder panics");
        left_out.insert(what.to_owned(), reason.to_owned());
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let counts = self.counts.lock().expect("no holder panics");
        for (what, count) in counts.iter() {
            let _ = writeln!(text, "{count:7}  {what}");
        }
        for (what, time) in self.longest.lock().expect("no holder panics").iter() {
            let _ = writeln!(text, "{:6.2}s  at most: {what}", time.as_secs_f64());
        }
        for (what, reason) in self.left_out.lock().expect("no holder panics").iter() {
            let _ = writeln!(text, "left out: {what}: {reason}");
        }
        let sum = |end: &str| -> u64 {
            counts.iter().filter(|(what, _)| what.ends_with(end)).map(|(_, count)| count).sum()
        };
        let _ = writeln!(text, "{} kills, {} rebuilds compared", sum("killed"), sum("compared"));
        text
    }
}

/// The command-line arguments.
#[derive(Debug)]
struct Options {
    time: Duration,
    seed: u64,
    only: Vec<String>,
    kiln: PathBuf,
}

impl Options {
    fn read(args: &[String]) -> Result<Self> {
        let mut args = args.to_vec();
        let minutes = tools::take_value(&mut args, "--minutes")?;
        let minutes: f64 = minutes.as_deref().unwrap_or("10").parse().context("--minutes N")?;
        let seed = match tools::take_value(&mut args, "--seed")? {
            Some(seed) => seed.parse().context("--seed N: a whole number")?,
            None => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |since| since.as_secs()),
        };
        let only = tools::take_value(&mut args, "--only")?;
        let only: Vec<String> =
            only.iter().flat_map(|only| only.split(',')).map(str::to_owned).collect();
        let known = || HERE.iter().chain(IN_CONTAINERS);
        if let Some(name) = only.iter().find(|name| !known().any(|known| known == name)) {
            let known: Vec<&str> = known().copied().collect();
            bail!("--only {name}: there are {}", known.join(", "));
        }
        let kiln = tools::take_value(&mut args, "--kiln")?.map(PathBuf::from);
        if let Some(other) = args.first() {
            bail!("`{other}`: there are --minutes, --seed, --only and --kiln");
        }
        let kiln = match kiln {
            Some(kiln) => kiln,
            None => tools::debug_binary()?,
        };
        let kiln = kiln.canonicalize().with_context(|| format!("`{}`", kiln.display()))?;
        Ok(Self {
            time: Duration::from_secs_f64(minutes.clamp(0.01, 1e6) * 60.0),
            seed,
            only,
            kiln,
        })
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

pub fn run(args: &[String]) -> Result<()> {
    let options = Options::read(args)?;
    if !fixtures::is_root() {
        bail!("it kills, mounts and starts containers: run it as root");
    }
    packages::need(&[packages::REGISTRY, packages::BUSYBOX, packages::DOCKERD, packages::MKE2FS])?;
    if std::env::var_os(INSIDE).is_none() {
        return again_in_a_namespace(&options);
    }
    torture(&options)
}

/// Runs this program again in a private mount namespace, which takes its mounts along when it ends.
fn again_in_a_namespace(options: &Options) -> Result<()> {
    // Not by name: `cargo test --workspace` links this program anew, for the tests beside it, and the
    // one that runs has no name from then on.
    let own = format!("/proc/{}/exe", std::process::id());
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation=private"]).arg(own).arg("torture");
    command.args(["--minutes", &(options.time.as_secs_f64() / 60.0).to_string()]);
    command.args(["--seed", &options.seed.to_string()]).arg("--kiln").arg(&options.kiln);
    if !options.only.is_empty() {
        command.args(["--only", &options.only.join(",")]);
    }
    command.env(INSIDE, "1").env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"));
    let status = command.status().context("unshare")?;
    if status.success() { Ok(()) } else { Err(anyhow!("seed {}: see above", options.seed)) }
}

fn torture(options: &Options) -> Result<()> {
    println!("kiln: {}", options.kiln.display());
    println!("seed: {} (--seed {0} draws the same again)", options.seed);
    let started = Instant::now();
    let registry = DockerRegistry::start(Access::Open)?;
    registry.put_busybox()?;
    let world = World::new(&options.kiln, registry.host())?;
    let report = Report::default();
    // The undisturbed builds do not count as torture time.
    let deadline = Instant::now() + options.time;
    let stop = AtomicBool::new(false);
    let lane = |works: &[&'static str]| {
        let result = run_lane(works, &world, options, &report, &|| {
            stop.load(Ordering::Relaxed) || Instant::now() > deadline
        });
        stop.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    };
    let results = std::thread::scope(|scope| {
        let lanes = [HERE, IN_CONTAINERS].map(|works| scope.spawn(move || lane(works)));
        lanes.map(|lane| lane.join().unwrap_or_else(|_| Err(anyhow!("a lane panicked").into())))
    });
    print!("{}", report.text());
    println!("{:.0} s", started.elapsed().as_secs_f64());
    let faults: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|fault| fault.to_string()).collect();
    println!("{} faults", faults.len());
    if faults.is_empty() { Ok(()) } else { Err(anyhow!(faults.join("\n"))) }
}

/// Does the works of a lane in turn until the time is over, each at least once.
fn run_lane(
    names: &[&'static str],
    world: &World,
    options: &Options,
    report: &Report,
    is_over: &dyn Fn() -> bool,
) -> Result<(), Fault> {
    let mut works: Vec<(&'static str, Random, Box<dyn Work + '_>)> = Vec::new();
    let mut daemon = None;
    for name in names.iter().copied().filter(|name| options.wants(name)) {
        if let Some(work) = make(name, world, &mut daemon, report)? {
            works.push((name, Random::new(options.seed, name), work));
        }
    }
    for turn in 0_u64.. {
        for (name, random, work) in &mut works {
            if turn > 0 && is_over() {
                return Ok(());
            }
            // Kills are the main subject; the other works are slow.
            let is_kill =
                matches!(*name, "namespaces" | "chroot" | "container-chroot" | "in-place");
            if !is_kill && turn % 6 != 0 && options.only.is_empty() {
                continue;
            }
            let done = work.round(random, report);
            done.map_err(|fault| fault.during(&format!("{name}, turn {turn}")))?;
        }
        if works.is_empty() {
            break;
        }
    }
    Ok(())
}

fn make<'a>(
    name: &'static str,
    world: &'a World,
    daemon: &mut Option<std::rc::Rc<container::Daemon>>,
    report: &Report,
) -> Result<Option<Box<dyn Work + 'a>>, Fault> {
    Ok(Some(match name {
        "namespaces" | "chroot" => Box::new(kill::Kill::new(world, host::Host::new(world, name)?)),
        "container-chroot" | "in-place" => {
            if daemon.is_none() {
                *daemon = Some(std::rc::Rc::new(container::Daemon::start(world)?));
            }
            let Some(daemon) = daemon else { return Ok(None) };
            Box::new(kill::Kill::new(world, container::Ground::new(world, daemon.clone(), name)?))
        }
        "disk" => Box::new(disk::Disks::new(world)?),
        "read-only" => Box::new(disk::ReadOnly::new(world)?),
        "crowd" => Box::new(crowd::Crowd::new(world)?),
        "clock" => Box::new(clock::Clock::new(world)?),
        _ => match memory::Memory::new(world) {
            Ok(memory) => Box::new(memory),
            Err(fault) => {
                report.leave_out(name, &fault.to_string());
                return Ok(None);
            }
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_sums_kills_and_comparisons() {
        let report = Report::default();
        for what in [
            "chroot: kiln killed",
            "chroot: kiln killed",
            "in-place: both killed",
            "chroot: compared",
        ] {
            report.count(what);
        }
        report.took("x", Duration::from_secs(2));
        report.took("x", Duration::from_secs(1));
        report.leave_out("memory", "no cgroup");
        let text = report.text();
        for words in [
            "2  chroot: kiln killed",
            "2.00s  at most: x",
            "left out: memory: no cgroup",
            "3 kills, 1 rebuilds",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for args in [&["--only", "nothing"][..], &["--minutes", "x"], &["--seed", "-"], &["--fast"]]
        {
            let args: Vec<String> = args
                .iter()
                .map(|arg| (*arg).to_owned())
                .chain(["--kiln".into(), "/bin/sh".into()])
                .collect();
            assert!(Options::read(&args).is_err(), "{args:?}");
        }
    }
}
