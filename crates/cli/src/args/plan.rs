//! From flags, environment and standard input to a request: pure, but for the files that flags
//! name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use build::{
    Attestations, CacheTarget, CacheTo, Context, Layers, NoCache, Output, Policy, Request, Required,
};
use graph::Network;
use oci::{Platform, Reference};

use super::build::BuildArgs;
use super::compound::bucket::Surroundings;
use super::compound::{
    annotation, attest, cache, context, limits, output, pairs, policy, secret, ssh,
};
use crate::progress::Mode;
use crate::settings::{Environment, Proxies, Settings};

/// A build as it was asked for: what to build, and how to show it.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    /// What to build.
    pub request: Request,
    /// How to show it.
    pub presentation: BuildPresentation,
}

/// What the command line itself does around a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPresentation {
    /// How progress is shown.
    pub progress: Mode,
    /// Whether the image's ID is printed at the end (`-q`).
    pub prints_id: bool,
    /// Where the image's ID is written.
    pub iidfile: Option<PathBuf>,
    /// Where digests and names are written.
    pub metadata_file: Option<PathBuf>,
    /// How a RUN is kept apart.
    pub isolation: Isolation,
    /// Flags that were given and change nothing.
    pub warnings: Vec<String>,
}

/// How a RUN is kept apart from this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest way that works here.
    #[default]
    Auto,
    /// Namespaces, or nothing.
    Namespaces,
    /// A plain folder as the root, or nothing.
    Chroot,
    /// The container's own place, or nothing.
    InPlace,
    /// Nothing: there is no RUN.
    None,
}

/// What flags are read against.
pub struct Inputs<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The same, typed.
    pub settings: &'a Settings,
    /// Proxies of docker's configuration.
    pub proxies: &'a Proxies,
    /// Relative paths begin here.
    pub directory: &'a Path,
    /// Opens standard input.
    pub stdin: context::Stdin<'a>,
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
}

/// Puts the name of a flag before the error in its value.
fn of<T, E: Display>(flag: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("`{flag}`: {error}"))
}

/// Reads all values of a flag.
fn each<T, E: Display>(
    flag: &str,
    values: &[String],
    read: impl FnMut(&String) -> Result<T, E>,
) -> Result<Vec<T>, String> {
    of(flag, values.iter().map(read).collect::<Result<_, E>>())
}

/// Caches without those that mean nothing here; that they are left out is a warning.
fn in_place(
    flag: &str,
    values: &[String],
    around: Surroundings<'_>,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    let is_kept = |text: &&String| match cache::out_of_place(text, around) {
        Some(why) => {
            warnings.push(format!("`{flag}` is left out: {why}"));
            false
        }
        None => true,
    };
    values.iter().filter(is_kept).cloned().collect()
}

