//! `docker manifest …`: lists of images that are made on this machine and pushed.

use std::path::PathBuf;

use base64::Engine as _;
use build::images::{ImageError, IndexContent, Member, Porter, Style};
use graph::Events;
use oci::{Descriptor, Platform, Reference, media_type};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::{one, usage};
use crate::render::{Report, write_file};
use crate::{commands, machine, terminal, threads};

/// Runs work that sends requests to registries.
pub(super) fn carry<T>(
    context: &CommandContext,
    insecure: bool,
    work: impl AsyncFnOnce(&Porter) -> Result<T, ImageError>,
) -> Result<T, Report> {
    attempt(context, insecure, work)?.map_err(|error| commands::report(&error))
}

/// Runs work like [`carry`], and leaves its error to the caller.
fn attempt<T>(
    context: &CommandContext,
    insecure: bool,
    work: impl AsyncFnOnce(&Porter) -> Result<T, ImageError>,
) -> Result<Result<T, ImageError>, Report> {
    let mut settings = context.settings.clone();
    settings.insecure |= insecure;
    let store = machine::open_store(&settings, &machine::rise(&settings))?;
    let client = machine::client(&settings, &context.environment)?;
    let porter = Porter { store, client, events: Events::none() };
    let result = threads::finish(work(&porter));
    porter.store.end();
    result?.ok_or_else(threads::canceled)
}

pub(super) fn reference(text: &str) -> Result<Reference, Report> {
    Ok(text.parse().map_err(|error| format!("`{text}`: {error}"))?)
}

