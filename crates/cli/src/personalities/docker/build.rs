//! `docker build` in all its spellings: the flags are those of `kiln build`; the image stays in
//! kiln's root, where `docker push` finds it.

use build::Outcome;

use crate::args::compound::cache;
use crate::args::{BuildArgs, BuildFlags, Engine};
use crate::commands;
use crate::personalities::build_args;
use crate::personalities::command_context::CommandContext;
use crate::render::Report;
use crate::terminal;

/// Docker's exit code for a flag that it does not know.
pub const WRONG_FLAG: u8 = 125;

/// Runs a build.
///
/// # Errors
/// The errors of `kiln build`.
pub fn run(words: &[String], is_buildx: bool, context: &CommandContext) -> Result<(), Report> {
    let flags = read(build_args(words.to_vec(), WRONG_FLAG)?, context)?;
    let is_quiet = flags.quiet;
    let outcome = commands::build::execute(flags, &context.environment, &context.settings)?;
    let is_classic = !is_buildx && context.environment.get("DOCKER_BUILDKIT") == Some("0");
    match outcome {
        Some(outcome) if is_classic && !is_quiet => terminal::print(&classic_end(&outcome)),
        _ => Ok(()),
    }
}

/// Reads flags as docker means them, without an engine: an image in kiln's root takes the place of
/// an image in the engine.
///
/// # Errors
/// If a value is wrong.
fn read(mut args: Box<BuildArgs>, context: &CommandContext) -> Result<BuildFlags, Report> {
    let (environment, settings) = (&context.environment, &context.settings);
    args.drop_empty_values();
    let mut flags = commands::build::read(&args, Engine::Root, environment, settings)?;
    flags.load = false;
    if wants_inline_cache(&args, context) {
        flags.cache_to.push(cache::inline_cache());
    }
    Ok(flags)
}

/// True if this build reads a cache from images, as `docker build --cache-from app:latest` does:
/// the next build finds a cache only if this image has one too.
fn wants_inline_cache(args: &BuildArgs, context: &CommandContext) -> bool {
    let reads_images = args.cache_from.iter().any(|cache| !cache.contains('='));
    let makes_image = args.output.is_empty();
    let is_off = context.environment.get("BUILDKIT_INLINE_CACHE") == Some("0");
    reads_images && makes_image && args.cache_to.is_empty() && !is_off
}

/// The last lines of the builder before BuildKit, which scripts look for.
fn classic_end(outcome: &Outcome) -> String {
    let Some(image) = &outcome.image else { return String::new() };
    let mut text = format!("Successfully built {}\n", &image.id().hex()[..12]);
    for name in &image.names {
        let name =
            name.parse().map_or_else(|_| name.clone(), |name: oci::Reference| name.familiar());
        text.push_str(&format!("Successfully tagged {name}\n"));
    }
    text
}
