//! The flags of a build, typed. `kiln build` and the command lines of other tools fill the same
//! struct, of which `commands::build` makes a request: nothing in between is text.
//!
//! Each method reads one flag's value and applies the flag's rule for repeated values. `flag` is the
//! flag as the tool writes it, for errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use build::{
    Annotation, CacheFrom, CacheMode, CacheTarget, CacheTo, ImageFormat, Layers, NamedContext,
    NoCache, Output, Policy, Required, SecretValue, SshAgent,
};
use graph::{Network, Ulimit};
use oci::{Platform, Reference};
use runtime::WantedIsolation;
use transfer::Lazy;

use super::build_arguments::BuildArguments;
use super::call::Call;
use super::compound::attest::AskedAttestations;
use super::compound::bucket::OptionContext;
use super::compound::cache::FlagCaches;
use super::compound::context::ContextFlag;
use super::compound::{Fields, OptionError, context, limits, pairs, policy, secret, ssh};
use super::error::{FlagError, InFlag as _};
use crate::progress::ProgressMode;
use crate::settings::Environment;

/// The context in which flag values are read.
#[derive(Clone, Copy)]
pub struct FlagContext<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The folder that relative paths are resolved against.
    pub directory: &'a Path,
    /// True if standard output is a terminal, to which no archive is written.
    pub stdout_is_terminal: bool,
}

impl<'a> FlagContext<'a> {
    /// The context of cache options.
    pub fn around(self) -> OptionContext<'a> {
        OptionContext { directory: self.directory, environment: self.environment }
    }
}

/// A name that the image gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFlag {
    /// The name as given: `app` has no tag, but its reference has one.
    pub text: String,
    /// The name.
    pub reference: Reference,
}

/// Entitlements of a build (`--allow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// The host's network.
    pub network_host: bool,
    /// All capabilities.
    pub security_insecure: bool,
    /// Deletion of files in an output folder that the build did not write.
    pub local_delete: bool,
}

/// The flags of a build.
#[derive(Clone, Debug, Default)]
pub struct BuildFlags {
    /// The context.
    pub context: ContextFlag,
    /// `--file`: a path, a URL, or `-` for standard input.
    pub file: Option<String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--policy`.
    pub policy: Policy,
    /// `--build-arg`.
    pub build_arguments: BuildArguments,
    /// `--build-context`, by name.
    pub build_contexts: BTreeMap<String, NamedContext>,
    /// `--platform`, without duplicates; the settings' platforms if empty.
    pub platforms: Vec<Platform>,
    /// `--pull`.
    pub pull: bool,
    /// `--tag`, without duplicates.
    pub tags: Vec<TagFlag>,
    /// `--push`.
    pub push: bool,
    /// `--load`.
    pub load: bool,
    /// True if the check for push access before the first RUN is skipped.
    pub skip_push_check: bool,
    /// `--output`.
    pub outputs: Vec<Output>,
    /// `--annotation`.
    pub annotations: Vec<Annotation>,
    /// `--attest`, `--provenance` and `--sbom`.
    pub attestations: AskedAttestations,
    /// Version control facts for the provenance.
    pub vcs: BTreeMap<String, String>,
    /// `--label`; the last value of a name wins.
    pub labels: Vec<(String, String)>,
    /// `--layers`.
    pub layers: Layers,
    /// `--iidfile`.
    pub iidfile: Option<PathBuf>,
    /// `--metadata-file`.
    pub metadata_file: Option<PathBuf>,
    /// `--cache-from`.
    pub cache_from: Vec<CacheFrom>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheTo>,
    /// `--keep-storage`, in bytes.
    pub keep_storage: Option<u64>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: names of stages.
    pub no_cache_stages: Vec<String>,
    /// `--explain`.
    pub explain: bool,
    /// `--require-cached`.
    pub require_cached: Vec<Required>,
    /// `--verify-indexes`.
    pub verify_indexes: bool,
    /// `--cache-normalize=modes`.
    pub normalize_modes: bool,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretValue>,
    /// `--ssh`, by id.
    pub ssh: BTreeMap<String, SshAgent>,
    /// `--network`.
    pub network: Network,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, String)>,
    /// `--allow`.
    pub entitlements: Entitlements,
    /// `--ulimit`; the last value of a name wins.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size` in bytes; 0 for the default.
    pub shm_size: i64,
    /// `--cgroup-parent`; empty if unset.
    pub cgroup_parent: String,
    /// `--isolation`; the settings' value if unset.
    pub isolation: Option<WantedIsolation>,
    /// `--lazy`; the settings' value if unset.
    pub lazy: Option<Lazy>,
    /// `--progress`; the settings' value if unset.
    pub progress: Option<ProgressMode>,
    /// `--quiet`.
    pub quiet: bool,
    /// `--call`: a question instead of a build.
    pub call: Option<Call>,
    /// Notes on flags without effect.
    pub notes: Vec<String>,
}

