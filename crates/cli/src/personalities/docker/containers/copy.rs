//! `docker cp`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ::engine::{ContainerEngine as _, ContainerId, CopyIn, PathStat};

use super::local_archive::{Packing, Unpacking};
use super::{report, with_containers};
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::ParsedFlags;
use crate::personalities::usage;
use crate::render::Report;
use crate::serve::containers::LocalContainers;

/// A file type of `st_mode`, and those that matter here.
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// One end of a copy.
enum End {
    /// Standard input or output.
    Stream,
    /// A path of this machine.
    Local(PathBuf),
    /// A path of a container.
    Container { name: String, path: String },
}

impl End {
    /// Reads `CONTAINER:PATH`, `PATH` or `-`. A path with `/` or `.` at its front is one of this machine.
    fn read(text: &str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        match text.split_once(':') {
            Some((name, path)) if !name.is_empty() && !name.starts_with(['/', '.']) => {
                Self::Container { name: name.to_owned(), path: path.to_owned() }
            }
            _ => Self::Local(text.into()),
        }
    }
}

/// `docker cp`.
///
/// # Errors
/// If there is no such container or path, or the copy cannot be written.
pub(super) fn copy(given: &ParsedFlags, context: &CommandContext) -> Result<(), Report> {
    let [from, to] = given.operands.as_slice() else {
        return Err(usage("it takes two paths, one of them as CONTAINER:PATH", None, 1));
    };
    let ways = Ways {
        keeps_owners: given.is_on("archive", false),
        follows: given.is_on("follow-link", false),
    };
    match (End::read(from), End::read(to)) {
        (End::Container { .. }, End::Container { .. }) => {
            Err("copying between containers is not supported".to_owned().into())
        }
        (End::Container { name, path }, to) => with_containers(context, async |containers| {
            let id = containers.find(&name).await.map_err(report)?.id;
            out(&containers, &id, &path, to, &ways).await
        }),
        (from, End::Container { name, path }) => with_containers(context, async |containers| {
            let id = containers.find(&name).await.map_err(report)?.id;
            into(&containers, &id, from, &path, &ways).await
        }),
        _ => Err(usage("one of the two paths has to be CONTAINER:PATH", None, 1)),
    }
}

/// The ways in which files are copied.
struct Ways {
    keeps_owners: bool,
    follows: bool,
}

async fn out(
    containers: &LocalContainers,
    id: &ContainerId,
    path: &str,
    to: End,
    ways: &Ways,
) -> Result<(), Report> {
    let mut path = path.to_owned();
    let mut facts = containers.stat_path(id, &path).await.map_err(report)?;
    if ways.follows && is_kind(&facts, LINK) {
        path.clone_from(&facts.link_target);
        facts = containers.stat_path(id, &path).await.map_err(report)?;
    }
    let End::Local(target) = to else {
        return containers.pack(id, &path, Stdout).await.map_err(report);
    };
    let is_folder = is_kind(&facts, DIRECTORY);
    // The content of a folder has no name of its own, and neither has the root.
    let has_name = !(path.ends_with("/.") || path == "." || facts.name == "/");
    let top = destination(&target, is_folder, &facts.name, has_name)?;
    let unpacking = Unpacking { top, has_name, keeps_owners: ways.keeps_owners };
    let (reader, writer) = pipe()?;
    let unpacked = tokio::task::spawn_blocking(move || unpacking.unpack(reader));
    let packed = containers.pack(id, &path, writer).await;
    let unpacked = unpacked.await.map_err(|error| error.to_string())?;
    // The reader's end explains the writer's.
    unpacked.map_err(|error| Report::from(oci::chain_text(&error)))?;
    packed.map_err(report)
}

/// The path that stands for the top of an archive, by docker's rules for destinations.
fn destination(
    target: &Path,
    is_folder: bool,
    name: &str,
    has_name: bool,
) -> Result<PathBuf, Report> {
    let ends_with_slash = target.as_os_str().to_string_lossy().ends_with('/');
    match std::fs::metadata(target) {
        Ok(found) if found.is_dir() => {
            Ok(if has_name { target.join(name) } else { target.to_owned() })
        }
        Ok(_) if is_folder => Err("cannot copy directory".to_owned().into()),
        Ok(_) if ends_with_slash => {
            Err(format!("`{}` is not a directory", target.display()).into())
        }
        Ok(_) => Ok(target.to_owned()),
        Err(_) if ends_with_slash && !is_folder => {
            Err(format!("no such directory: `{}`", target.display()).into())
        }
        Err(_) => {
            let around = target.parent().filter(|around| !around.as_os_str().is_empty());
            let around = around.unwrap_or_else(|| Path::new("."));
            match around.is_dir() {
                true => Ok(target.to_owned()),
                false => Err(format!(
                    "invalid output path: directory `{}` does not exist",
                    around.display()
                )
                .into()),
            }
        }
    }
}

