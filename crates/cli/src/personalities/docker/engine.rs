//! The commands with which scripts query an engine: `info`, `version`, `system df`.

use build::images::{self, DiskKind};
use gotemplate::Template;
use serde_json::{Value, json};

use crate::facts::{self, VERSION, commit};
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::render::{Report, table};
use crate::{human, machine, terminal};

/// The version of buildx whose command line this is.
const BUILDX: &str = "v0.30.0";
/// The engine API of [`VERSION`].
const API: &str = "1.50";

/// `docker --version`.
pub fn version_line() -> String {
    format!("Docker version {VERSION}, build {}\n", commit())
}

/// `docker buildx version`.
pub fn buildx_version() -> String {
    let kiln = env!("CARGO_PKG_VERSION");
    format!("github.com/docker/buildx {BUILDX}+kiln-{kiln} {}\n", commit())
}

/// The answer to docker's command line, which asks each plugin for it, so that kiln can be its
/// `docker-buildx`.
pub fn plugin_metadata() -> String {
    let metadata = json!({
        "SchemaVersion": "0.1.0", "Vendor": "kiln", "Version": format!("{BUILDX}+kiln"),
        "ShortDescription": "Docker Buildx, spoken by kiln",
    });
    format!("{metadata}\n")
}

/// Prints a value by a template, or as text without one.
fn print(given: &ParsedFlags, value: &Value, text: impl FnOnce() -> String) -> Result<(), Report> {
    match given.last("format") {
        None => terminal::print(&text()),
        Some("json") => terminal::print(&format!("{value}\n")),
        Some(format) => {
            let text = Template::parse(format).and_then(|template| template.render(value));
            let text = text.map_err(|error| format!("`--format`: {error}"))?;
            terminal::print(&format!("{text}\n"))
        }
    }
}

/// `docker version`.
///
/// # Errors
/// If the template is wrong.
pub fn version(given: &ParsedFlags, _: &CommandContext) -> Result<(), Report> {
    let platform = oci::Platform::host();
    let (os, arch) = (&platform.os, &platform.architecture);
    let mut own = facts::version();
    for name in ["ApiVersion", "DefaultAPIVersion", "MinAPIVersion"] {
        own[name] = API.into();
    }
    own["Context"] = "default".into();
    let value = json!({ "Client": own, "Server": own });
    print(given, &value, || {
        format!(
            "Client: kiln {}\n Version:    {VERSION}\n Git commit: {}\n OS/Arch:    {os}/{arch}\n \
             Context:    default\n\nServer: none\n Builds run in this process.\n",
            env!("CARGO_PKG_VERSION"),
            commit()
        )
    })
}

/// `docker info`, which pipelines repeat until it succeeds: it always does.
///
/// # Errors
/// If the template is wrong.
pub fn info(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let settings = &context.settings;
    // A root that cannot be opened counts as empty; the build reports the error.
    let store = machine::open_store(settings, &machine::rise(settings));
    let count = store.ok().and_then(|store| images::count(&store).ok()).unwrap_or(0);
    let mut value = facts::info(settings, count);
    value["ClientInfo"] = json!({
        "Version": VERSION, "Context": "default", "Debug": false,
        "Plugins": [{ "Name": "buildx", "Version": BUILDX, "Vendor": "kiln" }],
    });
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (machine, host) = (text("Architecture"), text("Name"));
    let memory = value["MemTotal"].as_u64().unwrap_or(0);
    let processors = value["NCPU"].clone();
    print(given, &value, || {
        format!(
            "Client: kiln {}\n Version:    {VERSION}\n Context:    default\n Debug Mode: false\n \
             Plugins:\n  buildx: Docker Buildx, spoken by kiln\n    Version:  {BUILDX}\n\n\
             Server:\n Containers: 0\n Images: {count}\n Server Version: {VERSION}\n \
             Storage Driver: kiln\n Operating System: none needed\n OSType: linux\n \
             Architecture: {machine}\n CPUs: {processors}\n Total Memory: {}\n Name: {host}\n \
             Docker Root Dir: {}\n\nThere is no daemon: builds run in this process.\n",
            env!("CARGO_PKG_VERSION"),
            human::size(memory),
            settings.root.display()
        )
    })
}

/// `docker system df`.
///
/// # Errors
/// If the store cannot be read, or the template is wrong.
pub fn disk(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let settings = &context.settings;
    let store = machine::open_store(settings, &machine::rise(settings))?;
    let failed = |error: &dyn std::error::Error| Report::from(oci::chain_text(error));
    let kept = images::list(&store).map_err(|error| failed(&error))?;
    let entries = images::usage(&store).map_err(|error| failed(&error))?;
    let sizes = |is_image: bool| {
        let own = entries.iter().filter(|entry| {
            // An entry described by an image's name belongs to the image.
            (entry.kind != DiskKind::CacheMount && !entry.description.is_empty()) == is_image
        });
        own.fold((0, 0, 0), |(count, all, free), entry| {
            (count + 1, all + entry.size, free + if entry.reclaimable { entry.size } else { 0 })
        })
    };
    let (images, cache) = (sizes(true), sizes(false));
    let rows = [
        ("Images", kept.len(), images.1, images.2),
        ("Containers", 0, 0, 0),
        ("Local Volumes", 0, 0, 0),
        ("Build Cache", cache.0, cache.1, cache.2),
    ];
    let cells = rows.map(|(kind, count, size, free)| {
        [kind.into(), count.to_string(), "0".into(), human::size(size), human::size(free)]
    });
    match given.last("format") {
        None | Some("table") => {
            terminal::print(&table(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &cells))
        }
        Some(format) => {
            let format = if format == "json" { "{{json .}}" } else { format };
            let template =
                Template::parse(format).map_err(|error| format!("`--format`: {error}"))?;
            for [kind, count, active, size, free] in cells {
                let value = json!({
                    "Type": kind, "TotalCount": count, "Active": active, "Size": size,
                    "Reclaimable": free,
                });
                let text =
                    template.render(&value).map_err(|error| format!("`--format`: {error}"))?;
                terminal::print(&format!("{text}\n"))?;
            }
            Ok(())
        }
    }
}
