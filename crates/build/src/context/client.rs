//! Texts in folders of clients: of each folder only these are brought, and the rest when a step
//! reads it. What a client sends can be a link: none leads out of its folder.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use execute::{BroughtFolder, ClientError, ClientFolder, FolderQuery};
use transfer::blocking;

use super::files::first_excludes;
use super::{DockerfileText, read, read_text};
use crate::Error;
use crate::request::{NamedContext, Request};
use crate::session::Build;

/// The Dockerfile's usual name: with it `dockerfile` will do.
const USUAL: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";

async fn bring(client: &ClientFolder, paths: Vec<String>) -> Result<BroughtFolder, Error> {
    let client = client.clone();
    let brought =
        blocking(move || client.0.bring(FolderQuery { excludes: &[], follow_paths: &paths }));
    brought.await.map_err(|error: ClientError| Error::Context(error.into()))
}

/// The real path of a file in a folder that was brought; none if there is no such file.
///
/// # Errors
/// If it leads out of the folder.
fn inside(brought: &BroughtFolder, name: &str) -> Result<Option<PathBuf>, Error> {
    let path = brought.path.join(name.trim_start_matches('/'));
    let failed = |source| Error::Read { path: name.into(), source };
    let root = brought.path.canonicalize().map_err(failed)?;
    match path.canonicalize() {
        Ok(real) if real.starts_with(&root) => Ok(Some(real)),
        Ok(_) => Err(Error::Request(format!("`{name}` leads out of the client's folder"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

/// The Dockerfile of a client, with the ignore file beside it.
pub(super) async fn dockerfile(
    build: &Build<'_>,
    client: &ClientFolder,
    name: &str,
) -> Result<DockerfileText, Error> {
    let lower = USUAL.to_lowercase();
    let names = if name == USUAL { vec![name, lower.as_str()] } else { vec![name] };
    let ignore = format!("{name}{IGNORE}");
    let paths = names.iter().copied().chain([ignore.as_str()]).map(str::to_owned).collect();
    let brought = bring(client, paths).await?;
    for found in names {
        if let Some(path) = inside(&brought, found)? {
            let mut read = read(build, path)?;
            // A link is called as it is asked for.
            read.file.name = found.rsplit('/').next().unwrap_or(found).into();
            read.brought = Some((brought, found.to_owned()));
            return Ok(read);
        }
    }
    let source = io::Error::new(io::ErrorKind::NotFound, "the client has no such file");
    Err(Error::NoDockerfile { path: name.into(), source })
}

/// The patterns of `NAME.dockerignore` beside the Dockerfile, else of the context's `.dockerignore`.
pub(super) async fn excludes(
    build: &Build<'_>,
    client: &ClientFolder,
    read: &DockerfileText,
) -> Result<Vec<String>, Error> {
    let beside = match &read.brought {
        Some((brought, name)) => inside(brought, &format!("{name}{IGNORE}"))?,
        None => None,
    };
    let context = match &beside {
        Some(_) => None,
        None => Some(ignore_file(client).await?),
    };
    let in_context = context.as_ref().map(|brought| inside(brought, IGNORE)).transpose()?;
    first_excludes(beside.into_iter().chain(in_context.flatten()), build.events)
}

async fn ignore_file(client: &ClientFolder) -> Result<BroughtFolder, Error> {
    bring(client, vec![IGNORE.into()]).await
}

/// Patterns of the ignore files of named contexts that clients have.
pub(super) async fn named_excludes(
    request: &Request,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut named = BTreeMap::new();
    for (name, context) in &request.named_contexts {
        let NamedContext::Client(client) = context else { continue };
        let brought = ignore_file(client).await?;
        if let Some(path) = inside(&brought, IGNORE)? {
            let text = read_text(&path).map_err(|source| Error::Read { path, source })?;
            named.insert(name.clone(), dockerfile::ignore_patterns(&text));
        }
    }
    Ok(named)
}
