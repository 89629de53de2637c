//! `docker manifest …` and `docker buildx imagetools …`: lists of images that registries have.

use std::path::PathBuf;

use build::images::{ImageError, Member, Porter, index_bytes};
use graph::Events;
use oci::{Descriptor, Index, Platform, Reference, media_type};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, one};
use crate::personalities::flags::Given;
use crate::personalities::usage;
use crate::render::{Report, Template, write_file};
use crate::{commands, machine, terminal, threads};

/// Runs work that talks to registries.
fn carry<T>(
    context: &Context,
    insecure: bool,
    work: impl AsyncFnOnce(&Porter) -> Result<T, ImageError>,
) -> Result<T, Report> {
    let mut settings = context.settings.clone();
    settings.insecure |= insecure;
    let store = machine::open_store(&settings, &machine::rise(&settings))?;
    let client = machine::client(&settings, &context.environment)?;
    let porter = Porter { store, client, events: Events::none() };
    let result = threads::finish(work(&porter));
    porter.store.end();
    result?.ok_or_else(threads::canceled)?.map_err(|error| commands::report(&error))
}

fn reference(text: &str) -> Result<Reference, Report> {
    Ok(text.parse().map_err(|error| format!("`{text}`: {error}"))?)
}

/// `buildx imagetools create`.
///
/// # Errors
/// If there is no name, or a registry refuses.
pub fn create_tagged(given: &Given, context: &Context) -> Result<(), Report> {
    let names: Vec<Reference> =
        given.all("tag").into_iter().map(reference).collect::<Result<_, _>>()?;
    let is_dry = given.is_on("dry-run", false);
    let appends = given.is_on("append", false);
    if names.is_empty() && (!is_dry || appends) {
        return Err(usage("`--tag` is missing: give the name of the index", None, 1));
    }
    if given.operands.is_empty() {
        return Err(usage("it takes the names of images", None, 1));
    }
    let mut sources: Vec<Reference> =
        names.first().filter(|_| appends).cloned().into_iter().collect();
    for text in &given.operands {
        sources.push(reference(text)?);
    }
    let text = carry(context, false, async |porter| {
        let mut members = Vec::new();
        for source in &sources {
            members.extend(porter.members(source).await?);
        }
        match is_dry {
            true => Ok(String::from_utf8_lossy(&index_bytes(&members)).into_owned() + "\n"),
            false => {
                let index = porter.publish(&members, &names).await?;
                Ok(names.iter().map(|name| format!("{name}@{}\n", index.digest)).collect())
            }
        }
    })?;
    terminal::print(&text)
}

/// `buildx imagetools inspect`.
///
/// # Errors
/// If the registry does not have it.
pub fn inspect_remote(given: &Given, context: &Context) -> Result<(), Report> {
    let name = reference(one(given, "one name")?)?;
    let (descriptor, bytes) = carry(context, false, async |porter| porter.look(&name).await)?;
    if given.is_on("raw", false) {
        return terminal::print(&String::from_utf8_lossy(&bytes));
    }
    if let Some(format) = given.last("format") {
        let format = if format == "json" { "{{json .}}" } else { format };
        let mut manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Value::Object(map) = &mut manifest {
            map.insert("digest".into(), json!(descriptor.digest));
            map.insert("size".into(), json!(descriptor.size));
            map.insert("mediaType".into(), json!(descriptor.media_type));
            // Go's names of the fields that scripts ask for.
            map.insert("Digest".into(), json!(descriptor.digest));
            map.insert("MediaType".into(), json!(descriptor.media_type));
        }
        let value = json!({
            "Name": name.to_string(), "Manifest": manifest, "name": name.to_string(), "manifest": manifest,
        });
        let text = Template::parse(format).and_then(|template| template.render(&value));
        let text = text.map_err(|error| format!("`--format`: {error}"))?;
        return terminal::print(&format!("{text}\n"));
    }
    let mut text = format!(
        "Name:      {name}\nMediaType: {}\nDigest:    {}\n",
        descriptor.media_type, descriptor.digest
    );
    if media_type::is_index(&descriptor.media_type)
        && let Ok(index) = serde_json::from_slice::<Index>(&bytes)
    {
        text.push_str("\nManifests:\n");
        for manifest in &index.manifests {
            let one = name.with_digest(manifest.digest);
            text.push_str(&format!("  Name:      {one}\n  MediaType: {}\n", manifest.media_type));
            if let Some(platform) = &manifest.platform {
                text.push_str(&format!("  Platform:  {platform}\n"));
            }
            text.push('\n');
        }
    }
    terminal::print(&text)
}

