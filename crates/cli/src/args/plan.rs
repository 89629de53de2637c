//! The request that flags, settings and standard input make.

use std::io::Read;
use std::path::{Path, PathBuf};

use build::{CacheTarget, CacheTo, Context, DockerfileSource, NoCache, Output, Request};
use graph::Network;
use oci::Reference;

use super::build_flags::{BuildFlags, ContextFlag};
use super::compound::{annotation, cache, context, output, pairs, ssh};
use super::error::{FlagError, InFlag as _};
use super::isolation::Isolation;
use crate::progress::Mode;
use crate::settings::{Environment, Proxies, Settings};

/// A build as it was asked for: the request, and its presentation.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    /// The request.
    pub request: Request,
    /// The presentation.
    pub presentation: BuildPresentation,
}

/// The part of a build that the command line itself does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPresentation {
    /// The form of the progress.
    pub progress: Mode,
    /// True if the image's ID is printed at the end (`-q`).
    pub prints_id: bool,
    /// The file for the image's ID.
    pub iidfile: Option<PathBuf>,
    /// The file for digests and names.
    pub metadata_file: Option<PathBuf>,
    /// The isolation of a RUN.
    pub isolation: Isolation,
    /// Notes on flags without effect.
    pub warnings: Vec<String>,
}

/// The inputs of a request besides its flags.
pub struct Inputs<'a> {
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
pub fn plan(flags: BuildFlags, inputs: Inputs<'_>) -> Result<BuildPlan, FlagError> {
    let presentation = presentation(&flags, &inputs)?;
    let no_cache = no_cache(&flags)?;
    let (outputs, tags) = outputs(&flags, &inputs)?;
    let build_args = flags.build_arguments.resolve(inputs.environment, inputs.proxies);
    let source_date_epoch = pairs::source_date_epoch(&build_args).map_err(whole)?;
    let attestations = flags.attestations.with_build_args(&build_args).map_err(whole)?;
    // Standard input comes last, so that a wrong flag is reported before the user types.
    let (context, dockerfile) =
        read_context(&flags.context, flags.file.as_deref(), inputs.directory, inputs.stdin)?;
    let mut ssh = flags.ssh;
    if matches!(&context, Context::Git(git) if git.is_over_ssh())
        && !ssh.contains_key("default")
        && let Some(agent) = ssh::usual(inputs.environment)
    {
        ssh.insert("default".into(), agent);
    }
    let platforms = if flags.platforms.is_empty() {
        inputs.settings.default_platforms.clone()
    } else {
        flags.platforms
    };
    let request = Request {
        context,
        dockerfile,
        target: flags.target,
        cache_to: with_inline(flags.cache_to, &build_args),
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
        ssh,
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
        attestations,
        push_check: !flags.skip_push_check,
        vcs: flags.vcs,
        layers: flags.layers,
        policy: flags.policy,
    };
    Ok(BuildPlan { request, presentation })
}

/// An error whose text names the flags already.
fn whole(error: impl std::fmt::Display) -> FlagError {
    FlagError::Usage(error.to_string())
}

fn read_context(
    flag: &ContextFlag,
    file: Option<&str>,
    directory: &Path,
    stdin: context::Stdin<'_>,
) -> Result<(Context, DockerfileSource), FlagError> {
    match flag {
        ContextFlag::Named(name) => context::context(name, file, directory, stdin).map_err(whole),
        ContextFlag::Archive(path) => {
            let opened = std::fs::File::open(path);
            let archive =
                opened.map_err(|error| whole(format!("reading `{}`: {error}", path.display())))?;
            let mut archive = Some(Box::new(archive) as Box<dyn Read + Send>);
            let mut open = || archive.take().unwrap_or_else(|| Box::new(std::io::empty()));
            context::context("-", file, directory, &mut open).map_err(whole)
        }
    }
}

