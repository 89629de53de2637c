//! `kiln build`: from flags to a request, and to its build.

use std::io::IsTerminal as _;
use std::iter;
use std::path::{Path, PathBuf};

use build::images::{CollectPolicy, collect};
use build::{Outcome, Request, Session};
use graph::Network;
use runtime::WantedIsolation;

use super::call;
use super::failure::report;
use super::presentation::{BuildPlan, BuildPresentation, DisplayedBuild};
use crate::args::compound::{cache, context, pairs, ssh};
use crate::args::{
    BuildArgs, BuildFlags, Engine, FlagContext, FlagError, isolation_of_flag, isolation_or_setting,
};
use crate::checkout;
use crate::isolation;
use crate::progress::ProgressMode;
use crate::render::Report;
use crate::settings::{Environment, Proxies, Settings, collect_policy, keep, read_proxies};
use crate::terminal::say;
use crate::threads;
use crate::{human, machine};

/// Builds an image and shows the progress.
///
/// # Errors
/// If a flag or the Dockerfile is wrong, or a step fails; with an excerpt of the Dockerfile where
/// there is one.
pub fn run(args: &BuildArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    let flags = read(args, Engine::Docker, environment, settings)?;
    execute(flags, environment, settings).map(drop)
}

/// Becomes root of a user namespace if needed, for which kiln is executed again. Must be called
/// before secrets and standard input are read, since the second process could not read them again.
///
/// # Errors
/// If the environment names an unknown isolation, or signals cannot be caught.
pub fn begin(
    flag: Option<WantedIsolation>,
    settings: &Settings,
) -> Result<(runtime::Privilege, WantedIsolation), Report> {
    let wanted = isolation_or_setting(flag, settings)?;
    let standing = machine::rise_for(settings, wanted);
    // Reading a secret or standard input can block forever.
    threads::watch_signals()?;
    Ok((standing, wanted))
}

/// Reads the flags of `kiln build`.
///
/// # Errors
/// If [`begin`] fails, or a value is wrong.
pub fn read(
    args: &BuildArgs,
    engine: Engine,
    environment: &Environment,
    settings: &Settings,
) -> Result<BuildFlags, Report> {
    // The answer to a question (`--call`) runs no RUN.
    let is_call = args.other.call()?.is_some();
    let isolation = isolation_of_flag(args.isolation.as_deref())?.filter(|_| !is_call);
    begin(isolation, settings)?;
    let directory = directory()?;
    Ok(args.read(flag_context(environment, &directory), engine)?)
}

/// The context in which flag values are read.
pub fn flag_context<'a>(environment: &'a Environment, directory: &'a Path) -> FlagContext<'a> {
    let stdout_is_terminal = std::io::stdout().is_terminal();
    FlagContext { environment, directory, stdout_is_terminal }
}

/// The working directory.
///
/// # Errors
/// If it was removed.
pub fn directory() -> Result<PathBuf, Report> {
    std::env::current_dir()
        .map_err(|error| Report::from(format!("finding the working directory: {error}")))
}

/// Builds an image and returns the outcome; none if a question was answered instead.
///
/// # Errors
/// The errors of [`run`].
pub fn execute(
    flags: BuildFlags,
    environment: &Environment,
    settings: &Settings,
) -> Result<Option<Outcome>, Report> {
    let keep_storage = flags.keep_storage;
    if let Some(call) = flags.call {
        machine::rise(settings);
        let plan = prepare(flags, environment, settings)?;
        return call::ask(plan, call, environment, settings).map(|()| None);
    }
    let (standing, wanted) = begin(flags.isolation, settings)?;
    let plan = prepare(flags, environment, settings)?;
    for warning in &settings.warnings {
        say(&format!("WARNING: {warning}\n"));
    }
    let plain = !matches!(plan.presentation.progress, ProgressMode::Auto | ProgressMode::Tty);
    let policy = collect_policy(environment)?;
    let collect = keep_storage.map(|bytes| keep(bytes, policy)).or(policy);
    let shown = DisplayedBuild::begin(plan.presentation, &settings.style)?;
    let session = match session(environment, settings, (&standing, wanted), &shown) {
        Ok(session) => session,
        Err(report) => {
            shown.fail();
            return Err(report);
        }
    };
    let events = shown.events();
    let result = threads::finish(build::build(&session, &plan.request, &events))?
        .unwrap_or(Err(build::Error::Canceled));
    let tidied = tidy(&session, collect);
    session.store().end();
    match result {
        Ok(outcome) => {
            let result = shown.succeed(&outcome);
            say(&tidied);
            result.map(|()| Some(outcome))
        }
        Err(error) => {
            shown.fail();
            Err(Report { plain, ..report(error) })
        }
    }
}