/// Makes a request of flags.
///
/// # Errors
/// A sentence that names the flag, and what is wrong or not there yet.
pub fn plan(args: &BuildArgs, inputs: Inputs<'_>) -> Result<BuildPlan, String> {
    let mut args = args.clone();
    args.drop_empty_values();
    let args = &args;
    let mut warnings = args.other.judge()?;
    warnings.extend(cache::notes(&args.cache_to));
    if args.cgroup_parent.as_deref().is_some_and(|group| !group.is_empty()) {
        warnings.push(
            "`--cgroup-parent`: steps stay in the control group of the job that kiln runs in, and \
             have its limits"
                .into(),
        );
    }
    let directory = inputs.directory;
    let around = Surroundings { directory, environment: inputs.environment };
    let from = in_place("--cache-from", &args.cache_from, around, &mut warnings);
    let to = in_place("--cache-to", &args.cache_to, around, &mut warnings);
    let tags = tags(&args.tag)?;
    let outputs = outputs(args, &inputs, &tags)?;
    let build_args =
        of("--build-arg", pairs::build_args(&args.build_arg, inputs.environment, inputs.proxies))?;
    let (network, host_network) = network(args.network.as_deref().unwrap_or(""))?;
    let Allowed {
        network_host: allow_network_host,
        security_insecure: allow_security_insecure,
        ..
    } = allowed(&args.allow)?;
    let presentation = presentation(args, &inputs, &outputs, warnings)?;
    // Standard input last: a flag that is wrong is said before anybody has to type.
    let file = args.file.as_deref();
    let cache_from = each("--cache-from", &from, |text| cache::cache_from(text, around))?;
    let cache_to = each("--cache-to", &to, |text| cache::cache_to(text, around))?;
    let cache_to = with_inline(cache_to.into_iter().flatten().collect(), &build_args);
    let mut request = Request {
        target: args.target.clone(),
        labels: of("--label", pairs::labels(&args.label))?,
        platforms: platforms(&args.platform, &inputs.settings.default_platforms)?,
        named_contexts: each("--build-context", &args.build_context, |text| {
            context::named(text, directory)
        })?
        .into_iter()
        .collect(),
        tags,
        outputs,
        cache_from: cache_from.into_iter().flatten().collect(),
        cache_to,
        no_cache: no_cache(args)?,
        pull: args.pull.unwrap_or(false),
        secrets: each("--secret", &args.secret, |text| {
            secret::secret(text, directory, inputs.environment)
        })?
        .into_iter()
        .collect(),
        ssh: of("--ssh", ssh::agents(&args.ssh, directory, inputs.environment))?,
        known_hosts: ssh::known_hosts(inputs.environment),
        network,
        extra_hosts: each("--add-host", &args.add_host, |text| pairs::extra_hosts(text))?.concat(),
        ulimits: ulimits(&args.ulimit)?,
        shm_size: match args.shm_size.as_deref() {
            None => 0,
            Some(text) => of("--shm-size", limits::size(text))?,
        },
        cgroup_parent: args.cgroup_parent.clone().unwrap_or_default(),
        allow_network_host: allow_network_host || host_network,
        allow_security_insecure,
        source_date_epoch: pairs::source_date_epoch(&build_args)?,
        explain: args.explain.unwrap_or(false),
        require_cached: each("--require-cached", &args.require_cached, |text| required(text))?,
        policy: of("--policy", policy::policy(&args.policy))?,
        verify_indexes: args.verify_indexes.unwrap_or(false),
        normalize_modes: match args.cache_normalize.as_deref() {
            None | Some("" | "none") => false,
            Some("modes") => true,
            Some(other) => {
                return Err(format!("`--cache-normalize`: `{other}` is neither modes nor none"));
            }
        },
        attestations: attest::attestations(
            &args.attest,
            args.provenance.as_deref(),
            args.sbom.as_deref(),
            &build_args,
        )?,
        push_check: args.push_check.unwrap_or(true),
        vcs: each("--vcs", &args.vcs, |text| pairs::vcs(text))?.into_iter().collect(),
        layers: of("--layers", layers(args.layers.as_deref()))?,
        build_args,
        ..from_context(&args.context, file, directory, inputs.stdin)?
    };
    if matches!(&request.context, Context::Git(git) if git.is_over_ssh())
        && !request.ssh.contains_key("default")
        && let Some(agent) = ssh::usual(inputs.environment)
    {
        request.ssh.insert("default".into(), agent);
    }
    Ok(BuildPlan { request, presentation })
}

fn layers(text: Option<&str>) -> Result<Layers, String> {
    match text {
        None | Some("" | "each") => Ok(Layers::Each),
        Some("one") => Ok(Layers::One),
        Some("marked") => Ok(Layers::Marked),
        // For files that were written for Makisu.
        Some("unmarked") => Ok(Layers::Unmarked),
        Some(other) => Err(format!("`{other}` is none of each, one and marked")),
    }
}

fn required(text: &str) -> Result<Required, String> {
    match text.trim() {
        "" => Err("it is empty; give `all`, a stage or a step".into()),
        "all" => Ok(Required::All),
        name => Ok(Required::Named(name.to_owned())),
    }
}

