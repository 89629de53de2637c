//! The outputs of a build, by all flags that say something of them: `--output`, `--push`, `--load`,
//! `--tag`, `--annotation`, `--allow buildx.local.delete`.

use std::path::Path;

use build::{ArchiveOutput, ImageFormat, ImageOptions, ImageOutput, Output};
use oci::Reference;

use super::build_flags::{BuildFlags, FlagContext, TagFlag};
use super::compound::destination::{OutputContext, writes_stdout};
use super::compound::image_name::{self, has_tag, tag_by_digest};
use super::compound::{Fields, OptionError, annotation, output};
use super::error::{FlagError, InFlag as _};

impl<'a> FlagContext<'a> {
    /// The context of output options.
    pub fn output(self) -> OutputContext<'a> {
        OutputContext { directory: self.directory, stdout_is_terminal: self.stdout_is_terminal }
    }
}

impl BuildFlags {
    /// Adds a name of the image.
    ///
    /// # Errors
    /// If it is not a reference, or has a digest.
    pub fn add_tag(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        let reference = image_name::tag(text).in_flag(flag)?;
        if !self.tags.iter().any(|tag| tag.text == text) {
            self.tags.push(TagFlag { text: text.to_owned(), reference });
        }
        Ok(())
    }

    /// Adds an output.
    ///
    /// # Errors
    /// If it is not an output.
    pub fn add_output(
        &mut self,
        flag: &str,
        text: &str,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        self.outputs.push(output::output(text, context.output()).in_flag(flag)?);
        Ok(())
    }

    /// Adds an output for a tool without an engine: `type=docker` without a destination keeps the
    /// image in kiln's root, where an engine would load it.
    ///
    /// # Errors
    /// If it is not an output.
    pub fn add_kept_output(
        &mut self,
        flag: &str,
        text: &str,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        self.outputs.push(output::kept_output(text, context.output()).in_flag(flag)?);
        Ok(())
    }

    /// Adds an output of a tool without an engine by its fields.
    ///
    /// # Errors
    /// The errors of [`Self::add_kept_output`].
    pub fn add_kept_output_fields(
        &mut self,
        flag: &str,
        fields: Fields,
        context: FlagContext<'_>,
    ) -> Result<(), FlagError> {
        self.outputs.push(output::kept_output_of(fields, context.output()).in_flag(flag)?);
        Ok(())
    }

    /// Adds annotations.
    ///
    /// # Errors
    /// If one is not `[LEVEL:]KEY=VALUE`.
    pub fn add_annotations(&mut self, flag: &str, text: &str) -> Result<(), FlagError> {
        self.annotations.extend(annotation::annotations(text).in_flag(flag)?);
        Ok(())
    }

    /// The names of the image, each once.
    pub fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        for tag in &self.tags {
            if !references.contains(&tag.reference) {
                references.push(tag.reference.clone());
            }
        }
        references
    }

    /// The outputs with their names and annotations. `protected` are folders of the caller that
    /// no output may delete.
    ///
    /// # Errors
    /// If outputs cannot be used together, an image to be pushed has no name, or an output would delete
    /// more than a build's result.
    pub fn completed_outputs(&self, protected: &[&Path]) -> Result<Vec<Output>, FlagError> {
        let outputs = self.outputs.clone();
        let mut outputs = complete(outputs, self.push, self.load, !self.tags.is_empty())
            .map_err(FlagError::whole)?;
        add_tags(&mut outputs, &self.tags).in_flag("--output")?;
        annotation::give(&mut outputs, &self.annotations).in_flag("--annotation")?;
        if !self.entitlements.local_delete {
            outputs.iter().try_for_each(|output| refuse_deletion(output, protected))?;
        }
        Ok(outputs)
    }
}

