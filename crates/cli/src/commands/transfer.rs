//! `kiln push` and `kiln pull`, with the lines that they end with.

use build::images::{self, ImageError, Porter, PullRequest};
use graph::Events;
use oci::{Descriptor, Reference};
use store::Store;

use super::report;
use crate::args::{PullArgs, PushArgs, judge_content_trust};
use crate::progress::{Display, ProgressMode, renderer};
use crate::render::Report;
use crate::settings::{Environment, Settings};
use crate::{machine, terminal, threads};

/// Pushes an image under one name, or under all names of its repository.
///
/// # Errors
/// If a flag is wrong, there is no such image, or the registry refuses it.
pub fn push(args: &PushArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    judge_content_trust(args.disable_content_trust.as_deref())?;
    if args.all_tags && args.image.has_tag() {
        return Err("`--all-tags` cannot be used with a tag".to_owned().into());
    }
    let store = machine::open_store(settings, &machine::rise(settings))?;
    let names = if args.all_tags {
        tags(&store, args.image.reference()).map_err(|error| report(&error))?
    } else {
        vec![args.image.reference().clone()]
    };
    if let Some(name) = names.iter().find(|name| images::find(&store, name).is_none()) {
        return Err(report(&ImageError::NothingToPush(name.familiar())));
    }
    if !args.quiet {
        let repository = args.image.reference().repository();
        terminal::print(&format!("The push refers to repository [{repository}]\n"))?;
    }
    for name in &names {
        let work = async |porter: Porter| porter.push(name, args.insecure).await;
        let transfer = Transfer { environment, settings, store: store.clone(), quiet: args.quiet };
        let manifest = transfer.run(work)?;
        let line = if args.quiet { format!("{name}\n") } else { pushed(name, &manifest) };
        terminal::print(&line)?;
    }
    Ok(())
}

/// The names of a repository's images on this machine.
///
/// # Errors
/// If there are none.
pub fn tags(store: &Store, wanted: &Reference) -> Result<Vec<Reference>, ImageError> {
    let names = images::each(store)?.flat_map(|image| image.names);
    let mut names: Vec<Reference> = names
        .filter(|name| name.repository() == wanted.repository() && name.digest().is_none())
        .collect();
    names.sort_by_key(ToString::to_string);
    if names.is_empty() {
        let repository = Reference::new(wanted.repository().clone(), None, None);
        return Err(ImageError::NothingToPush(repository.familiar()));
    }
    Ok(names)
}

/// Pulls an image.
///
/// # Errors
/// If a flag is wrong, or the registry does not serve the image.
pub fn pull(args: &PullArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    judge_content_trust(args.disable_content_trust.as_deref())?;
    if args.all_tags {
        return Err("`--all-tags`: one tag is pulled at a time: name it".to_owned().into());
    }
    let store = machine::open_store(settings, &machine::rise(settings))?;
    let request = PullRequest {
        name: args.image.clone(),
        platform: args.platform.clone().or_else(|| settings.default_platforms.first().cloned()),
        insecure: args.insecure,
    };
    let work = async |porter: Porter| porter.pull(&request).await;
    let result = Transfer { environment, settings, store, quiet: args.quiet }.run(work)?;
    terminal::print(&pulled(&args.image, &result.root, result.is_new, args.quiet))
}

/// A transfer of images between registries and this machine.
pub struct Transfer<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The settings read from it.
    pub settings: &'a Settings,
    /// The images of this machine.
    pub store: Store,
    /// True if no progress is shown.
    pub quiet: bool,
}

impl Transfer<'_> {
    /// Runs the transfer and shows its progress.
    ///
    /// # Errors
    /// If it cannot start, fails or is canceled.
    pub fn run<T>(
        self,
        work: impl AsyncFnOnce(Porter) -> Result<T, ImageError>,
    ) -> Result<T, Report> {
        let Self { environment, settings, store, quiet } = self;
        let client = machine::client(settings, environment)?;
        let mode = if quiet { ProgressMode::Quiet } else { settings.progress.unwrap_or_default() };
        let renderer = renderer(mode, &settings.style, terminal::has_live_display());
        let display = Display::start(renderer, std::io::stderr(), terminal::stderr_size)
            .map_err(|error| format!("starting the thread for progress: {error}"))?;
        let events: Events = display.events();
        let used = store.clone();
        let result = threads::finish(work(Porter { store, client, events }));
        used.end();
        display.finish();
        result?.ok_or_else(threads::canceled)?.map_err(|error| report(&error))
    }
}

/// The output of `push` for each tag.
pub fn pushed(name: &Reference, manifest: &Descriptor) -> String {
    let target = name.tag().map_or_else(|| name.target(), str::to_owned);
    format!("{target}: digest: {} size: {}\n", manifest.digest, manifest.size)
}

/// The output of `pull`; only the name with `--quiet`.
pub fn pulled(name: &Reference, manifest: &Descriptor, is_new: bool, quiet: bool) -> String {
    if quiet {
        return format!("{name}\n");
    }
    format!("Digest: {}\n{}\n{name}\n", manifest.digest, pull_status(name, is_new))
}

/// The line of `pull` that tells if the image was here already.
pub fn pull_status(name: &Reference, is_new: bool) -> String {
    let status = if is_new { "Downloaded newer image for" } else { "Image is up to date for" };
    format!("Status: {status} {}", name.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let name: Reference = "app:1".parse().unwrap();
        let manifest = Descriptor::of("m", b"");
        assert!(pushed(&name, &manifest).starts_with("1: digest: sha256:e3b0"));
        assert_eq!(pulled(&name, &manifest, true, true), "docker.io/library/app:1\n");
        let text = pulled(&name, &manifest, false, false);
        assert!(text.ends_with("Status: Image is up to date for app:1\ndocker.io/library/app:1\n"));
    }
}
