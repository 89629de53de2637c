//! `kiln build`: its flags, each in one place, and their values, each read once. Those of
//! `docker buildx build` that are not supported yet, or mean nothing here, are in the table of
//! [`super::other`].

use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use transfer::Lazy;

use super::build_flags::{BuildFlags, FlagContext};
use super::compound::attest::AskedAttestations;
use super::compound::context::ContextFlag;
use super::compound::{boolean, cache};
use super::error::{FlagError, ValueError};
use super::isolation::isolation_of_flag;
use super::other::OtherFlags;
use crate::progress::ProgressMode;
use crate::settings::lazy_of;

/// A truth value as pflag takes it: `--push`, `--push=true`, `--push=0`.
fn truth(text: &str) -> Result<bool, ValueError> {
    boolean(text).ok_or(ValueError::NotABoolean)
}

/// A path, possibly empty. clap's own parser refuses an empty one.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

const EXAMPLES: &str = "\
Examples:
  Build the Dockerfile of this folder and keep the image here:
    kiln build -t app .

  Push it, and be warm on the next machine:
    kiln build -t registry.example.com/app --push \\
      --cache-from type=registry,ref=registry.example.com/app:cache \\
      --cache-to type=registry,ref=registry.example.com/app:cache,mode=max .

  Only the files, in a folder:
    kiln build --target artifacts -o out .

  A secret for one RUN, in no layer:
    kiln build --secret id=token,env=TOKEN .

The other flags of `docker buildx build` are known too: those that change nothing here are
accepted, those that are not there yet say so.";

/// Build an image from a Dockerfile.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES, args_override_self = true, next_help_heading = "Inputs")]
pub struct BuildArgs {
    /// What COPY and ADD read: a folder, a git repository, the URL of an archive or Dockerfile; `-`
    /// takes one of the two from standard input
    #[arg(value_name = "PATH|URL|-", help_heading = None)]
    pub context: String,

    /// The Dockerfile (default: PATH/Dockerfile), also as a URL; `-` takes it from standard input
    #[arg(short, long, value_name = "FILE|URL|-")]
    pub file: Option<String>,

    /// Build this stage, and what it needs, instead of the last one
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// What becomes of a policy beside the Dockerfile (Dockerfile.rego), which kiln does not
    /// evaluate: the build is refused, but with disabled=true
    #[arg(long, value_name = "OPTIONS")]
    pub policy: Vec<String>,

    /// Give ARG a value; without `=`, that of the environment
    #[arg(long, value_name = "NAME[=VALUE]", allow_hyphen_values = true)]
    pub build_arg: Vec<String>,

    /// What COPY --from and FROM can name, as `lib=../lib`, `base=docker-image://alpine`,
    /// `base=oci-layout://folder:tag`, or a git repository or URL
    #[arg(long, value_name = "NAME=CONTEXT")]
    pub build_context: Vec<String>,

    /// What to build for, as linux/arm64, or several as linux/amd64,linux/arm64 (default: this
    /// machine)
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Vec<String>,

    /// Ask registries for newer base images even if they are here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth, value_name = "BOOL")]
    pub pull: Option<bool>,

    /// A name for the image, as registry.example.com/app:1.0
    #[arg(short, long, value_name = "NAME[:TAG]", help_heading = "Output")]
    pub tag: Vec<String>,