/// A request that has a context and a Dockerfile and nothing else.
fn from_context(
    path: &str,
    file: Option<&str>,
    directory: &Path,
    stdin: context::Stdin<'_>,
) -> Result<Request, String> {
    let (context, dockerfile) = context::context(path, file, directory, stdin)?;
    Ok(Request {
        context,
        dockerfile,
        target: None,
        build_args: Vec::new(),
        labels: Vec::new(),
        platforms: Vec::new(),
        named_contexts: BTreeMap::new(),
        tags: Vec::new(),
        outputs: Vec::new(),
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        no_cache: NoCache::Nothing,
        pull: false,
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        known_hosts: None,
        network: Network::Default,
        extra_hosts: Vec::new(),
        ulimits: Vec::new(),
        shm_size: 0,
        cgroup_parent: String::new(),
        allow_network_host: false,
        allow_security_insecure: false,
        source_date_epoch: None,
        explain: false,
        require_cached: Vec::new(),
        push_check: true,
        vcs: BTreeMap::new(),
        layers: Layers::default(),
        normalize_modes: false,
        policy: Policy::default(),
        verify_indexes: false,
        attestations: Attestations::default(),
    })
}

fn tags(given: &[String]) -> Result<Vec<Reference>, String> {
    let mut tags: Vec<Reference> = Vec::new();
    for tag in each("--tag", given, |text| output::tag(text))? {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn outputs(
    args: &BuildArgs,
    inputs: &Inputs<'_>,
    tags: &[Reference],
) -> Result<Vec<Output>, String> {
    let context = output::OutputContext {
        directory: inputs.directory,
        stdout_is_terminal: inputs.stdout_is_terminal,
    };
    let outputs = each("--output", &args.output, |text| output::output(text, context))?;
    let (push, load) = (args.push.unwrap_or(false), args.load.unwrap_or(false));
    let mut outputs = output::complete(outputs, push, load, !tags.is_empty())?;
    of("--output", output::add_tags(&mut outputs, (&args.tag, tags)))?;
    let annotations = each("--annotation", &args.annotation, |text| annotation::annotations(text))?;
    of("--annotation", annotation::give(&mut outputs, &annotations.concat()))?;
    let is_allowed = allowed(&args.allow)?.local_delete;
    let home = inputs.environment.get("HOME").map(Path::new);
    for output in &outputs {
        if let (Output::Local(local), false) = (output, is_allowed)
            && local.delete
            && is_dear(&local.folder, [Some(inputs.directory), home])
        {
            let folder = local.folder.display();
            return Err(format!(
                "`--output`: `mode=delete` removes all that the build does not make from `{folder}`, which has more than a build's result; if that is meant, add `--allow buildx.local.delete`"
            ));
        }
    }
    Ok(outputs)
}

/// Whether a folder holds one of the caller's own places, or is the root.
fn is_dear(folder: &Path, places: [Option<&Path>; 2]) -> bool {
    // A folder that is not there yet holds nothing.
    let Ok(folder) = folder.canonicalize() else { return false };
    let inside = |place: &Path| place.canonicalize().is_ok_and(|place| place.starts_with(&folder));
    folder.parent().is_none()
        || folder.join(".git").exists()
        || places.into_iter().flatten().any(inside)
}

fn presentation(
    args: &BuildArgs,
    inputs: &Inputs<'_>,
    outputs: &[Output],
    warnings: Vec<String>,
) -> Result<BuildPresentation, String> {
    let quiet = args.quiet.unwrap_or(false);
    let progress = match (quiet, args.progress) {
        (true, None | Some(Mode::Auto | Mode::Quiet)) => Mode::Quiet,
        (true, Some(mode)) => {
            let name = clap::ValueEnum::to_possible_value(&mode);
            let name = name.as_ref().map_or("", |value| value.get_name());
            return Err(format!("`--progress={name}` and `--quiet` cannot be used together"));
        }
        // What was asked for by `auto` is what the environment says, as with buildx.
        (false, None | Some(Mode::Auto)) => inputs.settings.progress.unwrap_or_default(),
        (false, Some(mode)) => mode,
    };
    if args.iidfile.is_some()
        && outputs.iter().any(|o| matches!(o, Output::Local(_) | Output::Tar(_)))
    {
        return Err(
            "`--iidfile`: outputs of type local and tar make no image, so it has no ID".into()
        );
    }
    Ok(BuildPresentation {
        progress,
        prints_id: progress == Mode::Quiet,
        iidfile: args.iidfile.as_ref().map(|path| inputs.directory.join(path)),
        metadata_file: args.metadata_file.as_ref().map(|path| inputs.directory.join(path)),
        isolation: isolation(args.isolation.as_deref(), inputs.settings)?,
        warnings,
    })
}

/// Where a RUN runs, by flag or else by environment.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn isolation(flag: Option<&str>, settings: &Settings) -> Result<Isolation, String> {
    let (name, text) = match (flag.filter(|text| !text.is_empty()), &settings.isolation) {
        (Some(text), _) => ("--isolation ", text),
        (None, Some(text)) => ("KILN_ISOLATION=", &**text),
        (None, None) => return Ok(Isolation::Auto),
    };
    match text {
        // `default` is docker's word.
        "" | "auto" | "default" => Ok(Isolation::Auto),
        "namespaces" => Ok(Isolation::Namespaces),
        "chroot" => Ok(Isolation::Chroot),
        "none" => Ok(Isolation::None),
        "in-place" => Ok(Isolation::InPlace),
        _ => Err(format!("`{name}{text}` is none of auto, namespaces, chroot, in-place, none")),
    }
}

/// Platforms, each once.
fn platforms(given: &[String], default: &[Platform]) -> Result<Vec<Platform>, String> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in given.iter().flat_map(|text| text.split(',')).map(str::trim) {
        let platform = match text {
            "" => return Err("`--platform`: it is empty, or has a comma too many".into()),
            "local" => Platform::host(),
            text => of("--platform", text.parse().map_err(|error| format!("{error}")))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    match platforms.is_empty() {
        true => Ok(default.to_vec()),
        false => Ok(platforms),
    }
}

fn no_cache(args: &BuildArgs) -> Result<NoCache, String> {
    let names = args.no_cache_filter.iter().flat_map(|text| text.split(','));
    let stages: Vec<String> =
        names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match (args.no_cache.unwrap_or(false), stages.is_empty()) {
        (true, false) => Err("`--no-cache` and `--no-cache-filter` cannot be used together".into()),
        (true, true) => Ok(NoCache::Everything),
        (false, false) => Ok(NoCache::Stages(stages)),
        (false, true) => Ok(NoCache::Nothing),
    }
}

/// The network, and whether asking for it allows it too, as with buildx.
fn network(text: &str) -> Result<(Network, bool), String> {
    match text {
        "" | "default" => Ok((Network::Default, false)),
        "host" => Ok((Network::Host, true)),
        "none" => Ok((Network::None, false)),
        _ => Err(format!("`--network {text}`: builds have the networks default, host and none")),
    }
}

/// What `--allow` grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowed {
    /// The host's network.
    network_host: bool,
    /// All capabilities.
    security_insecure: bool,
    /// Removing files of a folder that has more than a build's result.
    local_delete: bool,
}

fn allowed(given: &[String]) -> Result<Allowed, String> {
    let mut allowed = Allowed::default();
    for text in given.iter().flat_map(|text| text.split(',')) {
        match text {
            "network.host" => allowed.network_host = true,
            "security.insecure" => allowed.security_insecure = true,
            "buildx.local.delete" => allowed.local_delete = true,
            text if text == "device" || text.starts_with("device=") => {
                return Err(format!("`--allow {text}`: devices are not there yet"));
            }
            text => {
                return Err(format!(
                    "`--allow {text}`: there are network.host, security.insecure and buildx.local.delete"
                ));
            }
        }
    }
    Ok(allowed)
}

fn ulimits(given: &[String]) -> Result<Vec<graph::Ulimit>, String> {
    let mut ulimits: Vec<graph::Ulimit> = Vec::new();
    for ulimit in each("--ulimit", given, |text| limits::ulimit(text))? {
        ulimits.retain(|known| known.name != ulimit.name);
        ulimits.push(ulimit);
    }
    Ok(ulimits)
}

/// buildx makes `--cache-to type=inline` of a build argument.
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
