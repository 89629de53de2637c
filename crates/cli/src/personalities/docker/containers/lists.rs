//! `docker ps` and `docker inspect`.

use std::time::SystemTime;

use ::engine::{
    ApiError, ContainerDetails, ContainerEngine as _, ContainerStatus, Sizes, inspect_object,
    summary_object,
};
use serde_json::{Value, json};

use super::{report, with_containers};
use crate::args::FlagError;
use crate::commands::listing::RowFormat;
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::{own_command, usage};
use crate::render::{Report, table};
use crate::{human, terminal};

/// The letters of a command that a list shows.
const COMMAND_LETTERS: usize = 20;
/// The digits of an ID that a list shows.
const ID_DIGITS: usize = 12;

/// `docker ps`.
///
/// # Errors
/// If a filter or the format is wrong.
pub(super) fn list(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let format = RowFormat::read(given.last("format"))?;
    let filters =
        given.all("filter").into_iter().map(ListFilter::read).collect::<Result<Vec<_>, _>>()?;
    let last = match given.last("last") {
        Some(text) => {
            let last = text.parse::<usize>();
            Some(last.map_err(|_| FlagError::bad(format!("--last={text}"), "it is no number"))?)
        }
        None => None,
    };
    let last = last.or_else(|| given.is_on("latest", false).then_some(1));
    let is_for_all = given.is_on("all", false)
        || last.is_some()
        || filters.iter().any(|filter| matches!(filter, ListFilter::Status(_)));
    let is_whole = given.is_on("no-trunc", false);
    let is_quiet = given.is_on("quiet", false);
    let sizes = if given.is_on("size", false) { Sizes::Counted } else { Sizes::Left };
    with_containers(context, async |containers| {
        let mut found = containers.list(sizes).await.map_err(report)?;
        found.sort_by_key(|container| std::cmp::Reverse(container.created));
        found.retain(|container| {
            (is_for_all || container.state.status == ContainerStatus::Running)
                && filters.iter().all(|filter| filter.fits(container))
        });
        found.truncate(last.unwrap_or(usize::MAX));
        let rows: Vec<Value> = found.iter().map(|container| row(container, is_whole)).collect();
        let text = |name: &str| -> Vec<String> {
            rows.iter().map(|row| row[name].as_str().unwrap_or_default().to_owned()).collect()
        };
        if is_quiet {
            let ids: Vec<String> = text("ID").iter().map(|id| format!("{id}\n")).collect();
            return terminal::print(&ids.concat());
        }
        if let Some(lines) = format.lines(&rows)? {
            return terminal::print(&lines);
        }
        let cells: Vec<[String; 7]> = rows
            .iter()
            .map(|row| {
                ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
                    .map(|name| row[name].as_str().unwrap_or_default().to_owned())
            })
            .collect();
        let heads = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
        terminal::print(&table(heads, &cells))
    })
}

/// A container in docker's words for a row.
fn row(container: &ContainerDetails, is_whole: bool) -> Value {
    let now = SystemTime::now();
    let summary = summary_object(container, now);
    let text = |name: &str| summary[name].as_str().unwrap_or_default().to_owned();
    let cut = |text: String, most: usize| match is_whole || text.chars().count() <= most {
        true => text,
        false => text.chars().take(most - 1).chain(['…']).collect(),
    };
    let id = text("Id");
    let age = now.duration_since(container.created).unwrap_or_default();
    let labels: Vec<String> =
        container.spec.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let created = jiff::Timestamp::try_from(container.created).unwrap_or_default();
    let size = container
        .size
        .map(|size| format!("{} (virtual {})", human::size(size.changed), human::size(size.whole)));
    json!({
        "ID": if is_whole { id } else { id.chars().take(ID_DIGITS).collect() },
        "Image": text("Image"),
        "Command": format!("\"{}\"", cut(text("Command"), COMMAND_LETTERS)),
        "CreatedAt": created.to_string(),
        "RunningFor": format!("{} ago", human::duration(age)),
        "Status": text("Status"),
        "State": text("State"),
        "Ports": "",
        "Names": container.name,
        "Labels": labels.join(","),
        "LocalVolumes": "0",
        "Mounts": "",
        "Networks": "host",
        "Size": size.unwrap_or_default(),
    })
}

