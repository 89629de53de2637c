//! Builders of buildx: there is one, this process, whatever it is called.

use serde_json::json;

use super::{Context, engine, one};
use crate::personalities::flags::Given;
use crate::personalities::usage;
use crate::render::{Report, Template, table};
use crate::terminal;

/// The name of a builder that was given none.
const NAME: &str = "kiln";

/// `buildx create`: prints the builder's name, which scripts catch.
///
/// # Errors
/// If it cannot be printed.
pub fn create(given: &Given, _: &Context) -> Result<(), Report> {
    let name = given.last("name").unwrap_or(NAME);
    terminal::print(&format!("{name}\n"))
}

/// Commands that change builders: there is nothing to change.
///
/// # Errors
/// None.
pub fn nothing(_: &Given, _: &Context) -> Result<(), Report> {
    Ok(())
}

/// `buildx version`.
///
/// # Errors
/// If it cannot be printed.
pub fn version(_: &Given, _: &Context) -> Result<(), Report> {
    terminal::print(&engine::buildx_version())
}

fn name(context: &Context) -> String {
    context.environment.get("BUILDX_BUILDER").unwrap_or("default").to_owned()
}

/// `buildx ls`.
///
/// # Errors
/// If the template is wrong.
pub fn list(given: &Given, context: &Context) -> Result<(), Report> {
    let name = name(context);
    let platform = oci::Platform::host().to_string();
    match given.last("format") {
        None | Some("table") => {
            let rows = [[
                format!("{name}*"),
                "kiln".into(),
                "running".into(),
                engine::BUILDKIT.into(),
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
                "Buildkit": engine::BUILDKIT, "Platforms": platform, "Current": true,
            });
            let text = Template::parse(format).and_then(|template| template.render(&value));
            let text = text.map_err(|error| format!("`--format`: {error}"))?;
            terminal::print(&format!("{text}\n"))
        }
    }
}

/// `buildx inspect`.
///
/// # Errors
/// If there are several names.
pub fn inspect(given: &Given, context: &Context) -> Result<(), Report> {
    let name = match given.operands.is_empty() {
        true => name(context),
        false => one(given, "one builder")?.to_owned(),
    };
    if name.starts_with('-') {
        return Err(usage(format!("`{name}` is not the name of a builder"), None, 1));
    }
    let (buildkit, platform) = (engine::BUILDKIT, oci::Platform::host());
    terminal::print(&format!(
        "Name:   {name}\nDriver: kiln\n\nNodes:\nName:             {name}\n\
         Endpoint:         this process\nStatus:           running\n\
         BuildKit version: {buildkit}\nPlatforms:        {platform}\n"
    ))
}
