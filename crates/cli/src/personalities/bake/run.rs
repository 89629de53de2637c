//! Builds the targets of a definition.

use std::collections::BTreeMap;

use bake::{Resolved, Target};
use build::{BuildJob, DockerfileSource};
use runtime::{Privilege, WantedIsolation};

use super::translate::translate;
use crate::args::{BuildFlags, FlagContext, FlagError, isolation_or_setting};
use crate::commands::presentation::DisplayedBuild;
use crate::commands::{build as single, call, failure};
use crate::personalities::command_context::CommandContext;
use crate::progress::ProgressMode;
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
    /// The flags that all targets share.
    fn flags(&self) -> Result<BuildFlags, FlagError> {
        let mut flags = BuildFlags::default();
        let allowed = self.allow.iter().flat_map(|text| text.split(','));
        for text in allowed.filter(|text| !text.is_empty() && !is_of_files(text)) {
            flags.allow("--allow", text)?;
        }
        flags.progress = self.progress.as_deref().map(progress).transpose()?;
        Ok(flags)
    }
}

fn progress(text: &str) -> Result<ProgressMode, FlagError> {
    <ProgressMode as clap::ValueEnum>::from_str(text, false).map_err(|_| {
        let reason = "there are auto, plain, tty, rawjson, quiet and none";
        FlagError::bad(format!("--progress={text}"), reason)
    })
}

/// The flags of a target.
fn flags_of(
    target: &Target,
    mut flags: BuildFlags,
    context: FlagContext<'_>,
) -> Result<BuildFlags, FlagError> {
    translate(target, &mut flags, context)?;
    if flags.call.is_some() {
        // Nothing is built, so the name of another target's image only needs to exist: any folder
        // does, since it is not read.
        for (name, _) in target.links() {
            flags.add_named_context("--build-context", &name, ".", context.directory)?;
        }
    }
    Ok(flags)
}

/// Takes the rights that the isolation needs. May start this process again in a user namespace.
///
/// # Errors
/// If the setting of the isolation is wrong.
pub fn rise(context: &CommandContext) -> Result<(Privilege, WantedIsolation), Report> {
    let wanted = isolation_or_setting(None, &context.settings)?;
    Ok((machine::rise_for(&context.settings, wanted), wanted))
}

/// Builds all targets side by side, with the rights from [`rise`].
///
/// # Errors
/// If a target fails.
pub fn build(
    plan: BakePlan,
    context: &CommandContext,
    (privilege, wanted): (Privilege, WantedIsolation),
) -> Result<(), Report> {
    let (environment, settings) = (&context.environment, &context.settings);
    threads::watch_signals()?;
    let names: Vec<&String> = plan.resolved.targets.keys().collect();
    let places: BTreeMap<&str, usize> =
        names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let directory = single::directory()?;
    let around = single::flag_context(environment, &directory);
    let common = plan.flags()?;
    let (mut jobs, mut presentation) = (Vec::new(), None);
    for (name, target) in &plan.resolved.targets {
        let of_target = |mut report: Report| {
            report.message = format!("target `{name}`: {}", report.message);
            report
        };
        let flags =
            flags_of(target, common.clone(), around).map_err(|error| of_target(error.into()))?;
        let call = flags.call;
        let mut prepared = single::prepare(flags, environment, settings).map_err(of_target)?;
        if let Some(text) = target.inline_dockerfile() {
            prepared.request.dockerfile = DockerfileSource::Text(text.into());
        }
        if let Some(call) = call {
            call::ask(prepared, call, environment, settings).map_err(of_target)?;
            continue;
        }
        let request = prepared.request;
        let contexts = target.links().into_iter();
        let contexts = contexts.map(|(name, other)| (name, places[other.as_str()])).collect();
        jobs.push(BuildJob { name: name.clone(), request, contexts });
        presentation.get_or_insert(prepared.presentation);
    }
    let Some(presentation) = presentation else { return Ok(()) };
    if jobs.len() < names.len() {
        return Err("some targets have a `call` and others have none: name them apart"
            .to_owned()
            .into());
    }
    let metadata_file = plan.metadata_file.as_deref().map(std::path::Path::new);
    let shown = DisplayedBuild::begin(presentation, &settings.style)?;
    let session = match single::session(environment, settings, (&privilege, wanted), &shown) {
        Ok(session) => session,
        Err(report) => {
            shown.fail();
            return Err(report);
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
            let report = failure::report(failed.error);
            Err(Report { message: format!("target {}: {}", failed.name, report.message), ..report })
        }
        None => {
            shown.fail();
            Err(threads::canceled())
        }
    }
}