    /// Push the image to its registry
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth, value_name = "BOOL", help_heading = "Output")]
    pub push: Option<bool>,

    /// Load the image into the Docker engine (DOCKER_HOST)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth, value_name = "BOOL", help_heading = "Output")]
    pub load: Option<bool>,

    /// What to make of the result: a folder, `-` for a tar on standard output, or
    /// type=image|registry|oci|docker|local|tar|cacheonly with dest=, name=, push=, compression=…
    #[arg(short, long, value_name = "OUTPUT", help_heading = "Output")]
    pub output: Vec<String>,

    /// An annotation of the image: KEY=VALUE, or with what it is written on, as index:KEY=VALUE or
    /// manifest[linux/arm64]:KEY=VALUE
    #[arg(long, value_name = "[LEVEL:]KEY=VALUE", help_heading = "Output")]
    pub annotation: Vec<String>,

    /// Attach what the image was made of: true, or mode=min|max with version=, builder-id=…
    #[arg(long, value_name = "BOOL|OPTIONS", help_heading = "Output")]
    pub provenance: Option<String>,

    /// Attach a list of the packages in the image (SPDX)
    #[arg(long, value_name = "BOOL|OPTIONS", help_heading = "Output")]
    pub sbom: Option<String>,

    /// The same in one flag: type=provenance,mode=max or type=sbom
    #[arg(long, value_name = "TYPE", help_heading = "Output")]
    pub attest: Vec<String>,

    /// Metadata of the image
    #[arg(long, value_name = "NAME=VALUE", allow_hyphen_values = true, help_heading = "Output")]
    pub label: Vec<String>,

    /// How many layers the image gets: `each` step makes one (the default), `one` for all of them, or
    /// `marked`: one for the steps up to each line that ends with `#!COMMIT`. Steps are cached one by
    /// one in any case
    #[arg(long, value_name = "WHICH", help_heading = "Output")]
    pub layers: Option<String>,

    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE", value_parser = path(), help_heading = "Output")]
    pub iidfile: Option<PathBuf>,

    /// Write digests and names of the result to a file, as JSON
    #[arg(long, value_name = "FILE", value_parser = path(), help_heading = "Output")]
    pub metadata_file: Option<PathBuf>,

    /// Where earlier results are: an image, or type=registry,ref=…, type=local,src=…, or one of s3,
    /// azblob, gcs, gha, redis, http and kv-folder with its options
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    pub cache_from: Vec<String>,

    /// Where to leave results: as --cache-from (local has dest=), or type=inline; with mode=max,
    /// compression=, ignore-error=, on-failure=, mounts=true…
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    pub cache_to: Vec<String>,

    /// After the build, remove what was used longest ago until kiln's state is no larger than this,
    /// as 10gb (default: see `[gc]` in the configuration)
    #[arg(long, value_name = "BYTES", value_parser = super::disk_size, help_heading = "Cache")]
    pub keep_storage: Option<u64>,

    /// Run every step, whatever is known
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth, value_name = "BOOL", help_heading = "Cache")]
    pub no_cache: Option<bool>,

    /// Run every step of these stages
    #[arg(long, value_name = "STAGE", help_heading = "Cache")]
    pub no_cache_filter: Vec<String>,

    /// Say after the build why each step that ran was not cached
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth, value_name = "BOOL", help_heading = "Cache")]
    pub explain: Option<bool>,

    /// Fail before a step runs that is not cached: `all`, a stage, a step of it as STAGE:2, or how a
    /// step begins, as `RUN make`
    #[arg(long, value_name = "STEPS", help_heading = "Cache")]
    pub require_cached: Vec<String>,

    /// Believe nothing that caches say of layers: read layers whole, as KILN_VERIFY_INDEXES=1 does
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth, value_name = "BOOL", help_heading = "Cache")]
    pub verify_indexes: Option<bool>,

    /// What of the context's files does not count: `modes`, that is the umask of the checkout (files
    /// become 0644 or 0755); `none` is the default, and BuildKit's
    #[arg(long, value_name = "WHAT", help_heading = "Cache")]
    pub cache_normalize: Option<String>,

    /// A secret for RUN --mount=type=secret: id=NAME with src=FILE or env=VARIABLE
    #[arg(long, value_name = "SECRET", help_heading = "What RUN sees")]
    pub secret: Vec<String>,

    /// An SSH agent for RUN --mount=type=ssh and for git: `default` (that of SSH_AUTH_SOCK), or
    /// NAME=SOCKET, or NAME=KEY-FILE[,KEY-FILE…] without passphrase
    #[arg(long, value_name = "AGENT", help_heading = "What RUN sees")]
    pub ssh: Vec<String>,

    /// The network: default, host or none
    #[arg(long, value_name = "MODE", help_heading = "What RUN sees")]
    pub network: Option<String>,

    /// A line of /etc/hosts, as db:10.0.0.2
    #[arg(long, value_name = "HOST:IP", help_heading = "What RUN sees")]
    pub add_host: Vec<String>,

    /// Allow what a Dockerfile may ask for: network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT", help_heading = "What RUN sees")]
    pub allow: Vec<String>,

    /// A limit, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "What RUN sees")]
    pub ulimit: Vec<String>,

    /// The size of /dev/shm, as 64m
    #[arg(long, value_name = "BYTES", help_heading = "What RUN sees")]
    pub shm_size: Option<String>,

    /// Counts in the keys of RUN steps, as in BuildKit; they stay in the control group of the job that
    /// kiln runs in, which is said
    #[arg(long, value_name = "GROUP", help_heading = "What RUN sees")]
    pub cgroup_parent: Option<String>,

    /// How a RUN is kept apart: auto, namespaces, chroot (a folder, where no mount is allowed),
    /// in-place (the container that kiln runs in lends its own files' place) or none
    #[arg(long, value_name = "WAY", help_heading = "What RUN sees")]
    pub isolation: Option<String>,

    /// Starts a RUN before its root is here, whose files come when they are opened: auto (where layers
    /// are large), always or never. It takes namespaces, root, and Linux 6.7
    #[arg(long, value_name = "WHEN", help_heading = "What RUN sees")]
    pub lazy: Option<String>,

    /// How progress is shown: auto (tty on a terminal, else plain), plain (text for logs), tty
    /// (live), rawjson (for programs), quiet (the image's ID at the end) or none
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        hide_possible_values = true,
        help_heading = "Progress"
    )]
    pub progress: Option<ProgressMode>,

    /// Show no progress; print the image's ID at the end
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth, value_name = "BOOL", help_heading = "Progress")]
    pub quiet: Option<bool>,

    /// Flags that are refused or mean nothing here.
    #[command(flatten)]
    pub other: OtherFlags,
}