/// `manifest inspect`.
///
/// # Errors
/// If the registry does not have it.
pub fn inspect_manifest(given: &Given, context: &Context) -> Result<(), Report> {
    let insecure = given.is_on("insecure", false);
    let Some(text) = given.operands.last().filter(|_| given.operands.len() <= 2) else {
        return Err(usage("it takes the name of an image, or a list and an image", None, 1));
    };
    let name = reference(text)?;
    if given.operands.len() == 1
        && let Ok(list) = List::read(&name, context)
    {
        let bytes = index_bytes(&list.members());
        return terminal::print(&(String::from_utf8_lossy(&bytes).into_owned() + "\n"));
    }
    let (_, bytes) = carry(context, insecure, async |porter| porter.look(&name).await)?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{name}: its manifest cannot be read: {error}"))?;
    terminal::print(&(serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"))
}

/// A list that was begun: it lies beside docker's configuration until it is pushed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    images: Vec<Listed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    source: String,
    descriptor: Descriptor,
}

impl List {
    fn file(name: &Reference, context: &Context) -> Result<PathBuf, Report> {
        let folder = context.settings.docker_config.clone().ok_or_else(|| {
            "there is no place for lists: HOME is not set; set DOCKER_CONFIG".to_owned()
        })?;
        let digest = oci::Digest::of(name.to_string());
        Ok(folder.join("kiln-manifests").join(format!("{}.json", digest.hex())))
    }

    fn read(name: &Reference, context: &Context) -> Result<Self, Report> {
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

    fn write(&self, name: &Reference, context: &Context) -> Result<(), Report> {
        let file = Self::file(name, context)?;
        let folder = file.parent().unwrap_or(&file);
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("making `{}`: {error}", folder.display()))?;
        Ok(write_file(&file, &serde_json::to_string(self).unwrap_or_default())?)
    }

    fn members(&self) -> Vec<Member> {
        let member = |listed: &Listed| {
            let source: Reference = listed.source.parse().ok()?;
            let repository = source.repository().clone();
            Some(Member { repository, descriptor: listed.descriptor.clone() })
        };
        self.images.iter().filter_map(member).collect()
    }
}

/// `manifest create`.
///
/// # Errors
/// If the list is there already, or an image is not.
pub fn create(given: &Given, context: &Context) -> Result<(), Report> {
    let insecure = given.is_on("insecure", false);
    let amends = given.is_on("amend", false);
    let [name, images @ ..] = given.operands.as_slice() else {
        return Err(usage("it takes the name of a list, and images", None, 1));
    };
    let name = reference(name)?;
    if images.is_empty() {
        return Err(usage("it takes the name of a list, and images", None, 1));
    }
    let mut list = match (List::read(&name, context), amends) {
        (Ok(list), true) => list,
        (Ok(_), false) => {
            let name = name.familiar();
            return Err(format!("the list `{name}` is there already: go on with it by `--amend`, or `docker manifest rm {name}`").into());
        }
        (Err(_), _) => List::default(),
    };
    let sources: Vec<Reference> =
        images.iter().map(|image| reference(image)).collect::<Result<_, _>>()?;
    let found = carry(context, insecure, async |porter| {
        let mut found = Vec::new();
        for source in &sources {
            for member in porter.members(source).await? {
                found.push(Listed { source: source.to_string(), descriptor: member.descriptor });
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
pub fn annotate(given: &Given, context: &Context) -> Result<(), Report> {
    let [name, image] = given.operands.as_slice() else {
        return Err(usage("it takes a list, and an image of it", None, 1));
    };
    let (name, image) = (reference(name)?, reference(image)?);
    let mut list = List::read(&name, context)?;
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
        let platform = text.join("/").parse().map_err(|error| format!("{error}"))?;
        listed.descriptor.platform = Some(platform);
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
pub fn push(given: &Given, context: &Context) -> Result<(), Report> {
    let insecure = given.is_on("insecure", false);
    let purges = given.is_on("purge", false);
    let name = reference(one(given, "one list")?)?;
    let members = List::read(&name, context)?.members();
    let index = carry(context, insecure, async |porter| {
        porter.publish(&members, std::slice::from_ref(&name)).await
    })?;
    if purges {
        drop(std::fs::remove_file(List::file(&name, context)?));
    }
    terminal::print(&format!("{}\n", index.digest))
}

/// `manifest rm`.
///
/// # Errors
/// If there is no such list.
pub fn forget(given: &Given, context: &Context) -> Result<(), Report> {
    if given.operands.is_empty() {
        return Err(usage("it takes the names of lists", None, 1));
    }
    for text in &given.operands {
        let name = reference(text)?;
        List::read(&name, context)?;
        let file = List::file(&name, context)?;
        std::fs::remove_file(&file)
            .map_err(|error| format!("removing `{}`: {error}", file.display()))?;
    }
    Ok(())
}