/// Applies `--push` and `--load` as buildx does: `--push` pushes the image outputs or adds one,
/// `--load` adds a `docker` output if there is none. Without any output, the image is kept in the
/// store.
///
/// # Errors
/// If outputs cannot be used together, or an image to be pushed has no name.
fn complete(
    mut outputs: Vec<Output>,
    push: bool,
    load: bool,
    tagged: bool,
) -> Result<Vec<Output>, OptionError> {
    if push {
        let mut pushed = false;
        for output in &mut outputs {
            if let Output::Image(image) = output {
                image.push = true;
                pushed = true;
            }
        }
        if !pushed {
            outputs.push(Output::Image(stored(true)));
        }
    }
    let loads = |output: &Output| matches!(output, Output::Docker(archive) if archive.destination.is_none());
    if load && !outputs.iter().any(loads) {
        outputs.push(Output::Docker(ArchiveOutput {
            names: Vec::new(),
            destination: None,
            tar: true,
            format: ImageFormat { oci_mediatypes: false, ..ImageFormat::default() },
            options: ImageOptions::default(),
        }));
    }
    if outputs.is_empty() {
        outputs.push(Output::Image(stored(false)));
    }
    for output in &outputs {
        if let Output::Image(image) = output
            && image.push
            && image.names.is_empty()
            && !tagged
        {
            let reason = "a name is needed when pushing to a registry: give `--tag`";
            return Err(OptionError::Unusable(reason.into()));
        }
    }
    if outputs.iter().filter(|output| writes_stdout(output)).count() > 1 {
        let reason = "only one output can go to standard output";
        return Err(OptionError::refused("--output", reason));
    }
    Ok(outputs)
}

/// Adds the tags to outputs with names of their own: an image that is named twice gets both names.
/// (buildx silently replaces the names by the tags.)
///
/// # Errors
/// If an image is pushed by digest, and a name has a tag.
fn add_tags(outputs: &mut [Output], tags: &[TagFlag]) -> Result<(), OptionError> {
    for output in outputs {
        let names = match output {
            Output::Image(image) => {
                let tagged = tags.iter().find(|tag| image.push_by_digest && has_tag(&tag.text));
                if let Some(tagged) = tagged {
                    return Err(tag_by_digest(&tagged.text));
                }
                &mut image.names
            }
            Output::Oci(archive) | Output::Docker(archive) => &mut archive.names,
            Output::Local(_) | Output::Tar(_) | Output::CacheOnly => continue,
        };
        // An output without names of its own gets the tags in any case.
        if names.is_empty() {
            continue;
        }
        for tag in tags {
            if !names.contains(&tag.reference) {
                names.push(tag.reference.clone());
            }
        }
    }
    Ok(())
}

fn stored(push: bool) -> ImageOutput {
    ImageOutput { push, ..ImageOutput::kept(Vec::new()) }
}

/// Refuses `mode=delete` in a folder that has more than a build's result.
fn refuse_deletion(output: &Output, protected: &[&Path]) -> Result<(), FlagError> {
    match output {
        Output::Local(local) if local.delete && is_protected(&local.folder, protected) => {
            let folder = local.folder.display();
            let reason = format!(
                "`mode=delete` removes all that the build does not make from `{folder}`, which has more than a build's result; if that is meant, add `--allow buildx.local.delete`"
            );
            Err(FlagError::refused("--output", reason))
        }
        _ => Ok(()),
    }
}

/// True if a folder is the root, a checkout of git, or contains one of the protected folders.
fn is_protected(folder: &Path, protected: &[&Path]) -> bool {
    // A folder that does not exist holds nothing.
    let Ok(folder) = folder.canonicalize() else { return false };
    let inside = |own: &&Path| own.canonicalize().is_ok_and(|own| own.starts_with(&folder));
    folder.parent().is_none() || folder.join(".git").exists() || protected.iter().any(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Output {
        let context = OutputContext { directory: Path::new("/w"), stdout_is_terminal: false };
        output::output(text, context).unwrap()
    }

    #[test]
    fn push_and_load_complete_the_outputs() {
        let outputs = complete(Vec::new(), false, false, false).unwrap();
        assert!(matches!(&outputs[..], [Output::Image(image)] if !image.push && image.store));
        let outputs = complete(vec![Output::CacheOnly], true, true, true).unwrap();
        assert!(
            matches!(&outputs[..], [Output::CacheOnly, Output::Image(i), Output::Docker(_)] if i.push)
        );
        let outputs = complete(vec![read("type=image,name=a/b")], true, false, false).unwrap();
        assert!(matches!(&outputs[..], [Output::Image(i)] if i.push));
        assert!(
            complete(Vec::new(), true, false, false).unwrap_err().to_string().contains("--tag")
        );
        let twice = vec![read("-"), read("type=oci")];
        assert!(complete(twice, false, false, true).unwrap_err().to_string().contains("only one"));
    }
}