/// The default target of `--output type=docker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A Docker engine.
    Docker,
    /// kiln's root.
    Root,
}

impl BuildArgs {
    /// Reads the values. Secrets and the files of caches are read too; standard input is not.
    ///
    /// # Errors
    /// If a value is wrong, or a flag asks for what is not supported.
    pub fn read(&self, context: FlagContext<'_>, engine: Engine) -> Result<BuildFlags, FlagError> {
        let mut args = self.clone();
        args.drop_empty_values();
        let mut flags = args.plain()?;
        args.read_inputs(&mut flags, context)?;
        args.read_outputs(&mut flags, context, engine)?;
        args.read_caches(&mut flags, context)?;
        args.read_surroundings(&mut flags, context)?;
        Ok(flags)
    }

    /// The flags whose values clap has read, and the notes on flags that change nothing.
    fn plain(&self) -> Result<BuildFlags, FlagError> {
        let mut flags = BuildFlags {
            context: ContextFlag::Named(self.context.clone()),
            file: self.file.clone(),
            target: self.target.clone(),
            pull: self.pull.unwrap_or(false),
            push: self.push.unwrap_or(false),
            load: self.load.unwrap_or(false),
            iidfile: self.iidfile.clone(),
            metadata_file: self.metadata_file.clone(),
            keep_storage: self.keep_storage,
            no_cache: self.no_cache.unwrap_or(false),
            explain: self.explain.unwrap_or(false),
            verify_indexes: self.verify_indexes.unwrap_or(false),
            isolation: isolation_of_flag(self.isolation.as_deref())?,
            lazy: self.lazy.as_deref().map(lazy_of_flag).transpose()?,
            progress: self.progress,
            quiet: self.quiet.unwrap_or(false),
            call: self.other.call()?,
            notes: self.other.judge()?,
            ..BuildFlags::default()
        };
        flags.set_cgroup_parent(
            "--cgroup-parent",
            self.cgroup_parent.as_deref().unwrap_or_default(),
        );
        Ok(flags)
    }