/// `manifest inspect`.
///
/// # Errors
/// If the registry does not have the image.
pub fn inspect_manifest(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let (insecure, is_verbose) = (given.is_on("insecure", false), given.is_on("verbose", false));
    let Some(text) = given.operands.last().filter(|_| given.operands.len() <= 2) else {
        return Err(usage("it takes the name of an image, or a list and an image", None, 1));
    };
    let name = reference(text)?;
    if given.operands.len() == 1
        && let Ok(list) = ManifestList::read(&name, context)
    {
        let bytes = list.content().bytes();
        return terminal::print(&(String::from_utf8_lossy(&bytes).into_owned() + "\n"));
    }
    let value = attempt(context, insecure, async |porter| {
        if is_verbose {
            return verbose(porter, &name).await;
        }
        Ok(json_of(&porter.look(&name).await?.1))
    })?;
    let value = value.map_err(|error| match error {
        // Scripts look for this text, to tell a missing image from a failing registry.
        ImageError::Registry { source, .. } if source.is_not_found() => {
            Report::from(format!("no such manifest: {name}"))
        }
        error => commands::report(&error),
    })?;
    terminal::print(&(serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"))
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// `manifest inspect --verbose`: an image, or an array with those of an index.
async fn verbose(porter: &Porter, name: &Reference) -> Result<Value, ImageError> {
    let (root, _) = porter.look(name).await?;
    let mut images = Vec::new();
    for member in porter.members(name).await? {
        let one = name.with_digest(member.descriptor.digest);
        let (_, bytes) = porter.look(&one).await?;
        let is_docker = member.descriptor.media_type == media_type::DOCKER_MANIFEST;
        let kind = if is_docker { "SchemaV2Manifest" } else { "OCIManifest" };
        let shown = if root.digest == member.descriptor.digest { name } else { &one };
        images.push(json!({
            "Ref": shown.to_string(), "Descriptor": member.descriptor,
            "Raw": base64::engine::general_purpose::STANDARD.encode(&bytes), kind: json_of(&bytes),
        }));
    }
    Ok(match media_type::is_index(&root.media_type) {
        true => images.into(),
        false => images.pop().unwrap_or_default(),
    })
}

/// A list that is being made, kept beside docker's configuration.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ManifestList {
    images: Vec<ManifestEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestEntry {
    source: String,
    descriptor: Descriptor,
}

impl ManifestList {
    fn file(name: &Reference, context: &CommandContext) -> Result<PathBuf, Report> {
        let folder = context.settings.docker_config.clone().ok_or_else(|| {
            "there is no place for lists: HOME is not set; set DOCKER_CONFIG".to_owned()
        })?;
        let digest = oci::Digest::of(name.to_string());
        Ok(folder.join("kiln-manifests").join(format!("{}.json", digest.hex())))
    }

    fn read(name: &Reference, context: &CommandContext) -> Result<Self, Report> {
        let file = Self::file(name, context)?;
        let text = std::fs::read(&file).map_err(|_| {
            format!(
                "there is no list `{}`: begin it with `docker manifest create`",
                name.familiar()
            )
        })?;
        Ok(serde_json::from_slice(&text)
            .map_err(|error| format!("reading `{}`: {error}", file.display()))?)
    }

    fn write(&self, name: &Reference, context: &CommandContext) -> Result<(), Report> {
        let file = Self::file(name, context)?;
        let folder = file.parent().unwrap_or(&file);
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("making `{}`: {error}", folder.display()))?;
        Ok(write_file(&file, &serde_json::to_string(self).unwrap_or_default())?)
    }

    fn content(&self) -> IndexContent {
        let member = |listed: &ManifestEntry| {
            let source: Reference = listed.source.parse().ok()?;
            let repository = source.repository().clone();
            Some(Member { repository, descriptor: listed.descriptor.clone() })
        };
        let members = self.images.iter().filter_map(member).collect();
        IndexContent { style: Style::Docker, members, ..IndexContent::default() }
    }
}

/// `manifest create`.
///
/// # Errors
/// If the list exists and is not to be amended, or an image is missing.
pub fn create(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let insecure = given.is_on("insecure", false);
    let amends = given.is_on("amend", false);
    let [name, images @ ..] = given.operands.as_slice() else {
        return Err(usage("it takes the name of a list, and images", None, 1));
    };
    let name = reference(name)?;
    if images.is_empty() {
        return Err(usage("it takes the name of a list, and images", None, 1));
    }
    let mut list = match (ManifestList::read(&name, context), amends) {
        (Ok(list), true) => list,
        (Ok(_), false) => {
            let name = name.familiar();
            return Err(format!("the list `{name}` is there already: go on with it by `--amend`, or `docker manifest rm {name}`").into());
        }
        (Err(_), _) => ManifestList::default(),
    };
    let sources: Vec<Reference> =
        images.iter().map(|image| reference(image)).collect::<Result<_, _>>()?;
    let found = carry(context, insecure, async |porter| {
        let mut found = Vec::new();
        for source in &sources {
            for member in porter.members(source).await? {
                found.push(ManifestEntry {
                    source: source.to_string(),
                    descriptor: member.descriptor,
                });
            }
        }
        Ok(found)
    })?;
    for listed in found {
        list.images.retain(|known| known.descriptor.digest != listed.descriptor.digest);
        list.images.push(listed);
    }
    list.write(&name, context)?;
    terminal::print(&format!("Created manifest list {name}\n"))
}

/// `manifest annotate`.
///
/// # Errors
/// If there is no such list, or no such image in it.
pub fn annotate(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let [name, image] = given.operands.as_slice() else {
        return Err(usage("it takes a list, and an image of it", None, 1));
    };
    let (name, image) = (reference(name)?, reference(image)?);
    let mut list = ManifestList::read(&name, context)?;
    let mut changed = false;
    for listed in &mut list.images {
        if listed.source != image.to_string() && image.digest() != Some(listed.descriptor.digest) {
            continue;
        }
        let before = listed.descriptor.platform.clone().unwrap_or_else(Platform::host);
        let os = given.last("os").unwrap_or(&before.os);
        let arch = given.last("arch").unwrap_or(&before.architecture);
        let own = before.variant.as_str();
        let keeps = arch == before.architecture && !own.is_empty();
        let own = keeps.then_some(own);
        let variant = given.last("variant").or(own);
        let text = [Some(os), Some(arch), variant].into_iter().flatten().collect::<Vec<_>>();
        let known: Platform = text.join("/").parse().map_err(|error| format!("{error}"))?;
        // The variant is kept as written: `v8`, common beside arm64, means the same as none.
        let variant = variant.unwrap_or_default().to_owned();
        listed.descriptor.platform = Some(Platform { variant, ..known });
        changed = true;
    }
    match changed {
        true => list.write(&name, context),
        false => {
            Err(format!("`{}` is not in the list `{}`", image.familiar(), name.familiar()).into())
        }
    }
}

/// `manifest push`.
///
/// # Errors
/// If there is no such list, or a registry refuses.
pub fn push(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let insecure = given.is_on("insecure", false);
    let purges = given.is_on("purge", false);
    let name = reference(one(given, "one list")?)?;
    let content = ManifestList::read(&name, context)?.content();
    let index = carry(context, insecure, async |porter| {
        porter.publish(&content, std::slice::from_ref(&name)).await
    })?;
    if purges {
        drop(std::fs::remove_file(ManifestList::file(&name, context)?));
    }
    terminal::print(&format!("{}\n", index.digest))
}

/// `manifest rm`.
///
/// # Errors
/// If there is no such list.
pub fn forget(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    if given.operands.is_empty() {
        return Err(usage("it takes the names of lists", None, 1));
    }
    for text in &given.operands {
        let name = reference(text)?;
        ManifestList::read(&name, context)?;
        let file = ManifestList::file(&name, context)?;
        std::fs::remove_file(&file)
            .map_err(|error| format!("removing `{}`: {error}", file.display()))?;
    }
    Ok(())
}
