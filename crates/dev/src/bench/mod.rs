//! Benchmarks of kiln and its peers: the same builds, the same registry, empty state for every run.

mod calls;
mod measure;
mod peers;
mod projects;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fixtures::{Access, DockerRegistry};
use serde_json::{Value, json};

use crate::table::{Table, bytes};
use crate::{packages, tools};
use measure::Measurement;
use peers::Tool;
use projects::Project;

/// The name of the system call benchmark in `--only`.
const CALLS: &str = "calls";

pub fn run(args: &[String]) -> Result<()> {
    let mut args = args.to_vec();
    let only = tools::take_value(&mut args, "--only")?.unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|word| !word.is_empty()).collect();
    let runs = match tools::take_value(&mut args, "--runs")? {
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|runs| *runs > 0)
            .context("`--runs` needs a number")?,
        None => 3,
    };
    let json = tools::take_value(&mut args, "--json")?;
    let mut rows = Vec::new();
    if let Some(unknown) = args.first() {
        bail!("`{unknown}` is no option of bench");
    }
    packages::need(&[packages::REGISTRY, packages::BUSYBOX])?;
    let mut tools = peers::installed(tools::release_binary()?)?;
    let place = tempfile::tempdir().context("a temporary folder")?;
    let wanted = |name: &str, known: &[&str]| {
        let chosen: Vec<_> = only.iter().filter(|word| known.contains(word)).collect();
        let is_short = !Project::LONG.contains(&name);
        chosen.is_empty() && is_short || chosen.iter().any(|word| **word == name)
    };
    let names: Vec<&str> = tools.iter().map(|tool| tool.name()).collect();
    let projects = Project::NAMES;
    if let Some(unknown) = only
        .iter()
        .find(|word| !names.contains(word) && !projects.contains(word) && **word != CALLS)
    {
        bail!(
            "`{unknown}` is neither of {}, {CALLS} nor of {}",
            projects.join(", "),
            names.join(", ")
        );
    }
    println!("works: {}; tools: {}; median of {runs}\n", projects.join(", "), names.join(", "));
    let known = names.clone();
    tools.retain(|tool| wanted(tool.name(), &known));
    let projects_wanted = only != [CALLS];
    for name in projects.iter().filter(|name| projects_wanted && wanted(name, projects)) {
        let project = Project::make(name, place.path())?;
        let mut results = Results::default();
        for tool in &mut tools {
            for number in 0..runs {
                if let Err(error) = results.try_tool(tool.as_mut(), &project, number) {
                    println!("{} on {name}: {error:#}", tool.name());
                    break;
                }
            }
        }
        results.print();
        rows.extend(results.rows());
        project.remove();
    }
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&rows)?;
        std::fs::write(&file, text + "\n").with_context(|| format!("`{file}`"))?;
    }
    let is_wanted = only.is_empty() || only.contains(&CALLS);
    if is_wanted { calls::run(runs) } else { Ok(()) }
}

/// Measurements by work and tool.
#[derive(Default)]
struct Results(BTreeMap<(usize, String), BTreeMap<String, Vec<Measurement>>>);

impl Results {
    /// Measures a cold build, one without changes and, if the project has one, one with a changed
    /// file, each on empty state.
    fn try_tool(&mut self, tool: &mut dyn Tool, project: &Project, number: usize) -> Result<()> {
        // A new registry for each round, without blobs of an earlier one.
        let registry = DockerRegistry::start(Access::Open)?;
        registry.put_busybox()?;
        if let Some(base) = project.base() {
            registry.put("library/large", "latest", base)?;
        }
        project.reset()?;
        for (order, work) in project.works().iter().enumerate() {
            if order == 2 {
                project.change(number)?;
            }
            tool.start()?;
            let measured = measure::measure(tool, &registry, project.context());
            tool.stop();
            let measured = measured?;
            let works = self.0.entry((order, format!("{}: {work}", project.name()))).or_default();
            works.entry(tool.name().to_owned()).or_default().push(measured);
        }
        Ok(())
    }

    /// The results for programs: a row for each work and tool.
    fn rows(&self) -> Vec<Value> {
        let works = self.0.iter().flat_map(|((_, work), tools)| {
            tools.iter().map(move |(tool, measured)| (work, tool, measured))
        });
        let row = |(work, tool, measured): (&String, &String, &Vec<Measurement>)| {
            let last = &measured[measured.len() - 1];
            json!({
                "work": work,
                "tool": tool,
                "seconds": measured.iter().map(|one| one.time.as_secs_f64()).collect::<Vec<_>>(),
                "median": median(measured).as_secs_f64(),
                "requests": last.requests,
                "down": last.down,
                "up": last.up,
                "peak_memory": measured.iter().map(|one| one.peak_memory).max(),
            })
        };
        works.map(row).collect()
    }

    fn print(&self) {
        for ((_, work), tools) in &self.0 {
            let mut table = Table::new(&[
                work,
                "seconds",
                "requests",
                "down",
                "up",
                "peak memory",
                "of kiln's time",
            ]);
            let kiln = tools.get("kiln").map(|measured| median(measured));
            for (tool, measured) in tools {
                let time = median(measured);
                let last = &measured[measured.len() - 1];
                let peak = measured.iter().map(|one| one.peak_memory).max().unwrap_or(0);
                let ratio =
                    kiln.map(|kiln| format!("{:.1}", time.as_secs_f64() / kiln.as_secs_f64()));
                table.row(vec![
                    tool.clone(),
                    crate::demo::seconds(time),
                    last.requests.to_string(),
                    bytes(last.down),
                    bytes(last.up),
                    format!("{:.0} MiB", peak as f64 / f64::from(1 << 20)),
                    ratio.unwrap_or_default(),
                ]);
            }
            table.print();
            println!();
        }
    }
}

fn median(measured: &[Measurement]) -> Duration {
    let mut times: Vec<Duration> = measured.iter().map(|one| one.time).collect();
    times.sort();
    times[times.len() / 2]
}
