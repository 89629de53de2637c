//! The values of `kiln build`'s flags, each read once.

use super::build::BuildArgs;
use super::build_flags::{BuildFlags, ContextFlag, FlagContext};
use super::compound::attest::AskedAttestations;
use super::error::FlagError;
use super::isolation::Isolation;

/// The place that `--output type=docker` writes to, if it names none.
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
            isolation: Isolation::of_flag(self.isolation.as_deref())?,
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
            flags.add_cache_from("--cache-from", text, context.around())?;
        }
        for text in &self.cache_to {
            flags.add_cache_to("--cache-to", text, context.around())?;
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
}
