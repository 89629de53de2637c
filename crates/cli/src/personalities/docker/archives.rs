//! `docker save` and `docker load`.

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write};
use std::path::Path;

use build::images::{self, ImageError, Kept, Porter, Saved};
use graph::Events;
use oci::Reference;
use store::Store;

use super::Context;
use crate::args::NameFilter;
use crate::personalities::flags::Given;
use crate::personalities::usage;
use crate::render::Report;
use crate::{commands, machine, terminal, threads};

/// `docker save`.
///
/// # Errors
/// If an image is not here, or the archive cannot be written.
pub fn save(given: &Given, context: &Context) -> Result<(), Report> {
    let output = given.last("output").map(Path::new);
    if given.operands.is_empty() {
        return Err(usage("it takes the names of images", None, 1));
    }
    if output.is_none() && std::io::stdout().is_terminal() {
        let message = "an archive is not written to a terminal: give `-o FILE`, or redirect it";
        return Err(message.to_owned().into());
    }
    let store = machine::open_store(&context.settings, &machine::rise(&context.settings))?;
    let mut wanted: Vec<Saved> = Vec::new();
    for text in &given.operands {
        for saved in find(&store, text)? {
            match wanted.iter_mut().find(|known| known.image.manifest == saved.image.manifest) {
                Some(known) => known.names.extend(saved.names),
                None => wanted.push(saved),
            }
        }
    }
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

/// The images that a text names: by a name or an ID, or all of a repository.
fn find(store: &Store, text: &str) -> Result<Vec<Saved>, Report> {
    if let Ok(filter) = text.parse::<NameFilter>()
        && !filter.has_tag()
    {
        let all: Vec<Kept> =
            images::list(store).map_err(|error| Report::from(oci::chain_text(&error)))?;
        let of_repository: Vec<Saved> = all
            .into_iter()
            .filter_map(|image| {
                let names: Vec<Reference> =
                    image.names.iter().filter(|name| filter.means(name)).cloned().collect();
                (!names.is_empty()).then_some(Saved { image, names })
            })
            .collect();
        if !of_repository.is_empty() {
            return Ok(of_repository);
        }
    }
    let found = images::look_up(store, text).map_err(|error| commands::report(&error))?;
    Ok(vec![Saved { image: found.image, names: found.name.into_iter().collect() }])
}

/// `docker load`.
///
/// # Errors
/// If there is no archive, or it is not an image's.
pub fn load(given: &Given, context: &Context) -> Result<(), Report> {
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
        let names = image.names.iter().map(|name| format!("Loaded image: {}\n", name.familiar()));
        let lines: String = match image.names.is_empty() {
            true => format!("Loaded image ID: {}\n", image.id),
            false => names.collect(),
        };
        let lines = match quiet && !image.names.is_empty() {
            true => image.names.iter().map(|name| format!("{}\n", name.familiar())).collect(),
            false => lines,
        };
        drop(out.write_all(lines.as_bytes()));
    }
    drop(out);
    terminal::print("")
}