/// The outputs with the tags that they get, and the tags themselves.
fn outputs(
    flags: &BuildFlags,
    inputs: &Inputs<'_>,
) -> Result<(Vec<Output>, Vec<Reference>), FlagError> {
    let (mut tags, mut texts) = (Vec::new(), Vec::new());
    for tag in &flags.tags {
        texts.push(tag.text.clone());
        if !tags.contains(&tag.reference) {
            tags.push(tag.reference.clone());
        }
    }
    let outputs = flags.outputs.clone();
    let mut outputs =
        output::complete(outputs, flags.push, flags.load, !tags.is_empty()).map_err(whole)?;
    output::add_tags(&mut outputs, (&texts, &tags)).in_flag("--output")?;
    annotation::give(&mut outputs, &flags.annotations).in_flag("--annotation")?;
    let home = inputs.environment.get("HOME").map(Path::new);
    for output in &outputs {
        if let (Output::Local(local), false) = (output, flags.entitlements.local_delete)
            && local.delete
            && is_dear(&local.folder, [Some(inputs.directory), home])
        {
            let folder = local.folder.display();
            return Err(FlagError::refused(
                "--output",
                format!(
                    "`mode=delete` removes all that the build does not make from `{folder}`, which has more than a build's result; if that is meant, add `--allow buildx.local.delete`"
                ),
            ));
        }
    }
    Ok((outputs, tags))
}

/// True if a folder is the root, a checkout of git, or contains one of the caller's own places.
fn is_dear(folder: &Path, places: [Option<&Path>; 2]) -> bool {
    // A folder that does not exist holds nothing.
    let Ok(folder) = folder.canonicalize() else { return false };
    let inside = |place: &Path| place.canonicalize().is_ok_and(|place| place.starts_with(&folder));
    folder.parent().is_none()
        || folder.join(".git").exists()
        || places.into_iter().flatten().any(inside)
}

fn presentation(flags: &BuildFlags, inputs: &Inputs<'_>) -> Result<BuildPresentation, FlagError> {
    let progress = match (flags.quiet, flags.progress) {
        (true, None | Some(Mode::Auto | Mode::Quiet)) => Mode::Quiet,
        (true, Some(mode)) => {
            let name = clap::ValueEnum::to_possible_value(&mode);
            let name = name.as_ref().map_or("", |value| value.get_name());
            return Err(FlagError::Together(format!("--progress={name}"), "--quiet"));
        }
        // `auto` leaves the choice to the environment, as with buildx.
        (false, None | Some(Mode::Auto)) => inputs.settings.progress.unwrap_or_default(),
        (false, Some(mode)) => mode,
    };
    let is_files = |output: &Output| matches!(output, Output::Local(_) | Output::Tar(_));
    if flags.iidfile.is_some() && flags.outputs.iter().any(is_files) {
        let reason = "outputs of type local and tar make no image, so it has no ID";
        return Err(FlagError::bad("--iidfile", reason));
    }
    Ok(BuildPresentation {
        progress,
        prints_id: progress == Mode::Quiet,
        iidfile: flags.iidfile.as_ref().map(|path| inputs.directory.join(path)),
        metadata_file: flags.metadata_file.as_ref().map(|path| inputs.directory.join(path)),
        isolation: Isolation::or_setting(flags.isolation, inputs.settings)?,
        warnings: flags.notes.clone(),
    })
}

fn no_cache(flags: &BuildFlags) -> Result<NoCache, FlagError> {
    match (flags.no_cache, flags.no_cache_stages.is_empty()) {
        (true, false) => Err(FlagError::Together("--no-cache".into(), "--no-cache-filter")),
        (true, true) => Ok(NoCache::Everything),
        (false, false) => Ok(NoCache::Stages(flags.no_cache_stages.clone())),
        (false, true) => Ok(NoCache::Nothing),
    }
}

/// Adds the inline cache that the build argument `BUILDKIT_INLINE_CACHE` asks for, as buildx does.
fn with_inline(mut caches: Vec<CacheTo>, arguments: &[(String, String)]) -> Vec<CacheTo> {
    let asked = arguments.iter().rev().find(|(name, _)| name == "BUILDKIT_INLINE_CACHE");
    let asked = asked.is_some_and(|(_, value)| super::compound::boolean(value) == Some(true));
    if asked && !caches.iter().any(|cache| cache.target == CacheTarget::Inline) {
        caches.push(cache::inline_cache());
    }
    caches
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