/// The trimmed items of a comma-separated list.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

impl BuildFlags {
    /// Adds platforms.
    ///
    /// # Errors
    /// If one is empty or not a platform.
    pub fn add_platforms(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        for text in listed(text) {
            let platform = match text {
                "" => return Err(FlagError::bad(flag, "it is empty, or has a comma too many")),
                "local" => Platform::host(),
                text => text.parse::<Platform>().in_flag(flag)?,
            };
            if !self.platforms.contains(&platform) {
                self.platforms.push(platform);
            }
        }
        Ok(())
    }

    /// Sets a build argument from `NAME=VALUE`, or from the environment's variable of that name.
    ///
    /// # Errors
    /// If it has no name.
    pub fn set_build_argument(
        &mut self,
        flag: &str,
        text: &str,
        environment: &Environment,
    ) -> Result<(), FlagError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            // An unset variable is not passed on.
            None => (text, environment.raw(text)),
        };
        if name.is_empty() {
            return Err(FlagError::bad(flag, format!("`{text}` has no name")));
        }
        self.build_arguments.set(name, value);
        Ok(())
    }

    /// Gives a build argument a value.
    ///
    /// # Errors
    /// If it has no name.
    pub fn give_build_argument(
        &mut self,
        flag: &str,
        name: &str,
        value: &str,
    ) -> Result<(), FlagError> {
        if name.is_empty() {
            return Err(FlagError::bad(flag, "a build argument has no name"));
        }
        self.build_arguments.set(name, Some(value));
        Ok(())
    }

    /// Sets labels.
    ///
    /// # Errors
    /// If one has no name.
    pub fn set_labels(&mut self, flag: &str, texts: &[String]) -> Result<(), FlagError> {
        for (name, value) in pairs::labels(texts).in_flag(flag)? {
            self.set_label(&name, &value);
        }
        Ok(())
    }

    /// Sets a label.
    pub fn set_label(&mut self, name: &str, value: &str) {
        self.labels.retain(|(known, _)| known != name);
        self.labels.push((name.to_owned(), value.to_owned()));
    }

    /// Adds a named context.
    ///
    /// # Errors
    /// If it is not `NAME=CONTEXT`, or the context cannot be one.
    pub fn add_build_context(
        &mut self,
        flag: &str,
        text: &str,
        directory: &Path,
    ) -> Result<(), FlagError> {
        let (name, named) = context::named(text, directory).in_flag(flag)?;
        self.build_contexts.insert(name, named);
        Ok(())
    }

    /// Adds a named context by its name and its address.
    ///
    /// # Errors
    /// The errors of [`Self::add_build_context`].
    pub fn add_named_context(
        &mut self,
        flag: &str,
        name: &str,
        address: &str,
        directory: &Path,
    ) -> Result<(), FlagError> {
        let (name, named) = context::named_of(name, address, directory).in_flag(flag)?;
        self.build_contexts.insert(name, named);
        Ok(())
    }

    /// Adds a named context that is known already.
    ///
    /// # Errors
    /// If the name is that of no stage or image.
    pub fn add_opened_context(
        &mut self,
        flag: &str,
        name: &str,
        context: NamedContext,
    ) -> Result<(), FlagError> {
        let name = context::context_name(name).in_flag(flag)?;
        self.build_contexts.insert(name, context);
        Ok(())
    }

    /// Sets the policy, of which the values are read together.
    ///
    /// # Errors
    /// If a policy would have to be evaluated.
    pub fn set_policy(&mut self, flag: &str, texts: &[String]) -> Result<(), FlagError> {
        self.policy = policy::policy(texts).in_flag(flag)?;
        Ok(())
    }

    /// Sets the policy by values that are keys and texts.
    ///
    /// # Errors
    /// The errors of [`Self::set_policy`].
    pub fn set_policy_fields(
        &mut self,
        flag: &str,
        values: &[Vec<(String, String)>],
    ) -> Result<(), FlagError> {
        self.policy = policy::policy_of(values).in_flag(flag)?;
        Ok(())
    }

    /// Sets a version control fact: `source`, `revision`, `localdir:NAME`. The address in `source`
    /// is kept without its credentials.
    pub fn set_vcs(&mut self, name: &str, value: &str) {
        let value = if name == "source" { pairs::shown_remote(value) } else { value.to_owned() };
        self.vcs.insert(name.to_owned(), value);
    }

    /// Adds caches to import, as [`imports`](super::compound::cache::imports) has read them.
    ///
    /// # Errors
    /// If they could not be read.
    pub fn add_cache_from(
        &mut self,
        flag: &str,
        read: Result<FlagCaches<CacheFrom>, OptionError>,
    ) -> Result<(), FlagError> {
        let read = read.in_flag(flag)?;
        self.notes.extend(read.notes(flag));
        self.cache_from.extend(read.caches);
        Ok(())
    }

    /// Adds caches to export, as [`exports`](super::compound::cache::exports) has read them.
    ///
    /// # Errors
    /// If they could not be read.
    pub fn add_cache_to(
        &mut self,
        flag: &str,
        read: Result<FlagCaches<CacheTo>, OptionError>,
    ) -> Result<(), FlagError> {
        let read = read.in_flag(flag)?;
        self.notes.extend(read.notes(flag));
        self.cache_to.extend(read.caches);
        Ok(())
    }

    /// Adds an export of all steps, also of a failed build. An error of the export does not fail
    /// the build.
    pub fn add_optional_cache(&mut self, target: CacheTarget) {
        self.cache_to.push(CacheTo {
            target,
            mode: CacheMode::Max,
            ignore_error: true,
            on_failure: true,
            image_manifest: true,
            format: ImageFormat::default(),
            mounts: None,
            reset: false,
        });
    }

    /// Sets the control group, which is part of the keys of steps and has no other effect.
    pub fn set_cgroup_parent(&mut self, flag: &str, group: &str) {
        self.cgroup_parent = group.to_owned();
        if !group.is_empty() {
            self.notes.push(format!(
                "`{flag}`: steps stay in the control group of the job that kiln runs in, and have \
                 its limits"
            ));
        }
    }

    /// The steps that are run again.
    ///
    /// # Errors
    /// If both flags that say it are given.
    pub fn uncached(&self) -> Result<NoCache, FlagError> {
        match (self.no_cache, self.no_cache_stages.as_slice()) {
            (false, []) => Ok(NoCache::Nothing),
            (false, stages) => Ok(NoCache::Stages(stages.to_vec())),
            (true, []) => Ok(NoCache::Everything),
            (true, _) => Err(FlagError::Together("--no-cache".into(), "--no-cache-filter")),
        }
    }

    /// Adds stages whose steps are run again.
    pub fn add_no_cache_stages(&mut self, text: &str) {
        let names = listed(text).filter(|name| !name.is_empty());
        self.no_cache_stages.extend(names.map(str::to_owned));
    }

    /// Adds steps that must be found in a cache.
    ///
    /// # Errors
    /// If it is empty.
    pub fn add_required(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        self.require_cached.push(match text.trim() {
            "" => return Err(FlagError::bad(flag, "it is empty; give `all`, a stage or a step")),
            "all" => Required::All,
            name => Required::Named(name.to_owned()),
        });
        Ok(())
    }

    /// Reads a secret and adds it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add_secret(
        &mut self,
        flag: &str,
        text: &str,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        let read = secret::secret(text, context.directory, context.environment);
        let (id, value) = read.in_flag(flag)?;
        self.secrets.insert(id, value);
        Ok(())
    }

    /// Adds a secret by its fields, which is read.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add_secret_fields(
        &mut self,
        flag: &str,
        fields: Fields,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        let read = secret::secret_of(fields, context.directory, context.environment);
        let (id, value) = read.in_flag(flag)?;
        self.secrets.insert(id, value);
        Ok(())
    }

    /// Sets the agents for ssh.
    ///
    /// # Errors
    /// If there is no agent, or an id is given twice.
    pub fn set_ssh(
        &mut self,
        flag: &str,
        texts: &[String],
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        self.ssh = ssh::agents(texts, context.directory, context.environment).in_flag(flag)?;
        Ok(())
    }

    /// Sets the agents for ssh by their ids, and sockets or files with commas between them.
    ///
    /// # Errors
    /// The errors of [`Self::set_ssh`].
    pub fn set_ssh_agents<'a>(
        &mut self,
        flag: &str,
        agents: impl IntoIterator<Item = (&'a str, &'a str)>,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        let read = ssh::agents_of(agents, context.directory, context.environment);
        self.ssh = read.in_flag(flag)?;
        Ok(())
    }

    /// Sets the network of RUN steps.
    ///
    /// # Errors
    /// If there is no such network mode.
    pub fn set_network(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        self.network = match text {
            "" | "default" => Network::Default,
            "host" => Network::Host,
            "none" => Network::None,
            _ => {
                let reason = "builds have the networks default, host and none";
                return Err(FlagError::bad(format!("{flag} {text}"), reason));
            }
        };
        Ok(())
    }

    /// Adds hosts.
    ///
    /// # Errors
    /// If one has no address.
    pub fn add_hosts(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        self.extra_hosts.extend(pairs::extra_hosts(text).in_flag(flag)?);
        Ok(())
    }

    /// Adds a host by its name and its address.
    ///
    /// # Errors
    /// If one of them cannot be one.
    pub fn add_host(&mut self, flag: &str, host: &str, address: &str) -> Result<(), FlagError> {
        self.extra_hosts.push(pairs::extra_host_of(host, address).in_flag(flag)?);
        Ok(())
    }

    /// Grants entitlements.
    ///
    /// # Errors
    /// If there is no such entitlement.
    pub fn allow(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        let granted = &mut self.entitlements;
        for text in text.split(',') {
            match text {
                "network.host" => granted.network_host = true,
                "security.insecure" => granted.security_insecure = true,
                "buildx.local.delete" => granted.local_delete = true,
                _ => {
                    let flag = format!("{flag} {text}");
                    if text == "device" || text.starts_with("device=") {
                        return Err(FlagError::refused(flag, "devices are not supported yet"));
                    }
                    let known = "there are network.host, security.insecure and buildx.local.delete";
                    return Err(FlagError::bad(flag, known));
                }
            }
        }
        Ok(())
    }

    /// Sets a resource limit.
    ///
    /// # Errors
    /// If it is not a limit.
    pub fn set_ulimit(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        let ulimit = limits::ulimit(text).in_flag(flag)?;
        self.ulimits.retain(|known| known.name != ulimit.name);
        self.ulimits.push(ulimit);
        Ok(())
    }

    /// Sets the size of /dev/shm.
    ///
    /// # Errors
    /// If it is not a size.
    pub fn set_shm_size(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        self.shm_size = limits::size(text).in_flag(flag)?;
        Ok(())
    }

    /// Sets the number of layers.
    ///
    /// # Errors
    /// If it is not one of the choices.
    pub fn set_layers(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        self.layers = match text {
            "" | "each" => Layers::Each,
            "one" => Layers::One,
            "marked" => Layers::Marked,
            // For a Dockerfile with Makisu's marks: they are read, but each step still makes a
            // layer.
            "unmarked" => Layers::Unmarked,
            other => {
                let reason = format!("`{other}` is none of each, one and marked");
                return Err(FlagError::bad(flag, reason));
            }
        };
        Ok(())
    }

    /// Sets the attributes of context files that cache keys leave out.
    ///
    /// # Errors
    /// If it is not one of the choices.
    pub fn set_cache_normalize(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        self.normalize_modes = match text {
            "" | "none" => false,
            "modes" => true,
            other => {
                return Err(FlagError::bad(flag, format!("`{other}` is neither modes nor none")));
            }
        };
        Ok(())
    }
}