/// A filter of `docker ps`.
enum ListFilter {
    Name(String),
    Id(String),
    Label(String, Option<String>),
    Status(String),
    Ancestor(String),
}

impl ListFilter {
    fn read(text: &str) -> Result<Self, FlagError> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        Ok(match key {
            "name" => Self::Name(value),
            "id" => Self::Id(value),
            "status" => Self::Status(value),
            "ancestor" => Self::Ancestor(value),
            "label" => match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            },
            _ => {
                let reason = "it is none of name, id, label, status, ancestor";
                return Err(FlagError::bad(format!("--filter={text}"), reason));
            }
        })
    }

    fn fits(&self, container: &ContainerDetails) -> bool {
        match self {
            Self::Name(name) => container.name.contains(name.trim_start_matches('/')),
            Self::Id(id) => container.id.0.starts_with(id),
            Self::Status(status) => {
                summary_object(container, SystemTime::now())["State"] == status.as_str()
            }
            Self::Ancestor(image) => {
                let spec = &container.spec.image;
                spec == image || *spec == format!("{image}:latest") || container.image_id == *image
            }
            Self::Label(name, value) => container
                .spec
                .labels
                .get(name)
                .is_some_and(|own| value.as_ref().is_none_or(|value| own == value)),
        }
    }
}

/// `docker inspect` and `docker container inspect`.
///
/// # Errors
/// If there is no such object.
pub(super) fn inspect(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    if given.operands.is_empty() {
        return Err(usage("it takes the names of containers", None, 1));
    }
    let objects = found(given, context)?;
    let missing = objects.iter().position(Option::is_none);
    if let Some(place) = missing {
        return Err(format!("No such container: {}", given.operands[place]).into());
    }
    print(given, objects.into_iter().flatten().collect())
}

/// `docker inspect`: of containers, or, where there is none of a name, of images.
///
/// # Errors
/// If there is no such object.
pub fn inspect_any(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let kind = given.last("type");
    let objects = match kind {
        Some("image") => vec![None],
        _ => found(given, context)?,
    };
    if kind == Some("container") || objects.iter().all(Option::is_some) && !objects.is_empty() {
        return inspect(given, context);
    }
    let mut words = vec!["inspect".to_owned()];
    words.extend(given.last("format").map(|format| format!("--format={format}")));
    words.extend(given.operands.iter().cloned());
    let command = own_command(&words, 1)?;
    (context.dispatch)(&command, &context.environment, &context.settings)
}

/// The objects of the containers that were named; none where there is no such container.
fn found(given: &ParsedFlags, context: &CommandContext) -> Result<Vec<Option<Value>>, Report> {
    let sizes = if given.is_on("size", false) { Sizes::Counted } else { Sizes::Left };
    with_containers(context, async |containers| {
        let mut objects = Vec::new();
        for name in &given.operands {
            let found = match containers.find(name).await {
                Err(ApiError::NotFound(_)) => None,
                found => {
                    let id = found.map_err(report)?.id;
                    let details = containers.inspect(&id, sizes).await.map_err(report)?;
                    Some(inspect_object(&details))
                }
            };
            objects.push(found);
        }
        Ok(objects)
    })
}

fn print(given: &ParsedFlags, objects: Vec<Value>) -> Result<(), Report> {
    let text = match given.last("format") {
        None | Some("json") => {
            let mut text = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
            serde::Serialize::serialize(&objects, &mut writer)
                .map_err(|error| format!("writing JSON: {error}"))?;
            String::from_utf8_lossy(&text).into_owned() + "\n"
        }
        format => RowFormat::read(format)?.lines(&objects)?.unwrap_or_default(),
    };
    terminal::print(&text)
}