async fn into(
    containers: &LocalContainers,
    id: &ContainerId,
    from: End,
    path: &str,
    ways: &Ways,
) -> Result<(), Report> {
    let request = |path: String| CopyIn { path, no_overwrite: true, owner_is_user: false };
    let End::Local(source) = from else {
        return containers.unpack(id, request(path.to_owned()), io::stdin()).await.map_err(report);
    };
    let failed = |error: io::Error| Report::from(format!("`{}`: {error}", source.display()));
    let about = match ways.follows {
        true => std::fs::metadata(&source),
        false => std::fs::symlink_metadata(&source),
    };
    let is_folder = about.map_err(failed)?.is_dir();
    let text = source.to_string_lossy().into_owned();
    let is_content = text.ends_with("/.") || text == ".";
    let real = std::path::absolute(&source).map_err(failed)?;
    let own_name = real.file_name().map(|name| name.to_string_lossy().into_owned());
    let own_name = own_name.unwrap_or_default();
    let (folder, name) = match target(containers, id, path).await {
        Some(facts) if is_kind(&facts, DIRECTORY) => match is_content {
            true => (path.to_owned(), String::new()),
            false => (path.to_owned(), own_name),
        },
        Some(_) if is_folder => return Err("cannot copy a directory to a file".to_owned().into()),
        None if path.ends_with('/') && !is_folder => {
            return Err(format!("no such directory: {path}").into());
        }
        _ => {
            let (folder, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
            (format!("{folder}/"), name.to_owned())
        }
    };
    let packing = Packing { source, name, follows: ways.follows };
    let (reader, writer) = pipe()?;
    let packed = tokio::task::spawn_blocking(move || packing.pack(writer));
    let unpacked = containers.unpack(id, request(folder), reader).await;
    let packed = packed.await.map_err(|error| error.to_string())?;
    unpacked.map_err(report)?;
    packed.map_err(|error| Report::from(oci::chain_text(&error)))
}

/// The facts about the path that a copy goes to; a link counts as what it leads to.
async fn target(containers: &LocalContainers, id: &ContainerId, path: &str) -> Option<PathStat> {
    let facts = containers.stat_path(id, path).await.ok()?;
    match is_kind(&facts, LINK) {
        true => containers.stat_path(id, &facts.link_target).await.ok(),
        false => Some(facts),
    }
}

fn is_kind(facts: &PathStat, kind: u32) -> bool {
    facts.mode & KIND == kind
}

fn pipe() -> Result<(impl Read + Send + 'static, impl Write + Send + 'static), Report> {
    Ok(io::pipe().map_err(|error| format!("making a pipe: {error}"))?)
}

/// Standard output, for an archive.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_follow_dockers_rules() {
        let folder = tempfile::tempdir().unwrap();
        let (file, dir) = (folder.path().join("file"), folder.path().join("dir"));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&dir).unwrap();
        let new = folder.path().join("new");
        let slash = |path: &Path| PathBuf::from(format!("{}/", path.display()));
        for (target, is_folder, is_content, expected) in [
            (&dir, true, false, Some(dir.join("etc"))),
            (&dir, true, true, Some(dir.clone())),
            (&dir, false, false, Some(dir.join("etc"))),
            (&file, false, false, Some(file.clone())),
            (&file, true, false, None),
            (&new, true, false, Some(new.clone())),
            (&new, false, false, Some(new.clone())),
            (&slash(&new), false, false, None),
            (&slash(&file), false, false, None),
            (&folder.path().join("no/new"), false, false, None),
        ] {
            let found = destination(target, is_folder, "etc", !is_content).ok();
            assert_eq!(found, expected, "{} {is_folder} {is_content}", target.display());
        }
    }

    #[test]
    fn ends_are_told_apart() {
        assert!(matches!(End::read("-"), End::Stream));
        for text in ["./a:b", "/a:b", "a", "../a:b"] {
            assert!(matches!(End::read(text), End::Local(_)), "{text}");
        }
        assert!(
            matches!(End::read("web:/etc"), End::Container { name, path } if name == "web" && path == "/etc")
        );
    }
}