    fn read_inputs(
        &self,
        flags: &mut BuildFlags,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        for text in &self.build_arg {
            flags.set_build_argument("--build-arg", text, context.environment)?;
        }
        for text in &self.build_context {
            flags.add_build_context("--build-context", text, context.directory)?;
        }
        for text in &self.platform {
            flags.add_platforms("--platform", text)?;
        }
        flags.set_labels("--label", &self.label)?;
        flags.set_policy("--policy", &self.policy)
    }

    fn read_outputs(
        &self,
        flags: &mut BuildFlags,
        context: FlagContext<'_>,
        engine: Engine,
    ) -> Result<(), FlagError> {
        for text in &self.tag {
            flags.add_tag("--tag", text)?;
        }
        for text in &self.output {
            match engine {
                Engine::Docker => flags.add_output("--output", text, context)?,
                Engine::Root => flags.add_kept_output("--output", text, context)?,
            }
        }
        for text in &self.annotation {
            flags.add_annotations("--annotation", text)?;
        }
        let (provenance, sbom) = (self.provenance.as_deref(), self.sbom.as_deref());
        flags.attestations = AskedAttestations::of_flags(&self.attest, provenance, sbom)
            .map_err(|error| FlagError::Usage(error.to_string()))?;
        if let Some(text) = &self.layers {
            flags.set_layers("--layers", text)?;
        }
        Ok(())
    }

    fn read_caches(
        &self,
        flags: &mut BuildFlags,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        for text in &self.cache_from {
            flags.add_cache_from("--cache-from", cache::imports(text, context.around()))?;
        }
        for text in &self.cache_to {
            flags.add_cache_to("--cache-to", cache::exports(text, context.around()))?;
        }
        for text in &self.no_cache_filter {
            flags.add_no_cache_stages(text);
        }
        for text in &self.require_cached {
            flags.add_required("--require-cached", text)?;
        }
        match &self.cache_normalize {
            Some(text) => flags.set_cache_normalize("--cache-normalize", text),
            None => Ok(()),
        }
    }

    fn read_surroundings(
        &self,
        flags: &mut BuildFlags,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        flags.set_network("--network", self.network.as_deref().unwrap_or_default())?;
        for text in &self.add_host {
            flags.add_hosts("--add-host", text)?;
        }
        for text in &self.allow {
            flags.allow("--allow", text)?;
        }
        for text in &self.ulimit {
            flags.set_ulimit("--ulimit", text)?;
        }
        if let Some(text) = &self.shm_size {
            flags.set_shm_size("--shm-size", text)?;
        }
        flags.set_ssh("--ssh", &self.ssh, context)?;
        for text in &self.secret {
            flags.add_secret("--secret", text, context)?;
        }
        Ok(())
    }

    /// Drops empty values where buildx drops them: scripts pass them for unset variables, as in
    /// `--cache-from "$CACHE_IMAGE"`. Other flags refuse an empty value, as in buildx.
    pub fn drop_empty_values(&mut self) {
        for values in [
            &mut self.build_context,
            &mut self.output,
            &mut self.annotation,
            &mut self.cache_from,
            &mut self.cache_to,
            &mut self.secret,
            &mut self.ssh,
            &mut self.add_host,
            &mut self.allow,
        ] {
            values.retain(|value| !value.is_empty());
        }
        for value in [&mut self.provenance, &mut self.sbom, &mut self.target, &mut self.file] {
            value.take_if(|value| value.is_empty());
        }
        for path in [&mut self.iidfile, &mut self.metadata_file] {
            path.take_if(|path| path.as_os_str().is_empty());
        }
    }
}

fn lazy_of_flag(text: &str) -> Result<Lazy, FlagError> {
    lazy_of(text)
        .ok_or_else(|| FlagError::Usage(format!("`--lazy {text}` is none of auto, always, never")))
}