/// Collects unused cache by the policy and returns the line to print. An error is a warning and
/// does not change the result of the build.
fn tidy(session: &Session, policy: Option<CollectPolicy>) -> String {
    let Some(policy) = policy else { return String::new() };
    match collect(session.store(), &policy) {
        Ok(removed) if removed.is_empty() => String::new(),
        Ok(removed) => {
            let bytes = removed.iter().map(|entry| entry.size).sum();
            format!("removed {} that was not used for long\n", human::size(bytes))
        }
        Err(error) => {
            format!("WARNING: old build cache was not removed: {}\n", oci::chain_text(&error))
        }
    }
}

/// Opens the session of a build, and prints the isolation if it is not the usual one.
///
/// # Errors
/// If the session cannot be opened, or commands cannot be isolated as requested.
pub fn session(
    environment: &Environment,
    settings: &Settings,
    (standing, wanted): (&runtime::Privilege, WantedIsolation),
    shown: &DisplayedBuild,
) -> Result<Session, Report> {
    let session = machine::session(settings, environment, standing, wanted)?;
    isolation::require(&session, wanted)?;
    if let Ok(runtime) = &session.host().runtime
        && let Some(line) = isolation::line(runtime, wanted)
    {
        shown.note(&line);
    }
    Ok(session)
}

/// Makes a request from flags, this process's working directory and standard input.
///
/// # Errors
/// If a flag or file is wrong; the report names it.
pub fn prepare(
    flags: BuildFlags,
    environment: &Environment,
    settings: &Settings,
) -> Result<BuildPlan, Report> {
    let directory = directory()?;
    let proxies = match &settings.docker_config {
        Some(folder) => read_proxies(folder, settings.docker_host.as_deref())?,
        None => Proxies::default(),
    };
    let inputs = PlanInputs {
        environment,
        settings,
        proxies: &proxies,
        directory: &directory,
        stdin: &mut || Box::new(std::io::stdin()),
    };
    let mut plan = plan(flags, inputs)?;
    if let Err(error) = checkout::describe(&mut plan.request, environment) {
        plan.presentation.warnings.push(error.to_string());
    }
    Ok(plan)
}

/// The inputs of a request besides its flags.
pub struct PlanInputs<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The settings read from it.
    pub settings: &'a Settings,
    /// Proxies of docker's configuration.
    pub proxies: &'a Proxies,
    /// The folder that relative paths are resolved against.
    pub directory: &'a Path,
    /// Opens standard input.
    pub stdin: context::Stdin<'a>,
}

/// Makes a request from flags. Reads only the context and standard input.
///
/// # Errors
/// If flags contradict each other, or the context cannot be read.
pub fn plan(flags: BuildFlags, inputs: PlanInputs<'_>) -> Result<BuildPlan, FlagError> {
    let presentation = BuildPresentation::of(&flags, inputs.settings, inputs.directory)?;
    let no_cache = flags.uncached()?;
    let home = inputs.environment.get("HOME").map(Path::new);
    let protected: Vec<&Path> = iter::once(inputs.directory).chain(home).collect();
    let (outputs, tags) = (flags.completed_outputs(&protected)?, flags.references());
    let build_args = flags.build_arguments.resolve(inputs.environment, inputs.proxies);
    let source_date_epoch = pairs::source_date_epoch(&build_args).map_err(FlagError::whole)?;
    let attestations = flags.attestations.with_build_args(&build_args).map_err(FlagError::whole)?;
    // Standard input comes last, so that a wrong flag is reported before the user types.
    let file = flags.file.as_deref();
    let (context, dockerfile) = context::read(&flags.context, file, inputs.directory, inputs.stdin)
        .map_err(FlagError::whole)?;
    let platforms = if flags.platforms.is_empty() {
        inputs.settings.default_platforms.clone()
    } else {
        flags.platforms
    };
    let request = Request {
        ssh: ssh::for_context(flags.ssh, &context, inputs.environment),
        context,
        dockerfile,
        target: flags.target,
        cache_to: cache::with_inline(flags.cache_to, &build_args),
        build_args,
        labels: flags.labels,
        platforms,
        named_contexts: flags.build_contexts,
        tags,
        outputs,
        cache_from: flags.cache_from,
        no_cache,
        pull: flags.pull,
        secrets: flags.secrets,
        client: None,
        client_policy: None,
        known_hosts: ssh::known_hosts(inputs.environment),
        network: flags.network,
        extra_hosts: flags.extra_hosts,
        ulimits: flags.ulimits,
        shm_size: flags.shm_size,
        cgroup_parent: flags.cgroup_parent,
        // Asking for the host's network allows it too, as with buildx.
        allow_network_host: flags.entitlements.network_host || flags.network == Network::Host,
        allow_security_insecure: flags.entitlements.security_insecure,
        source_date_epoch,
        explain: flags.explain,
        require_cached: flags.require_cached,
        normalize_modes: flags.normalize_modes,
        verify_indexes: flags.verify_indexes,
        lazy: flags.lazy.unwrap_or(inputs.settings.lazy),
        attestations,
        push_check: !flags.skip_push_check,
        vcs: flags.vcs,
        layers: flags.layers,
        policy: flags.policy,
    };
    Ok(BuildPlan { request, presentation })
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
