//! kaniko's `executor` and `warmer`.
//!
//! Images, digests and names are as with kaniko; the build does not touch the files of the
//! container around it, and the cache is BuildKit's (one tag) instead of an image per step.

mod bucket;
mod options;
mod registries;
mod rows;
mod translate;
mod warmer;

use std::path::Path;

use build::Outcome;
use oci::Reference;

use super::flags::{self, Operands};
use super::{Invocation, helped, say_notes};
use crate::args::ContextFlag;
use crate::commands;
use crate::render::{Report, write_file};
use crate::settings::Environment;
use crate::terminal;
use translate::{DigestLine, ExecutorPlan, translate};

pub use rows::{EXECUTOR, WARMER, is_outside};
pub use warmer::run as run_warmer;

/// Builds as `executor` does.
///
/// # Errors
/// If a flag or the Dockerfile is wrong, or a step fails.
pub fn run(invocation: &Invocation, mut environment: Environment) -> Result<(), Report> {
    match invocation.words.first().map(String::as_str) {
        Some("version") => {
            return terminal::print(&format!(
                "Kaniko version :  v1.24.0+{}",
                commands::version::text()
            ));
        }
        Some("help" | "--help" | "-h") => {
            let about =
                "kaniko's executor, spoken by kiln: builds a Dockerfile and pushes the image.";
            return helped(&flags::help(
                "executor --context DIR --destination IMAGE",
                about,
                EXECUTOR,
            ));
        }
        _ => {}
    }
    let given = flags::read(EXECUTOR, &invocation.words, Operands::Anywhere)?;
    let folder = given.last("kaniko-dir").or_else(|| environment.get("KANIKO_DIR"));
    let folder = Path::new(folder.unwrap_or("/kaniko")).join(".docker");
    if environment.get("DOCKER_CONFIG").is_none() && folder.is_dir() {
        environment.set("DOCKER_CONFIG", &folder.to_string_lossy());
    }
    let mut settings = invocation.settings(&environment)?;
    let cache_folder = Path::new(given.last("cache-dir").unwrap_or("/cache"));
    if let Some(root) = warmer::usable_root(cache_folder)
        && invocation.root.is_none()
    {
        settings.root = root;
    }
    commands::build::begin(None, &settings)?;
    let directory = commands::build::directory()?;
    let plan = translate(&given, commands::build::flag_context(&environment, &directory))?;
    say_notes(&given.notes);
    plan.registries.apply(&mut settings);
    let fetched = match &plan.object {
        Some(object) => Some(object.fetch(&environment, &settings)?),
        None => None,
    };
    let mut flags = plan.flags.clone();
    if let Some(fetched) = &fetched {
        flags.context = ContextFlag::Archive(fetched.path().to_owned());
    }
    let outcome =
        commands::build::execute(flags, &environment, &settings).map_err(|mut report| {
            if matches!(given.last("verbosity"), Some("debug" | "trace")) {
                report.message.push_str(&crate::machine::description());
            }
            report
        })?;
    match outcome {
        Some(outcome) => plan.finish(&outcome, &environment),
        None => Ok(()),
    }
}

impl ExecutorPlan {
    /// Writes the files that kaniko writes at the end.
    fn finish(&self, outcome: &Outcome, environment: &Environment) -> Result<(), Report> {
        let Some(image) = &outcome.image else { return Ok(()) };
        let digest = image.descriptor.digest;
        for (path, line) in &self.digest_files {
            let named = |with_tag: bool| -> String {
                let lines = self.destinations.iter().map(|destination| {
                    let tag = if with_tag {
                        format!(":{}", destination.tag().unwrap_or("latest"))
                    } else {
                        String::new()
                    };
                    format!("{}{tag}@{digest}\n", canonical(destination))
                });
                lines.collect()
            };
            let text = match line {
                DigestLine::Digest => digest.to_string(),
                DigestLine::Name => named(false),
                DigestLine::NameAndTag => named(true),
            };
            write_file(path, &text)?;
        }
        // Skaffold and Cloud Build read this file.
        if let Some(folder) = environment.get("BUILDER_OUTPUT") {
            let lines = self.destinations.iter().map(|destination| {
                let tag = destination.tag().unwrap_or("latest");
                let name = format!("{}:{tag}", canonical(destination));
                format!("{}\n", serde_json::json!({ "name": name, "digest": digest }))
            });
            write_file(&Path::new(folder).join("images"), &lines.collect::<String>())?;
        }
        Ok(())
    }
}

/// A repository's name as kaniko writes it.
fn canonical(name: &Reference) -> String {
    let repository = name.repository();
    match repository.host() {
        "docker.io" => format!("index.docker.io/{}", repository.path()),
        host => format!("{host}/{}", repository.path()),
    }
}
