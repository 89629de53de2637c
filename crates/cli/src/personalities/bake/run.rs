//! Builds the targets of a definition.

use std::collections::BTreeMap;

use bake::{Resolved, Target};
use build::{DockerfileSource, Job};

use super::words;
use crate::args::Isolation;
use crate::commands::{build as single, check};
use crate::personalities::docker::{self, Context};
use crate::personalities::{build_args, word};
use crate::render::Report;
use crate::{machine, threads};

/// The targets to build, and the flags that are not overrides.
pub struct BakePlan {
    /// The targets.
    pub resolved: Resolved,
    /// `--progress`.
    pub progress: Option<String>,
    /// `--metadata-file`.
    pub metadata_file: Option<String>,
    /// `--allow`.
    pub allow: Vec<String>,
}

/// Entitlements for files of this machine, which bake's own process can read anyway.
fn is_of_files(entitlement: &str) -> bool {
    entitlement.starts_with("fs") || entitlement == "ssh"
}

impl BakePlan {
    fn words(&self, target: &Target) -> Vec<String> {
        let mut words: Vec<String> = self
            .allow
            .iter()
            .flat_map(|allow| allow.split(','))
            .filter(|allow| !is_of_files(allow))
            .map(|allow| word("allow", allow))
            .collect();
        words.extend(self.progress.as_deref().map(|mode| word("progress", mode)));
        words.extend(words::words(target));
        words
    }
}

/// Builds all targets side by side.
///
/// # Errors
/// If a target fails.
pub fn build(plan: BakePlan, context: &Context) -> Result<(), Report> {
    let (environment, settings) = (&context.environment, &context.settings);
    let wanted = Isolation::or_setting(None, settings)?;
    let standing = machine::rise_for(settings, wanted);
    threads::watch_signals()?;
    let names: Vec<&String> = plan.resolved.targets.keys().collect();
    let places: BTreeMap<&str, usize> =
        names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let (mut jobs, mut presentation) = (Vec::new(), None);
    for (name, target) in &plan.resolved.targets {
        let of_target = |mut report: Report| {
            report.message = format!("target `{name}`: {}", report.message);
            report
        };
        let mut args = build_args(plan.words(target), 1).map_err(of_target)?;
        let call = args.other.call()?;
        if call.is_some() {
            // Nothing is built, so the name of another target's image only needs to exist: any
            // folder does, since it is not read.
            let links = target.links().into_iter();
            args.build_context.extend(links.map(|(name, _)| format!("{name}=.")));
        }
        let flags = docker::read_build(args, context).map_err(of_target)?;
        let mut prepared = single::prepare(flags, environment, settings).map_err(of_target)?;
        if let Some(text) = target.inline_dockerfile() {
            prepared.request.dockerfile = DockerfileSource::Text(text.into());
        }
        if let Some(call) = call {
            check::ask(prepared, call, environment, settings).map_err(of_target)?;
            continue;
        }
        let request = prepared.request;
        let contexts = target.links().into_iter();
        let contexts = contexts.map(|(name, other)| (name, places[other.as_str()])).collect();
        jobs.push(Job { name: name.clone(), request, contexts });
        presentation.get_or_insert(prepared.presentation);
    }
    let Some(presentation) = presentation else { return Ok(()) };
    if jobs.len() < names.len() {
        return Err("some targets have a `call` and others have none: name them apart"
            .to_owned()
            .into());
    }
    let metadata_file = plan.metadata_file.as_deref().map(std::path::Path::new);
    let shown = single::Shown::begin(presentation, &settings.style)?;
    let session = match single::session(environment, settings, (&standing, wanted), &shown) {
        Ok(session) => session,
        Err(message) => {
            shown.fail();
            return Err(message.into());
        }
    };
    let events = shown.events();
    let result = threads::finish(build::build_all(&session, &jobs, &events))?;
    session.store().end();
    match result {
        Some(Ok(outcomes)) => {
            let named: Vec<_> = names.iter().map(|name| name.as_str()).zip(&outcomes).collect();
            shown.succeed_all(&named, metadata_file)
        }
        Some(Err(failed)) => {
            shown.fail();
            let report = single::report(failed.error);
            Err(Report { message: format!("target {}: {}", failed.name, report.message), ..report })
        }
        None => {
            shown.fail();
            Err(threads::canceled())
        }
    }
}
