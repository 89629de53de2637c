//! kaniko's `warmer`: base images fetched before the builds that need them.

use std::path::{Path, PathBuf};

use super::WARMER;
use super::registries::Registries;
use crate::args::{Command, FlagError};
use crate::personalities::flags::{self, Operands};
use crate::personalities::{Invocation, helped, own_command, say_notes, word};
use crate::progress::ProgressMode;
use crate::render::Report;
use crate::settings::Environment;

/// The images that are fetched, and the folder for them.
#[derive(Debug)]
pub struct WarmerPlan {
    images: Vec<String>,
    platform: Option<String>,
    folder: PathBuf,
    registries: Registries,
    quiet: bool,
    /// Notes on flags without effect.
    pub notes: Vec<String>,
}

/// kiln's state in a folder of warmed images, if the warmer left it there and it is writable.
pub fn usable_root(folder: &Path) -> Option<PathBuf> {
    let root = folder.join("kiln");
    let can_write = rustix::fs::access(&root, rustix::fs::Access::WRITE_OK).is_ok();
    can_write.then_some(root)
}

/// Fetches images.
///
/// # Errors
/// If a flag is wrong, or an image cannot be fetched.
pub fn run(invocation: &Invocation, mut environment: Environment) -> Result<(), Report> {
    if matches!(invocation.words.first().map(String::as_str), None | Some("help" | "--help" | "-h"))
    {
        let about = "kaniko's warmer, spoken by kiln: fetches base images into a folder.";
        return helped(&flags::help("warmer --cache-dir DIR --image IMAGE", about, WARMER));
    }
    let plan = translate(&invocation.words, &environment)?;
    say_notes(&plan.notes);
    if environment.get("DOCKER_CONFIG").is_none() && Path::new("/kaniko/.docker").is_dir() {
        environment.set("DOCKER_CONFIG", "/kaniko/.docker");
    }
    let mut settings = invocation.settings(&environment)?;
    plan.registries.apply(&mut settings);
    if invocation.root.is_none() {
        settings.root = plan.folder.join("kiln");
    }
    for image in &plan.images {
        let mut words = vec!["pull".to_owned()];
        words.extend(plan.platform.as_deref().map(|platform| word("platform", platform)));
        words.extend(plan.quiet.then(|| "--quiet".to_owned()));
        words.push(image.clone());
        match own_command(&words, 1)? {
            Command::Pull(args) => crate::commands::transfer::pull(&args, &environment, &settings)?,
            _ => return Err("`pull` was read as another command".to_owned().into()),
        }
    }
    Ok(())
}

/// Reads the flags of `warmer`.
///
/// # Errors
/// If one is wrong or refused.
pub fn translate(words: &[String], environment: &Environment) -> Result<WarmerPlan, FlagError> {
    let given = flags::read(WARMER, words, Operands::Anywhere)?;
    if let Some(word) = given.operands.first() {
        let text = format!("`{word}` belongs to no flag: images are given as `--image=NAME`");
        return Err(FlagError::Usage(text));
    }
    let mut registries = Registries::read(&given, environment)?;
    for flag in ["insecure", "skip-tls-verify"] {
        registries.all_insecure |= given.is_on(flag, false);
    }
    let plan = WarmerPlan {
        images: given.all("image").into_iter().map(str::to_owned).collect(),
        platform: given.last("custom-platform").map(str::to_owned),
        folder: given.last("cache-dir").unwrap_or("/cache").into(),
        registries,
        quiet: super::options::progress(&given)? == ProgressMode::None,
        notes: given.notes.clone(),
    };
    given.done()?;
    Ok(plan)
}
