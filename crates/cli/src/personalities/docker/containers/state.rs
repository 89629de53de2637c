//! `docker rm`, `logs`, `wait`, `stop`, `kill` and `rename` for containers that do not run.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use bake::quantity::duration;

use ::engine::{
    ApiError, ContainerEngine as _, Filters, LogQuery, OutputStream, PruneFilters, RemoveContainer,
    SignalNumber, Sizes, StopRequest, WaitCondition,
};

use super::{report, with_containers};
use crate::args::FlagError;
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::{one, usage};
use crate::render::Report;
use crate::serve::containers::LocalContainers;
use crate::terminal;

/// Does something to each of the containers that were named, and prints their names.
fn each(
    given: &ParsedFlags,
    context: &CommandContext,
    work: impl AsyncFn(&LocalContainers, &str) -> Result<Option<String>, ApiError>,
) -> Result<(), Report> {
    if given.operands.is_empty() {
        return Err(usage("it takes the names of containers", None, 1));
    }
    let names = given.operands.clone();
    with_containers(context, async |containers| {
        let mut failed = Vec::new();
        for name in &names {
            match work(&containers, name).await {
                Ok(Some(line)) => terminal::print(&format!("{line}\n"))?,
                Ok(None) => {}
                Err(error) => failed.push(error.to_string()),
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(Report::from(failed.join("\n"))),
        }
    })
}

/// `docker rm`.
///
/// # Errors
/// If there is no such container, or it runs.
pub(super) fn remove(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let force = given.is_on("force", false);
    each(given, context, async |containers, name| match containers.find(name).await {
        Err(ApiError::NotFound(_)) if force => Ok(None),
        found => {
            containers.remove(&found?.id, RemoveContainer { force }).await?;
            Ok(Some(name.to_owned()))
        }
    })
}

/// `docker container prune`.
///
/// # Errors
/// If a filter is wrong, or a container cannot be removed.
pub(super) fn prune(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let filters = prune_filters(given)?;
    with_containers(context, async |containers| {
        let mut removed = String::new();
        for container in containers.list(Sizes::Left).await.map_err(report)? {
            if !filters.fit(&container) {
                continue;
            }
            containers
                .remove(&container.id, RemoveContainer { force: false })
                .await
                .map_err(report)?;
            removed.push_str(&format!("{}\n", container.id));
        }
        if removed.is_empty() {
            return Ok(());
        }
        terminal::print(&format!("Deleted Containers:\n{removed}"))
    })
}

fn prune_filters(given: &ParsedFlags) -> Result<PruneFilters, Report> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            FlagError::bad(format!("--filter={text}"), "it has the form `name=value`")
        })?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let pairs = given.all("filter").into_iter().map(pair).collect::<Result<_, FlagError>>()?;
    PruneFilters::read(&Filters(pairs), SystemTime::now()).map_err(report)
}

/// `docker wait`.
///
/// # Errors
/// If there is no such container, or it runs in another process.
pub(super) fn wait(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    each(given, context, async |containers, name| {
        let found = containers.find(name).await?;
        let ended = containers.wait(&found.id, WaitCondition::NotRunning).await?.await?;
        Ok(Some(ended.code.to_string()))
    })
}

/// `docker stop`.
///
/// # Errors
/// If there is no such container, or it runs in another process.
pub(super) fn stop(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    each(given, context, async |containers, name| {
        let found = containers.find(name).await?;
        containers.stop(&found.id, StopRequest::default()).await?;
        Ok(Some(name.to_owned()))
    })
}

/// `docker kill`.
///
/// # Errors
/// If there is no such container, or it does not run in this process.
pub(super) fn kill(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let signal = match given.last("signal") {
        Some(text) => SignalNumber::parse(text).map_err(report)?,
        None => SignalNumber::KILL,
    };
    each(given, context, async |containers, name| {
        let found = containers.find(name).await?;
        containers.kill(&found.id, signal).await?;
        Ok(Some(name.to_owned()))
    })
}

/// `docker rename`.
///
/// # Errors
/// If there is no such container, or the name is taken.
pub(super) fn rename(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let [old, new] = given.operands.as_slice() else {
        return Err(usage("it takes a container, and its new name", None, 1));
    };
    with_containers(context, async |containers| {
        let found = containers.find(old).await.map_err(report)?;
        containers.rename(&found.id, new).await.map_err(report)
    })
}

/// `docker logs`.
///
/// # Errors
/// If there is no such container, or one that runs in another process is to be followed.
pub(super) fn logs(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let name = one(given, "one container")?.to_owned();
    let tail = match given.last("tail") {
        None | Some("all") => None,
        Some(text) => {
            let tail = text.parse();
            Some(tail.map_err(|_| FlagError::bad(format!("--tail={text}"), "it is no number"))?)
        }
    };
    let query = LogQuery {
        follow: given.is_on("follow", false),
        stdout: true,
        stderr: true,
        since: moment(given, "since")?,
        until: moment(given, "until")?,
        tail,
    };
    let has_times = given.is_on("timestamps", false);
    with_containers(context, async |containers| {
        let found = containers.find(&name).await.map_err(report)?;
        let mut lines = containers.logs(&found.id, query).await.map_err(report)?;
        while let Some(line) = lines.recv().await {
            let mut text = Vec::new();
            if has_times {
                let time = jiff::Timestamp::try_from(line.time).unwrap_or_default();
                text.extend(format!("{time:.9} ").into_bytes());
            }
            text.extend_from_slice(&line.bytes);
            let written = match line.stream {
                OutputStream::Stdout => std::io::stdout().write_all(&text),
                OutputStream::Stderr => std::io::stderr().write_all(&text),
            };
            if written.is_err() {
                break;
            }
        }
        let _ = std::io::stdout().flush();
        Ok(())
    })
}

/// A time: in RFC 3339, in seconds since 1970, or so long ago.
fn moment(given: &ParsedFlags, name: &'static str) -> Result<Option<SystemTime>, FlagError> {
    let Some(text) = given.last(name) else { return Ok(None) };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(time.into()));
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    }
    let reason = "it is a time in RFC 3339, or a length as `10m`";
    let length = duration(text).map_err(|_| FlagError::bad(format!("--{name}={text}"), reason))?;
    Ok(SystemTime::now().checked_sub(length))
}
