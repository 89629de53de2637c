//! `docker build` in all its spellings: the flags are those of `kiln build`; the image stays in
//! kiln's root, where `docker push` finds it.

use build::Outcome;

use super::{Context, WRONG_FLAG};
use crate::args::BuildArgs;
use crate::args::compound::fields;
use crate::commands;
use crate::personalities::{build_args, field};
use crate::render::Report;
use crate::terminal;

/// Builds.
///
/// # Errors
/// As `kiln build`.
pub fn run(words: &[String], is_buildx: bool, context: &Context) -> Result<(), Report> {
    let mut args = build_args(words.to_vec(), WRONG_FLAG)?;
    adapt(&mut args, context);
    let outcome = commands::build::execute(&args, &context.environment, &context.settings)?;
    let is_classic = !is_buildx && context.environment.get("DOCKER_BUILDKIT") == Some("0");
    match outcome {
        Some(outcome) if is_classic && args.quiet != Some(true) => {
            terminal::print(&classic_end(&outcome))
        }
        _ => Ok(()),
    }
}

/// What docker means by flags that mean another thing where there is no engine.
pub fn adapt(args: &mut BuildArgs, context: &Context) {
    args.drop_empty_values();
    // An image in kiln's root is what an image in the engine is elsewhere.
    args.load = None;
    for output in &mut args.output {
        if let Some(kept) = kept(output) {
            *output = kept;
        }
    }
    if wants_inline_cache(args, context) {
        args.cache_to.push("type=inline".into());
    }
}

/// `type=docker` without a destination loads into the engine: here, it is kept.
fn kept(output: &str) -> Option<String> {
    let parts = fields(output).ok()?;
    let pairs: Vec<(&str, &str)> = parts.iter().filter_map(|part| part.split_once('=')).collect();
    if !pairs.contains(&("type", "docker")) || pairs.iter().any(|(key, _)| *key == "dest") {
        return None;
    }
    let pairs = pairs.into_iter().map(|(key, value)| match (key, value) {
        ("type", _) => "type=image".to_owned(),
        (key, value) => field(key, value),
    });
    Some(pairs.filter(|pair| !pair.starts_with("context=")).collect::<Vec<_>>().join(","))
}

/// Whoever reads a cache from images, as `docker build --cache-from app:latest` does, finds one in
/// the next image only if this build leaves one there.
fn wants_inline_cache(args: &BuildArgs, context: &Context) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loading_is_keeping() {
        assert_eq!(kept("type=docker").as_deref(), Some("type=image"));
        assert_eq!(
            kept("type=docker,name=a,context=x,\"annotation=a,b\"").as_deref(),
            Some("type=image,name=a,\"annotation=a,b\"")
        );
        assert_eq!(kept("type=docker,dest=a.tar"), None);
        assert_eq!(kept("out"), None);
    }
}
