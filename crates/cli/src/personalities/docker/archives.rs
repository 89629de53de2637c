//! `docker save` and `docker load`.

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write};
use std::path::Path;

use build::images::{self, ImageError, Porter};
use graph::Events;

use crate::commands::archives;
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::usage;
use crate::render::Report;
use crate::{commands, machine, terminal, threads};

/// `docker save`.
///
/// # Errors
/// If an image is not here, or the archive cannot be written.
pub fn save(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let output = given.last("output").map(Path::new);
    if given.operands.is_empty() {
        return Err(usage("it takes the names of images", None, 1));
    }
    if output.is_none() && std::io::stdout().is_terminal() {
        let message = "an archive is not written to a terminal: give `-o FILE`, or redirect it";
        return Err(message.to_owned().into());
    }
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let wanted = archives::wanted(&store, &given.operands);
    let wanted = wanted.map_err(|error| commands::report(&error))?;
    let client = machine::client(&context.settings, &context.environment)?;
    let porter = Porter { store: store.clone(), client, events: Events::none() };
    let result = match output {
        None => threads::finish(porter.save(wanted, std::io::stdout())),
        Some(path) => {
            // The archive is renamed when it is complete, so that the path never has a part of one.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let part = folder.unwrap_or(Path::new(".")).join(format!(
                ".{}.{}.tmp",
                path.file_name().unwrap_or_default().display(),
                std::process::id()
            ));
            let failed = |error: std::io::Error| format!("writing `{}`: {error}", path.display());
            let file = File::create(&part).map_err(failed)?;
            let result = threads::finish(porter.save(wanted, file));
            match &result {
                Ok(Some(Ok(()))) => std::fs::rename(&part, path).map_err(failed)?,
                _ => drop(std::fs::remove_file(&part)),
            }
            result
        }
    };
    store.end();
    result?.ok_or_else(threads::canceled)?.map_err(|error| commands::report(&error))
}

/// `docker load`.
///
/// # Errors
/// If there is no archive, or it is not an image's.
pub fn load(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let quiet = given.is_on("quiet", false);
    let input = given.last("input").filter(|input| *input != "-");
    if input.is_none() && std::io::stdin().is_terminal() {
        let message = "there is no archive: give `-i FILE`, or `docker load < FILE`";
        return Err(message.to_owned().into());
    }
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let reader: Box<dyn Read + Send> = match input {
        None => Box::new(std::io::stdin()),
        Some(path) => {
            Box::new(File::open(path).map_err(|error| format!("reading `{path}`: {error}"))?)
        }
    };
    let loaded = images::load(&store, reader).map_err(|error: ImageError| commands::report(&error));
    store.end();
    let mut out = std::io::stdout().lock();
    for image in loaded? {
        let lines = match quiet && !image.names.is_empty() {
            true => image.names.iter().map(|name| format!("{}\n", name.familiar())).collect(),
            false => archives::loaded(&image),
        };
        drop(out.write_all(lines.as_bytes()));
    }
    drop(out);
    terminal::print("")
}
