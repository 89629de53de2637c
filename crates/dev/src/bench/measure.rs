//! Measurement of one run from outside: the clock, the registry's log and blobs, and /proc.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use fixtures::DockerRegistry;

use super::peers::Tool;

/// The cost of a run.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Wall-clock time of all commands.
    pub time: Duration,
    /// Requests to the registry.
    pub requests: usize,
    /// Bytes of the registry's response bodies.
    pub down: u64,
    /// Bytes by which the registry's blobs grew.
    pub up: u64,
    /// The largest sum of the memory of the tool's processes, its daemon's included, in bytes.
    pub peak_memory: u64,
}

/// Runs a tool's commands on a context.
pub fn measure(tool: &dyn Tool, registry: &DockerRegistry, context: &Path) -> Result<Measurement> {
    let (asked, stored) = (registry.log().len(), registry.stored_bytes());
    let daemons = tool.daemons();
    let started = Instant::now();
    let mut peak_memory = 0;
    for mut command in tool.commands(registry.host(), context) {
        peak_memory = peak_memory.max(watch(&mut command, &daemons)?);
    }
    let time = started.elapsed();
    let log = registry.log().split_off(asked);
    Ok(Measurement {
        time,
        requests: log.len(),
        down: log.iter().map(|line| line.bytes).sum(),
        up: registry.stored_bytes().saturating_sub(stored),
        peak_memory,
    })
}

/// Runs a command and returns the peak of its memory, its daemons' included.
fn watch(command: &mut Command, daemons: &[u32]) -> Result<u64> {
    let name = crate::tools::describe(command);
    let doing = || format!("`{name}`");
    // To a file: a pipe without a reader would block the command.
    let log = tempfile::tempfile().with_context(doing)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().with_context(doing)?)
        .stderr(log.try_clone().with_context(doing)?);
    let mut child = command.spawn().with_context(doing)?;
    let roots = [&[child.id()], daemons].concat();
    let done = AtomicBool::new(false);
    let (status, peak) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(roots.iter().map(|pid| memory(*pid)).sum());
                std::thread::sleep(Duration::from_millis(15));
            }
            peak
        });
        let status = child.wait();
        done.store(true, Ordering::Relaxed);
        (status, sampler.join().unwrap_or(0))
    });
    let status = status.with_context(doing)?;
    if status.success() {
        return Ok(peak);
    }
    use std::io::{Read as _, Seek as _};
    let (mut log, mut text) = (log, String::new());
    drop(log.rewind().and_then(|()| log.read_to_string(&mut text)));
    let end: Vec<&str> = text.lines().rev().take(15).collect();
    let end = end.into_iter().rev().collect::<Vec<_>>().join("\n  ");
    Err(anyhow!("`{name}` ended with {status}\n  {end}"))
}

/// The peak resident memory of a process and its descendants. A container's processes count too:
/// they are children of the tool, and small in these benchmarks.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse::<u64>().ok()
    });
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: u64 = children
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .map(memory)
        .sum();
    own.unwrap_or(0) * 1024 + children
}
