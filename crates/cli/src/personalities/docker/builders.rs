//! Builders of buildx. There is one, this process, under any name.

use gotemplate::Template;
use serde_json::{Value, json};

use super::engine;
use crate::args::InFlag as _;
use crate::commands::listing::RowFormat;
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::{one, usage};
use crate::render::{Report, table};
use crate::settings::{BuildkitdConfig, forget_buildkitd_config};
use crate::terminal;

/// The default name of a builder.
const NAME: &str = "kiln";

/// `buildx create`: prints the builder's name, which scripts capture, and keeps the registries of a
/// `buildkitd.toml` for later builds.
///
/// # Errors
/// If the file is wrong, or it cannot be kept or printed.
pub fn create(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    if let Some(file) = given.last("buildkitd-config") {
        let here = std::env::current_dir()
            .map_err(|error| format!("finding the working directory: {error}"))?;
        let config =
            BuildkitdConfig::read(&here.join(file), &here).in_flag("--buildkitd-config")?;
        config.keep(&context.environment).in_flag("--buildkitd-config")?;
        if let others @ [_, ..] = config.others().as_slice() {
            let others = others.join(", ");
            terminal::say(&format!(
                "`--buildkitd-config`: its registries count; {others}: for a daemon, of which there is none\n"
            ));
        }
    }
    let name = given.last("name").unwrap_or(NAME);
    terminal::print(&format!("{name}\n"))
}

/// Commands that change builders, which have no effect.
///
/// # Errors
/// None.
pub fn nothing(_: &ParsedFlags, _: &CommandContext) -> Result<(), Report> {
    Ok(())
}

/// `buildx rm`: removes the registries that `buildx create` kept.
///
/// # Errors
/// If they cannot be removed.
pub fn remove(_: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    Ok(forget_buildkitd_config(&context.environment)?)
}

/// The endpoint of the only context.
const ENDPOINT: &str = "this process";

/// `context ls`.
///
/// # Errors
/// If the template is wrong.
pub fn contexts(given: &ParsedFlags, _: &CommandContext) -> Result<(), Report> {
    let (quiet, format) = (given.is_on("quiet", false), RowFormat::read(given.last("format"))?);
    if quiet {
        return terminal::print("default\n");
    }
    let about = "builds run in this process";
    let row = json!({
        "Name": "default", "Description": about, "DockerEndpoint": ENDPOINT, "Current": true,
        "Error": "", "ContextType": "moby",
    });
    let text = match format.lines(&[row])? {
        Some(text) => text,
        None => table(
            ["NAME", "DESCRIPTION", "DOCKER ENDPOINT", "ERROR"],
            &[["default *".into(), about.into(), ENDPOINT.into(), String::new()]],
        ),
    };
    terminal::print(&text)
}

/// `context show`.
///
/// # Errors
/// If it cannot be printed.
pub fn context_name(_: &ParsedFlags, _: &CommandContext) -> Result<(), Report> {
    terminal::print("default\n")
}

/// `context inspect`.
///
/// # Errors
/// If the template is wrong.
pub fn inspect_context(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let names = match given.operands.as_slice() {
        [] => vec!["default".to_owned()],
        names => names.to_vec(),
    };
    let host = context.environment.get("DOCKER_HOST").unwrap_or_default();
    let values: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "Name": name, "Metadata": {},
                "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
                "TLSMaterial": {}, "Storage": { "MetadataPath": "", "TLSPath": "" },
            })
        })
        .collect();
    let text = match given.last("format") {
        None | Some("json") => serde_json::to_string_pretty(&values).unwrap_or_default() + "\n",
        Some(_) => RowFormat::read(given.last("format"))?.lines(&values)?.unwrap_or_default(),
    };
    terminal::print(&text)
}

/// `context create`, `use` and the like: print docker's output, which scripts capture.
///
/// # Errors
/// If there is no name.
pub fn name_context(given: &ParsedFlags, _: &CommandContext) -> Result<(), Report> {
    let Some(name) = given.operands.first() else {
        return Err(usage("it takes the name of a context", None, 1));
    };
    terminal::print(&format!("{name}\n"))
}

/// `buildx version`.
///
/// # Errors
/// If it cannot be printed.
pub fn version(_: &ParsedFlags, _: &CommandContext) -> Result<(), Report> {
    terminal::print(&engine::buildx_version())
}

fn name(context: &CommandContext) -> String {
    context.environment.get("BUILDX_BUILDER").unwrap_or("default").to_owned()
}

/// `buildx ls`.
///
/// # Errors
/// If the template is wrong.
pub fn list(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let name = name(context);
    let platform = oci::Platform::host().to_string();
    match given.last("format") {
        None | Some("table") => {
            let rows = [[
                format!("{name}*"),
                "kiln".into(),
                "running".into(),
                crate::facts::BUILDKIT.into(),
                platform,
            ]];
            terminal::print(&table(
                ["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "BUILDKIT", "PLATFORMS"],
                &rows,
            ))
        }
        Some(format) => {
            let format = if format == "json" { "{{json .}}" } else { format };
            let value = json!({
                "Name": name, "DriverEndpoint": "kiln", "Driver": "kiln", "Status": "running",
                "Buildkit": crate::facts::BUILDKIT, "Platforms": platform, "Current": true,
            });
            let text = Template::parse(format).and_then(|template| template.render(&value));
            let text = text.in_flag("--format")?;
            terminal::print(&format!("{text}\n"))
        }
    }
}

/// `buildx inspect`.
///
/// # Errors
/// If there are several names.
pub fn inspect(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let name = if given.operands.is_empty() {
        name(context)
    } else {
        one(given, "one builder")?.to_owned()
    };
    if name.starts_with('-') {
        return Err(usage(format!("`{name}` is not the name of a builder"), None, 1));
    }
    let (buildkit, platform) = (crate::facts::BUILDKIT, oci::Platform::host());
    terminal::print(&format!(
        "Name:   {name}\nDriver: kiln\n\nNodes:\nName:             {name}\n\
         Endpoint:         this process\nStatus:           running\n\
         BuildKit version: {buildkit}\nPlatforms:        {platform}\n"
    ))
}
